//! Files: as resources, within the size that clients take, handed in, and over a restart.

use base64::Engine as _;
use serde_json::{Value, json};

use super::{STATELESS, call, refused, result, structured, texts, tool};
use crate::support::graphs;
use crate::support::product::Product;

#[tokio::test]
async fn outputs_are_resources() {
    let product = Product::start(&[]).await;
    let job = structured(
        &product,
        "run_graph",
        json!({"graph": graphs::picture("res")}),
    )
    .await;
    let output = &job["outputs"][0];
    let list = result(&product, "resources/list", json!({})).await;
    let resources = list["resources"].as_array().unwrap();
    assert_eq!(resources[0]["uri"], "comfyui://logs/comfyui");
    assert_eq!(
        (
            &resources[1]["uri"],
            &resources[1]["name"],
            &resources[1]["mimeType"],
            &resources[1]["size"]
        ),
        (
            &output["uri"],
            &output["filename"],
            &output["content_type"],
            &output["size"]
        )
    );
    let templates = result(&product, "resources/templates/list", json!({})).await;
    assert_eq!(
        templates["resourceTemplates"][0]["uriTemplate"],
        "comfyui://jobs/{id}/outputs/{index}"
    );
    let read = result(&product, "resources/read", json!({"uri": output["uri"]})).await;
    let blob = read["contents"][0]["blob"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(blob)
        .unwrap();
    assert_eq!(bytes.len() as u64, output["size"].as_u64().unwrap());
    assert!(bytes.starts_with(b"\x89PNG"));
    assert_eq!(read["cacheScope"], "private");
    let lives = read["ttlMs"].as_i64().unwrap();
    assert!((23 * 3_600_000..=24 * 3_600_000).contains(&lives));
    let log = result(
        &product,
        "resources/read",
        json!({"uri": "comfyui://logs/comfyui"}),
    )
    .await;
    assert!(
        log["contents"][0]["text"]
            .as_str()
            .unwrap()
            .contains("got prompt")
    );
    let id = job["id"].as_str().unwrap();
    for uri in [
        format!("comfyui://jobs/{id}/outputs/1"),
        format!("comfyui://jobs/{id}/outputs/x"),
        "comfyui://jobs/00000000-0000-4000-8000-000000000000/outputs/0".to_owned(),
    ] {
        let (status, messages) = call(STATELESS, "resources/read", json!({"uri": uri}))
            .send(&product)
            .await;
        assert_eq!(
            (status, &messages[0]["error"]["code"]),
            (200, &json!(-32602)),
            "{uri}"
        );
        assert!(
            messages[0]["error"]["message"]
                .as_str()
                .unwrap()
                .contains("expired")
        );
    }
}

#[tokio::test]
async fn what_is_too_large_names_its_address() {
    let product = Product::start(&[]).await;
    let blob = json!({
        "1": {"class_type": "SimBlob", "inputs": {"bytes": 33 << 20, "filename_prefix": "blob"}}
    });
    let job = structured(&product, "run_graph", json!({"graph": blob})).await;
    let read = call(
        STATELESS,
        "resources/read",
        json!({"uri": job["outputs"][0]["uri"]}),
    );
    let (_, messages) = read.send(&product).await;
    assert_eq!(messages[0]["error"]["code"], -32602);
    let said = messages[0]["error"]["message"].as_str().unwrap();
    let url = said
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .unwrap();
    let file = product
        .http
        .get(url)
        .header("range", "bytes=0-9")
        .send()
        .await
        .unwrap();
    assert_eq!(file.status(), 206);
}

#[tokio::test]
async fn a_result_stays_below_what_clients_take() {
    let product = Product::start(&[("MCP_PREVIEW_PX", "512")]).await;
    // Noise does not compress, so that previews are large.
    let many = json!({
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 16, "height": 16, "batch_size": 310, "color": 77}
        },
        "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "many"}},
    });
    let request = call(
        STATELESS,
        "tools/call",
        json!({"name": "run_graph", "arguments": {"graph": many, "wait_s": 100}}),
    );
    let (_, messages) = request.send(&product).await;
    let result = &messages[0]["result"];
    assert_eq!(result["structuredContent"]["status"], "succeeded");
    assert_eq!(
        result["structuredContent"]["outputs"]
            .as_array()
            .unwrap()
            .len(),
        300
    );
    let content = result["content"].as_array().unwrap();
    let count = |kind: &str| content.iter().filter(|block| block["type"] == kind).count();
    assert_eq!(count("resource_link"), 300);
    assert!(count("image") > 10, "{}", count("image"));
    assert!(
        result.to_string().len() < 900_000,
        "{}",
        result.to_string().len()
    );
    assert!(texts(result).contains("310"), "{}", content.last().unwrap());
    let id = result["structuredContent"]["id"].as_str().unwrap();
    let uri = format!("comfyui://jobs/{id}/outputs/309");
    let read = super::result(&product, "resources/read", json!({"uri": uri})).await;
    assert!(read["contents"][0]["blob"].is_string());
    let large = json!({
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 1600, "height": 800, "batch_size": 1, "color": 77}
        },
        "9": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "large"}
        },
    });
    let one = tool(&product, "run_graph", json!({"graph": large})).await;
    let data = one["content"][1]["data"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(data)
        .unwrap();
    let preview = image::load_from_memory(&bytes).unwrap();
    assert_eq!((preview.width(), preview.height()), (512, 256));
    assert_eq!(one["structuredContent"]["outputs"][0]["width"], 1600);
}

