//! `GET /downloads`, `DELETE /downloads/{id}`, `GET /models/{folder}`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::graphs::{loaded, png};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage, until};

/// Bytes of the model that comes slowly.
const SIZE: usize = 4_000_000;

async fn product() -> Product {
    Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .start()
        .await
}

async fn origin() -> Origin {
    let large = Arc::new(vec![7_u8; SIZE]);
    Origin::start(
        move |request, _| match request.target.split('?').next().unwrap_or_default() {
            "/missing.safetensors" => Reply::status(404),
            "/slow.safetensors" => Reply {
                // About 2 MB/s.
                trickle: Some(10_000),
                ..Reply::file(request, &large, "\"1\"")
            },
            "/stuck.png" => Reply {
                stall_after: Some(10),
                ..Reply::ok(png([1, 2, 3]))
            },
            "/picture.png" => Reply::ok(png([1, 2, 3])),
            _ => Reply::ok("weights"),
        },
    )
    .await
}

async fn download(product: &Product, body: Value) -> String {
    let (status, body) = product.post("/download", &body).await;
    assert!(matches!(status, 200 | 202), "{body}");
    body["id"].as_str().unwrap().to_owned()
}

async fn entry(product: &Product, id: &str) -> Value {
    let (status, list) = product.get("/downloads").await;
    assert_eq!(status, 200);
    let list = list.as_array().unwrap();
    list.iter()
        .find(|entry| entry["id"] == id)
        .cloned()
        .unwrap_or_else(|| panic!("{id} is not in {list:?}"))
}

