//! Assets: uploads, records over shared bytes, content and its signed address, models, outputs as
//! inputs.

use serde_json::{Value, json};

use super::{bytes, ended, form, id, submit, upload};
use crate::support::graphs::{png, slow};
use crate::support::product::{Product, Stage};

#[tokio::test]
async fn records_share_bytes_and_names_lead_where_they_should() {
    let product = Product::start(&[]).await;
    let picture = png([1, 2, 3]);
    let (status, first) = upload(&product, form(&picture, "in/put.png")).await;
    assert_eq!(status, 422, "another root: {first}");
    let (status, first) = upload(&product, form(&picture, "input/sub/x.png")).await;
    assert_eq!(
        (status, &first["created_new"], &first["job_id"]),
        (201, &json!(true), &Value::Null),
        "{first}"
    );
    assert_eq!(first["file_path"], "input/sub/x.png");
    let (status, same) = upload(&product, form(&picture, "input/sub/x.png")).await;
    assert_eq!(
        (status, &same["id"], &same["created_new"]),
        (200, &first["id"], &json!(false))
    );
    let hash = first["hash"].as_str().unwrap();
    let (status, other) = product
        .post(
            "/api/v2/assets/from-hash",
            &json!({"hash": hash, "file_path": "y.png"}),
        )
        .await;
    assert_eq!(status, 201);
    assert_ne!(other["id"], first["id"]);
    for (written, status) in [
        (hash.to_owned(), 200),
        (
            hash.replace(':', "%3A")
                .to_uppercase()
                .replace("BLAKE3%3A", "blake3%3A"),
            200,
        ),
        (format!("blake3:{}", "0".repeat(64)), 404),
    ] {
        let head = product
            .http
            .head(format!("{}/api/v2/assets/by-hash/{written}", product.url))
            .send()
            .await
            .unwrap();
        assert_eq!(head.status().as_u16(), status, "{written}");
    }
    let gone = product
        .http
        .delete(format!("{}/api/v2/assets/{}", product.url, id(&first)))
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(
        product
            .get(&format!("/api/v2/assets/{}", id(&first)))
            .await
            .0,
        404
    );
    assert_eq!(bytes(&product, &other).await, picture);
    for bad in ["/etc/x.png", "../x.png", "a\\b.png", "input/../x.png", ""] {
        assert_eq!(upload(&product, form(b"x", bad)).await.0, 422, "{bad}");
    }
    let wrong = form(b"x", "x.png").text("expected_hash", format!("blake3:{}", "0".repeat(64)));
    let (status, answer) = upload(&product, wrong).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("hash_mismatch"))
    );
    for soon in ["59", "604801", "x"] {
        assert_eq!(
            upload(&product, form(b"x", "x.png").text("expires_in", soon))
                .await
                .0,
            422
        );
    }
    let missing = reqwest::multipart::Form::new().text("file_path", "x.png");
    assert_eq!(upload(&product, missing).await.0, 422);
    assert_eq!(
        std::fs::read_dir(product.path(".local/state/comfyui-api/incoming"))
            .map_or(0, Iterator::count),
        0
    );
}