#[tokio::test]
async fn a_file_is_handed_in_without_a_key_and_once() {
    let product = Product::start(&[("API_KEYS", "sesame")]).await;
    let keyed = |name: &str, arguments: Value| {
        call(
            STATELESS,
            "tools/call",
            json!({"name": name, "arguments": arguments}),
        )
        .with("authorization", "Bearer sesame")
    };
    let (_, messages) = keyed(
        "create_upload",
        json!({"filename": "fox.png", "content_type": "image/png"}),
    )
    .send(&product)
    .await;
    let upload = messages[0]["result"]["structuredContent"].clone();
    assert_eq!(upload["method"], "PUT");
    assert!(upload["example"].as_str().unwrap().starts_with("curl "));
    assert!(upload["max_bytes"].as_u64().unwrap() > 1 << 20);
    let bytes = graphs::encoded([9, 8, 7], image::ImageFormat::Png);
    let put = || {
        product
            .http
            .put(upload["upload_url"].as_str().unwrap())
            .body(bytes.clone())
            .send()
    };
    assert!(put().await.unwrap().status().is_success());
    assert!(put().await.unwrap().status().is_client_error());
    let graph = graphs::loaded(upload["input"].as_str().unwrap());
    let (_, messages) = keyed("run_graph", json!({"graph": graph}))
        .send(&product)
        .await;
    let job = &messages[0]["result"]["structuredContent"];
    assert_eq!(job["status"], "succeeded", "{}", messages[0]);
    // The signed address needs no key either.
    let file = product
        .http
        .get(job["outputs"][0]["url"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(file.status(), 200);
    let gone = graphs::loaded("asset:00000000-0000-4000-8000-000000000000");
    let (_, messages) = keyed("run_graph", json!({"graph": gone}))
        .send(&product)
        .await;
    assert_eq!(messages[0]["result"]["isError"], true);
    assert_eq!(
        refused(&product, &keyed("create_upload", json!({}))).await,
        (200, 0)
    );
}

#[tokio::test]
async fn an_output_is_the_next_input() {
    // Not even the server itself may be reached: nothing is fetched.
    let product = Product::start(&[]).await;
    let first = structured(
        &product,
        "run_graph",
        json!({"graph": graphs::coloured("first", 0x00FF_0000)}),
    )
    .await;
    let output = &first["outputs"][0];
    for given in [&output["uri"], &output["url"]] {
        let graph = graphs::loaded(given.as_str().unwrap());
        for form in [graph.clone(), json!(graph.to_string())] {
            let job = structured(&product, "run_graph", json!({"graph": form})).await;
            assert_eq!(job["status"], "succeeded", "{given}: {job}");
            assert_eq!(job["outputs"][0]["width"], output["width"]);
        }
        let set = json!({"graph": graphs::loaded("x.png"), "set": {"1.inputs.image": given}});
        assert_eq!(
            structured(&product, "run_graph", set).await["status"],
            "succeeded"
        );
    }
    let gone = "comfyui://jobs/00000000-0000-4000-8000-000000000000/outputs/0";
    let refused = tool(
        &product,
        "run_graph",
        json!({"graph": graphs::loaded(gone)}),
    )
    .await;
    assert_eq!(refused["isError"], true);
    assert!(texts(&refused).contains(gone), "{refused}");
}

#[tokio::test]
async fn jobs_survive_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().display().to_string();
    let mut first = Product::start(&[("STATE_DIR", &dir)]).await;
    let done = structured(
        &first,
        "run_graph",
        json!({"graph": graphs::picture("kept")}),
    )
    .await;
    let open = structured(
        &first,
        "run_graph",
        json!({"graph": graphs::slow(30.0, 600), "wait_s": 0.5}),
    )
    .await;
    first.signal(nix::sys::signal::Signal::SIGKILL);
    first.ended().await;
    let second = Product::start(&[("STATE_DIR", &dir)]).await;
    let again = structured(&second, "get_job", json!({"id": done["id"]})).await;
    assert_eq!(
        (&again["status"], &again["outputs"][0]["filename"]),
        (&json!("succeeded"), &done["outputs"][0]["filename"])
    );
    let read = result(
        &second,
        "resources/read",
        json!({"uri": done["outputs"][0]["uri"]}),
    )
    .await;
    assert!(read["contents"][0]["blob"].is_string());
    let taken_up = structured(&second, "get_job", json!({"id": open["id"]})).await;
    assert!(
        ["pending", "running"].contains(&taken_up["status"].as_str().unwrap()),
        "{taken_up}"
    );
}

#[tokio::test]
async fn texts_and_sounds_have_their_size() {
    let product = Product::start(&[]).await;
    let said = |text: &str| json!({"3": {"class_type": "PreviewAny", "inputs": {"source": text}}});
    let short = tool(&product, "run_graph", json!({"graph": said("a red fox")})).await;
    assert_eq!(
        short["structuredContent"]["texts"],
        json!({"3": ["a red fox"]}),
        "{short}"
    );
    assert!(
        short["content"]
            .as_array()
            .unwrap()
            .iter()
            .any(|block| block["text"] == "a red fox")
    );
    let read = json!({"uri": short["structuredContent"]["outputs"][0]["uri"]});
    let read = result(&product, "resources/read", read).await;
    assert_eq!(read["contents"][0]["text"], "a red fox");
    let long = tool(
        &product,
        "run_graph",
        json!({"graph": said(&"fox ".repeat(80_000))}),
    )
    .await;
    assert!(long["structuredContent"]["texts"].is_null());
    assert_eq!(long["structuredContent"]["outputs"][0]["size"], 320_000);
    let texts: Vec<&str> = long["content"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|block| block["text"].as_str())
        .collect();
    assert!(
        texts
            .iter()
            .any(|text| text.starts_with("fox ") && text.len() == 64 * 1024)
    );
    assert!(
        texts.last().unwrap().contains("320000 bytes"),
        "{}",
        texts.last().unwrap()
    );

    let sound = |bytes: u64| {
        json!({
            "1": {
                "class_type": "SimBlob",
                "inputs": {"bytes": bytes, "filename_prefix": "s", "extension": "wav"}
            }
        })
    };
    let small = tool(&product, "run_graph", json!({"graph": sound(500 * 1024)})).await;
    assert_eq!(
        small["content"][1]["type"], "audio",
        "{}",
        small["structuredContent"]
    );
    assert!(small.to_string().len() < 900_000);
    let large = tool(&product, "run_graph", json!({"graph": sound(600 * 1024)})).await;
    assert_eq!(large["content"][1]["type"], "resource_link");
    assert!(super::texts(&large).contains("too large"));
}

#[tokio::test]
async fn the_files_of_the_last_jobs_are_listed() {
    let product = Product::start(&[]).await;
    let mut newest = Value::Null;
    for number in 0..52 {
        newest = structured(
            &product,
            "run_graph",
            json!({"graph": graphs::coloured("list", number)}),
        )
        .await;
    }
    let list = result(&product, "resources/list", json!({})).await;
    let resources = list["resources"].as_array().unwrap();
    assert_eq!(resources.len(), 51);
    assert_eq!(resources[1]["uri"], newest["outputs"][0]["uri"]);
}