async fn until_status(product: &Product, id: &str, status: &str) -> Value {
    until(&format!("{id} is {status}"), async || {
        let entry = entry(product, id).await;
        (entry["status"] == status).then_some(entry)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_can_be_followed_and_cancelled() {
    let (product, origin) = (product().await, origin().await);
    let url = origin.url("/slow.safetensors?token=marked");
    let wanted = json!({"url": url, "model_type": "loras", "filename": "sub/slow.safetensors"});
    let id = download(&product, wanted.clone()).await;
    let seen = until("it is under way", async || {
        let entry = entry(&product, &id).await;
        (entry["received"].as_u64()? > 0 && entry["bytes_per_second"].as_u64()? > 0)
            .then_some(entry)
    })
    .await;
    assert_eq!(
        (
            &seen["status"],
            &seen["total"],
            &seen["folder"],
            &seen["filename"]
        ),
        (
            &json!("running"),
            &json!(SIZE),
            &json!("loras"),
            &json!("sub/slow.safetensors")
        ),
        "{seen}"
    );
    assert!(seen.get("finished_at").is_none() && seen.get("prompt_id").is_none());
    assert!(seen["started_at"].as_u64().unwrap() > 1_600_000_000_000);
    assert!(!seen.to_string().contains("marked"), "{seen}");

    // Two want the same file; the end of one is not that of the other.
    let other = download(&product, json!({"url": url, "model_type": "vae"})).await;
    let (status, cancelled) = product.delete(&format!("/downloads/{id}")).await;
    assert_eq!(
        (status, &cancelled["status"], &cancelled["bytes_per_second"]),
        (200, &json!("cancelled"), &json!(0)),
        "{cancelled}"
    );
    assert!(cancelled["finished_at"].as_u64() >= cancelled["started_at"].as_u64());
    let (status, body) = product.delete(&format!("/downloads/{id}")).await;
    assert_eq!((status, &body["code"]), (409, &json!("conflict")), "{body}");
    let completed = until_status(&product, &other, "completed").await;
    assert_eq!(
        (&completed["received"], &completed["total"]),
        (&json!(SIZE), &json!(SIZE))
    );
    assert!(completed["bytes_per_second"].as_u64().unwrap() > 0);
    assert!(!product.path("models/loras/sub/slow.safetensors").exists());
    assert!(product.path("models/vae/slow.safetensors").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_one_out_stops_the_download_itself() {
    let (product, origin) = (product().await, origin().await);
    let url = origin.url("/slow.safetensors");
    let id = download(&product, json!({"url": url, "model_type": "loras"})).await;
    until("bytes come", async || {
        entry(&product, &id).await["received"]
            .as_u64()
            .filter(|received| *received > 0)
    })
    .await;
    assert_eq!(product.delete(&format!("/downloads/{id}")).await.0, 200);
    until("the origin is left", async || {
        (origin.open_now() == 0).then_some(())
    })
    .await;
    assert_eq!(entry(&product, &id).await["status"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_is_listed_newest_first() {
    let (product, origin) = (product().await, origin().await);
    let wanted = |path: &str, wait: bool| {
        json!({
            "url": origin.url(path),
            "model_type": "loras",
            "wait": wait
        })
    };
    let first = download(&product, wanted("/a.safetensors", true)).await;
    let cached = download(&product, wanted("/a.safetensors", true)).await;
    let failed = download(&product, wanted("/missing.safetensors", false)).await;
    let failed = until_status(&product, &failed, "failed").await;
    assert!(
        failed["error"].as_str().unwrap().contains("404"),
        "{failed}"
    );
    let (status, _) = product
        .post(
            "/models",
            &json!({"url": origin.url("/b.safetensors"), "type": "vae"}),
        )
        .await;
    assert_eq!(status, 200);
    let (_, list) = product.get("/downloads").await;
    let list = list.as_array().unwrap();
    let names: Vec<&str> = list
        .iter()
        .map(|entry| entry["filename"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "b.safetensors",
            "missing.safetensors",
            "a.safetensors",
            "a.safetensors"
        ]
    );
    assert_eq!(
        (&list[2]["id"], &list[3]["id"]),
        (&json!(cached), &json!(first))
    );
    assert_eq!(
        (&list[2]["status"], &list[2]["bytes_per_second"]),
        (&json!("completed"), &json!(0)),
        "nothing came: it was there"
    );
    for n in 0..105 {
        let wanted = json!({
            "url": origin.url("/a.safetensors"),
            "model_type": "loras",
            "filename": format!("c{n}.safetensors"),
            "wait": true
        });
        download(&product, wanted).await;
    }
    let (_, list) = product.get("/downloads").await;
    assert_eq!(list.as_array().unwrap().len(), 100);
    assert_eq!(list[0]["filename"], "c104.safetensors");
    let (status, body) = product.delete(&format!("/downloads/{first}")).await;
    assert_eq!(
        (status, &body["code"]),
        (404, &json!("not_found")),
        "{body}"
    );
    assert_eq!(product.post("/downloads", &json!({})).await.0, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_prompt_fetches_is_listed_with_its_id() {
    let (product, origin) = (product().await, origin().await);
    let picture = origin.url("/picture.png?sig=marked");
    product.run("one", &loaded(&picture)).await;
    product.run("two", &loaded(&picture)).await;
    let (_, list) = product.get("/downloads").await;
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 1, "the second found it in the cache: {list:?}");
    let entry = &list[0];
    assert_eq!(
        (
            &entry["prompt_id"],
            &entry["folder"],
            &entry["filename"],
            &entry["status"]
        ),
        (
            &json!("one"),
            &json!("input"),
            &json!("picture.png"),
            &json!("completed")
        )
    );
    assert_eq!(entry["url"], origin.url("/picture.png"));

    let stuck =
        product.prompt_later(json!({"id": "three", "prompt": loaded(&origin.url("/stuck.png"))}));
    let id = until("it is listed", async || {
        let (_, list) = product.get("/downloads").await;
        let running = list
            .as_array()?
            .iter()
            .find(|entry| entry["status"] == "running")?;
        running["id"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(product.delete(&format!("/downloads/{id}")).await.0, 200);
    let (status, body) = stuck.await.unwrap();
    assert_eq!(
        (status, &body["code"], &body["location"]),
        (
            400,
            &json!("download_failed"),
            &json!("prompt.1.inputs.image")
        ),
        "{body}"
    );
    assert!(
        body["error"].as_str().unwrap().contains("cancelled"),
        "{body}"
    );

    // The end of a prompt is that of its downloads.
    let later =
        product.prompt_later(json!({"id": "four", "prompt": loaded(&origin.url("/stuck.png?2"))}));
    until("it is listed", async || {
        let (_, list) = product.get("/downloads").await;
        (list[0]["status"] == "running").then_some(())
    })
    .await;
    assert_eq!(product.delete("/prompt/four").await.0, 200);
    assert_eq!(later.await.unwrap().0, 409);
    let (_, list) = product.get("/downloads").await;
    assert_eq!(
        (&list[0]["status"], &list[0]["prompt_id"]),
        (&json!("cancelled"), &json!("four"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_listed_with_sizes_and_dates() {
    let (product, origin) = (product().await, origin().await);
    std::fs::create_dir_all(product.path("models/loras/sub")).unwrap();
    std::fs::write(product.path("models/loras/sub/own.safetensors"), [0; 1234]).unwrap();
    download(
        &product,
        json!({"url": origin.url("/a.safetensors"), "model_type": "loras", "wait": true}),
    )
    .await;
    let (status, list) = product.get("/models/loras").await;
    assert_eq!(status, 200, "{list}");
    let file = |name: &str| {
        let found = list
            .as_array()
            .unwrap()
            .iter()
            .find(|file| file["name"] == name);
        found
            .cloned()
            .unwrap_or_else(|| panic!("no {name} in {list}"))
    };
    let (own, cached) = (file("sub/own.safetensors"), file("a.safetensors"));
    assert_eq!(
        (&own["size"], &own["cached"]),
        (&json!(1234), &json!(false))
    );
    assert_eq!(
        (&cached["size"], &cached["cached"]),
        (&json!(7), &json!(true))
    );
    for file in [own, cached] {
        let age = now_ms().abs_diff(file["modified_at"].as_u64().unwrap());
        assert!(age < Duration::from_secs(600).as_millis() as u64, "{file}");
    }
    for folder in ["nonsense", "custom_nodes", "..%2Fetc"] {
        let (status, body) = product.get(&format!("/models/{folder}")).await;
        assert_eq!(
            (status, &body["code"]),
            (404, &json!("not_found")),
            "{body}"
        );
    }
    // The old name of a folder, as in `POST /download`.
    assert_eq!(product.get("/models/clip").await.0, 200);
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.unwrap().as_millis()).unwrap()
}
