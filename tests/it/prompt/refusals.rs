//! What a client is told when its graph cannot be run, or has failed: status, code, location,
//! sentence.

use serde_json::{Value, json};

use crate::support::graphs::{picture, slow, with};
use crate::support::product::Product;

fn check(
    what: &str,
    (status, answer): &(u16, Value),
    expected: (u16, &str),
    location: &str,
    parts: &[&str],
) {
    assert_eq!(
        (*status, answer["code"].as_str().unwrap_or_default()),
        expected,
        "{what}: {answer}"
    );
    if location.is_empty() {
        assert!(answer.get("location").is_none(), "{what}: {answer}");
    } else {
        assert_eq!(answer["location"], location, "{what}: {answer}");
    }
    for part in parts {
        assert!(
            answer["error"].as_str().unwrap().contains(part),
            "{what}: no {part:?} in {answer}"
        );
    }
}

#[tokio::test]
async fn graphs_that_cannot_be_run_are_the_clients_mistake() {
    let product = Product::start(&[]).await;
    let node = |class: &str, inputs: Value| json!({"7": {"class_type": class, "inputs": inputs}});
    let cases = [
        (
            "no graph",
            json!({}),
            (400, "invalid_request"),
            "prompt",
            vec!["prompt"],
        ),
        (
            "not an object",
            json!({"prompt": []}),
            (400, "invalid_request"),
            "prompt",
            vec![],
        ),
        (
            "UI format",
            json!({
                "prompt": {"nodes": [{"id": 4, "type": "Nowhere"}], "links": [], "version": 0.4}
            }),
            (400, "invalid_prompt"),
            "prompt.nodes.0",
            vec!["\"Nowhere\" (node 4"],
        ),
        (
            "empty",
            json!({"prompt": {}}),
            (400, "invalid_prompt"),
            "prompt",
            vec!["filename_prefix"],
        ),
        (
            "a null node",
            json!({"prompt": {"1": null}}),
            (400, "invalid_request"),
            "prompt.1",
            vec![],
        ),
        (
            "no class",
            json!({"prompt": {"1": {"inputs": {}}}}),
            (400, "invalid_request"),
            "prompt.1.class_type",
            vec![],
        ),
        (
            "no output",
            json!({"prompt": node("EmptyImage", json!({}))}),
            (400, "invalid_prompt"),
            "prompt",
            vec![
                r#"Prompt must contain a node with a "filename_prefix" input, such as "SaveImage""#,
            ],
        ),
        (
            "bad id",
            json!({"id": "a\nb", "prompt": picture("x")}),
            (400, "invalid_request"),
            "id",
            vec![],
        ),
        (
            "long id",
            json!({"id": "x".repeat(257), "prompt": picture("x")}),
            (400, "invalid_request"),
            "id",
            vec!["256"],
        ),
        (
            "unknown class",
            json!({"prompt": with(picture("x"), node("NoSuchNode", json!({})))}),
            (400, "invalid_prompt"),
            "prompt.7.class_type",
            vec!["Failed to queue prompt: ", "NoSuchNode"],
        ),
        (
            "missing input",
            json!({"prompt": node("SaveImage", json!({"filename_prefix": "x"}))}),
            (400, "invalid_prompt"),
            "prompt.7.inputs.images",
            vec![
                "Failed to queue prompt: node 7 (SaveImage)",
                "images",
                "required",
            ],
        ),
        (
            "missing model",
            json!({"prompt": {"4": {"class_type": "CheckpointLoaderSimple",
            "inputs": {"ckpt_name": "none.safetensors"}},
            "5": {"class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1}},
            "8": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["4", 2]}},
            "9": {"class_type": "SaveImage",
            "inputs": {"images": ["8", 0], "filename_prefix": "x"}}}}),
            (400, "invalid_prompt"),
            "prompt.4.inputs.ckpt_name",
            vec![
                "node 4 (CheckpointLoaderSimple)",
                "ckpt_name",
                "none.safetensors",
                "there.safetensors",
            ],
        ),
        (
            "bad media",
            json!({
                "prompt": with(picture("x"), node("LoadImage", json!({"image": "nowhere.png"})))
            }),
            (400, "invalid_request"),
            "prompt.7.inputs.image",
            vec!["base64", "URL"],
        ),
        (
            "bad url",
            json!({
                "prompt": with(
                    picture("x"),
                    node("LoadImage", json!({"image": "http://127.0.0.1:1/x.png"}))
                )
            }),
            (400, "invalid_request"),
            "prompt.7.inputs.image",
            vec![],
        ),
        (
            "two targets",
            json!({
                "prompt": picture("x"),
                "s3": {"bucket": "b"},
                "http_upload": {"url_prefix": "https://e.example/"}
            }),
            (400, "invalid_request"),
            "http_upload",
            vec![],
        ),
        (
            "null extra_data is nothing",
            json!({"prompt": picture("x"), "extra_data": 5}),
            (400, "invalid_request"),
            "extra_data",
            vec![],
        ),
    ];
    std::fs::create_dir_all(product.path("models/checkpoints")).unwrap();
    std::fs::write(product.path("models/checkpoints/there.safetensors"), "x").unwrap();
    for (what, body, expected, location, parts) in &cases {
        let answer = product.prompt(body).await;
        check(what, &answer, *expected, location, parts);
        if answer.1["error"]
            .as_str()
            .unwrap()
            .starts_with("Failed to queue")
        {
            assert!(
                answer.1["details"].is_object() && answer.1["node_errors"].is_object(),
                "{what}: {}",
                answer.1
            );
        }
    }
    let (status, answer) = product
        .prompt(&json!({"prompt": picture("x"), "extra_data": null, "id": null}))
        .await;
    assert_eq!(
        status, 200,
        "an explicit null is as good as nothing: {answer}"
    );
    product.until_clean().await;
}