#[tokio::test]
async fn content_is_served_in_parts_and_safely() {
    let product = Product::start(&[]).await;
    let (_, asset) = upload(&product, form(b"0123456789", "ü \"x\".png")).await;
    let url = asset["url"].as_str().unwrap();
    let get = async |headers: &[(&str, &str)]| {
        let mut request = product.http.get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    };
    let whole = get(&[]).await;
    let etag = whole.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    assert_eq!(whole.headers()["x-content-type-options"], "nosniff");
    assert!(
        whole.headers()["content-disposition"]
            .to_str()
            .unwrap()
            .starts_with("inline; filename*=UTF-8''%C3%BC")
    );
    for (headers, status, text) in [
        (vec![("range", "bytes=2-4")], 206, "234"),
        (vec![("range", "bytes=-2")], 206, "89"),
        (vec![("range", "bytes=8-")], 206, "89"),
        (
            vec![("range", "bytes=0-1"), ("if-range", etag.as_str())],
            206,
            "01",
        ),
        (
            vec![("range", "bytes=0-1"), ("if-range", "\"other\"")],
            200,
            "0123456789",
        ),
        (vec![("if-none-match", etag.as_str())], 304, ""),
    ] {
        let response = get(&headers).await;
        assert_eq!(response.status().as_u16(), status, "{headers:?}");
        assert_eq!(response.text().await.unwrap(), text, "{headers:?}");
    }
    let outside = get(&[("range", "bytes=10-")]).await;
    assert_eq!(
        (
            outside.status().as_u16(),
            outside.headers()["content-range"].to_str().unwrap()
        ),
        (416, "bytes */10")
    );
    let page = form(b"<script>", "x.html");
    let page = reqwest::multipart::Form::text(page, "content_type", "text/html");
    let (_, page) = upload(&product, page).await;
    let served = product
        .http
        .get(page["url"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(served.headers()["content-type"], "application/octet-stream");
    assert!(
        served.headers()["content-disposition"]
            .to_str()
            .unwrap()
            .starts_with("attachment")
    );
}

#[tokio::test]
async fn a_signed_address_stands_in_for_the_key_of_one_asset_until_its_time_is_over() {
    let product = Stage::new()
        .envs(&[("API_KEYS", "sesame"), ("SIGNED_URL_EXPIRY_S", "2")])
        .start()
        .await;
    let sent = product
        .http
        .post(format!("{}/api/v2/assets", product.url))
        .bearer_auth("sesame")
        .multipart(form(b"secret", "x.txt"));
    let asset: Value = sent.send().await.unwrap().json().await.unwrap();
    let url = asset["url"].as_str().unwrap().to_owned();
    assert_eq!(bytes(&product, &asset).await, b"secret");
    let plain = url.split('?').next().unwrap();
    let status = async |url: &str| {
        product
            .http
            .get(url)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(status(plain).await, 401);
    assert_eq!(status(&url.replace("signature=", "signature=0")).await, 401);
    assert_eq!(status(&url.replace("expires=1", "expires=2")).await, 401);
    let other = url.replace(id(&asset), &uuid::Uuid::new_v4().to_string());
    assert_eq!(status(&other).await, 401);
    crate::support::product::until("the address is too old", async || {
        (status(&url).await == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_output_is_the_next_input_and_models_go_to_their_folders() {
    let product = Product::start(&[]).await;
    let first = submit(&product, &crate::support::graphs::picture("first")).await;
    let first = ended(&product, id(&first)).await;
    let output = &first["outputs"][0];
    let reference = json!({"__type": "core/ASSET", "info": {"id": output["id"]}});
    let by_hash = json!({
        "__type": "core/ASSET",
        "info": {"id": uuid::Uuid::new_v4(), "hash": output["hash"]}
    });
    let by_name = format!("asset:{}", output["id"].as_str().unwrap());
    for input in [reference, by_hash, json!(by_name)] {
        let graph = json!({"1": {"class_type": "LoadImage", "inputs": {"image": input}},
        "9": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "next"}
        }});
        let job = ended(&product, id(&submit(&product, &graph).await)).await;
        assert_eq!(job["status"], "succeeded", "{job}");
    }
    let model = b"\x02\0\0\0\0\0\0\0{}";
    let (status, asset) = upload(&product, form(model, "models/loras/sub/a.safetensors")).await;
    assert_eq!(
        (status, &asset["file_path"]),
        (201, &json!("sub/a.safetensors")),
        "{asset}"
    );
    assert!(product.path("models/loras/sub/a.safetensors").is_file());
    let (status, answer) = upload(
        &product,
        form(b"\x03\0\0\0\0\0\0\0{} ", "loras/sub/a.safetensors"),
    )
    .await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("conflict"))
    );
    for bad in [
        "models/loras/a.ckpt",
        "custom_nodes/x.safetensors",
        "models/nothing/x.safetensors",
        "models/x.safetensors",
    ] {
        assert_eq!(upload(&product, form(model, bad)).await.0, 422, "{bad}");
    }
    assert_eq!(
        upload(&product, form(b"not safetensors", "loras/b.safetensors"))
            .await
            .0,
        422
    );
    let deleted = product
        .http
        .delete(format!("{}/api/v2/assets/{}", product.url, id(&asset)))
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.status(), 204);
    assert!(
        product.path("models/loras/sub/a.safetensors").is_file(),
        "a model is the folder's"
    );
    // A file on this machine, without a copy.
    std::fs::write(product.path("input/here.png"), png([9, 9, 9])).unwrap();
    let here = product.path("input/here.png").display().to_string();
    let (status, asset) = product
        .post("/api/v2/assets/from-path", &json!({"path": here}))
        .await;
    assert_eq!(status, 201, "{asset}");
    assert_eq!(bytes(&product, &asset).await, png([9, 9, 9]));
    assert_eq!(
        product
            .post("/api/v2/assets/from-path", &json!({"path": "/etc/passwd"}))
            .await
            .0,
        422
    );
    product
        .http
        .delete(format!("{}/api/v2/assets/{}", product.url, id(&asset)))
        .send()
        .await
        .unwrap();
    assert!(product.path("input/here.png").is_file());
}

#[tokio::test]
async fn what_a_job_in_flight_needs_is_not_evicted_and_a_full_store_says_so() {
    let product = Stage::new().env("V2_STORE_MAX_GB", "0.002").start().await;
    let big = |n: u8| vec![n; 900_000];
    let (_, kept) = upload(&product, form(&big(1), "kept.bin")).await;
    let graph = slow(4.0, 40);
    let mut graph = graph;
    graph["5"]["inputs"]["note"] = json!({"__type": "core/ASSET", "info": {"id": kept["id"]}});
    let job = submit(&product, &graph).await;
    let mut last = 0;
    for n in 2..5 {
        last = upload(&product, form(&big(n), "more.bin")).await.0;
        if last == 507 {
            break;
        }
    }
    let (status, answer) = upload(&product, form(&vec![7; 1_500_000], "too.bin")).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (507, &json!("storage_full")),
        "{last} {answer}"
    );
    assert!(answer["error"]["details"]["needed"].is_u64());
    assert_eq!(bytes(&product, &kept).await, big(1));
    product
        .post(&format!("/api/v2/jobs/{}/cancel", id(&job)), &json!({}))
        .await;
}