#[tokio::test]
async fn a_node_that_raises_is_named_with_its_message() {
    let product = Product::start(&[]).await;
    let graph = with(
        picture("x"),
        json!({
            "7": {
                "class_type": "SimFail",
                "inputs": {
                    "message": "CUDA out of memory.\nTried to allocate",
                    "exception": "torch.OutOfMemoryError"
                }
            }
        }),
    );
    let answer = product.prompt(&json!({"id": "f", "prompt": graph})).await;
    check(
        "SimFail",
        &answer,
        (500, "execution_error"),
        "",
        &["node 7 (SimFail)", "CUDA out of memory. Tried to allocate"],
    );
    let details = answer.1["details"].as_object().unwrap();
    assert_eq!(
        details.keys().collect::<Vec<_>>(),
        [
            "node_id",
            "node_type",
            "exception_type",
            "exception_message",
            "traceback"
        ]
    );
    assert_eq!(
        (&details["node_id"], &details["exception_type"]),
        (&json!("7"), &json!("torch.OutOfMemoryError"))
    );
    let (_, entry) = product.get("/prompt/f").await;
    assert_eq!(
        (&entry["status"], &entry["error"]),
        (&json!("failed"), &answer.1["error"])
    );
    product.until_clean().await;
    // The next one is none the worse for it, and neither is one with the same id.
    product.run("f", &picture("x")).await;
}

#[tokio::test]
async fn an_id_in_flight_is_a_conflict() {
    let product = Product::start(&[]).await;
    let first = product.prompt_later(json!({"id": "one", "prompt": slow(6.0, 20)}));
    product.until_prompt("one", "running").await;
    let answer = product
        .prompt(&json!({"id": "one", "prompt": picture("x")}))
        .await;
    check("same id", &answer, (409, "conflict"), "id", &["one"]);
    assert_eq!(first.await.unwrap().0, 200);
    product.run("one", &picture("x")).await;
    product.until_clean().await;
}

#[tokio::test]
async fn a_blocked_node_is_a_warning() {
    let product = Product::start(&[]).await;
    let graph = with(
        picture("x"),
        json!({"7": {"class_type": "SimBlocked", "inputs": {"message": "no licence"}}}),
    );
    let answer = product.run("b", &graph).await;
    assert_eq!(answer["images"].as_array().unwrap().len(), 1, "{answer}");
    assert!(
        answer["warnings"][0]
            .as_str()
            .unwrap()
            .contains("no licence"),
        "{answer}"
    );
}

/// F11
#[tokio::test]
async fn broken_links_are_named_where_they_are() {
    let product = Product::start(&[]).await;
    let invert = |link: Value| json!({"class_type": "ImageInvert", "inputs": {"image": link}});
    let saved = |link: Value| {
        let mut graph = picture("l");
        graph["5"] = invert(link);
        graph["9"]["inputs"]["images"] = json!(["5", 0]);
        graph
    };
    for (link, sentence) in [
        (
            json!(["99", 0]),
            "is linked to node \"99\", which is not in the graph",
        ),
        (
            json!(["1", 5]),
            "is linked to output 5 of node 1 (EmptyImage), which has 1 output(s), counted from 0",
        ),
        (json!([1, 0]), "the id of a node must be a string"),
        (json!(["1", "0"]), "must be a whole number"),
        (json!(["1"]), "a link has two members"),
        (json!(["5", 0]), "5 -> 5"),
    ] {
        check(
            sentence,
            &product.prompt(&json!({"prompt": saved(link)})).await,
            (400, "invalid_prompt"),
            "prompt.5.inputs.image",
            &["node 5 (ImageInvert), input \"image\"", sentence],
        );
    }
    // One good output: it runs, and what was skipped is a warning in the same words.
    let mut both = saved(json!(["99", 0]));
    both["10"] = json!({
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "good"}
    });
    let answer = product.run("both", &both).await;
    let warnings = answer["warnings"].to_string();
    assert!(
        warnings.contains("node 5 (ImageInvert)") && warnings.contains("not in the graph"),
        "{answer}"
    );
    product.until_clean().await;
}
