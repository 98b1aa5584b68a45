//! The examples of docker/workflows/ load, validate and give graphs whose links all lead somewhere.

use std::path::Path;

use comfyui_api::workflow::Workflows;
use serde_json::{Value, json};

use super::{Stage, config, routes};

async fn examples() -> Workflows {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/workflows");
    let stage = Stage::new();
    stage.change(|context| {
        context
            .models
            .get_mut("checkpoints")
            .unwrap()
            .all
            .push("ltx-video-2b-v0.9.5.safetensors".into())
    });
    let workflows = Workflows::new(&config(&dir), stage);
    workflows.load().await;
    workflows
}

fn assert_is_graph(prompt: &Value) {
    let nodes = prompt.as_object().unwrap();
    for (id, node) in nodes {
        assert!(node["class_type"].is_string(), "{id}");
        for (name, input) in node["inputs"].as_object().unwrap() {
            if let Some(link) = input.as_array() {
                assert!(
                    nodes.contains_key(link[0].as_str().unwrap()),
                    "{id}.{name} leads to {link:?}"
                );
            }
        }
    }
    assert!(
        nodes
            .values()
            .any(|node| node["inputs"]["filename_prefix"].is_string())
    );
}

#[tokio::test]
async fn all_four_examples_work() {
    let workflows = examples().await;
    assert_eq!(
        routes(&workflows),
        [
            "/workflow/img2img",
            "/workflow/txt2img",
            "/workflow/txt2video",
            "/workflow/upscale"
        ]
    );
    let inputs = [
        ("txt2img", json!({"prompt": "a cat"})),
        (
            "img2img",
            json!({
                "prompt": "a dog",
                "image": "https://example.com/cat.png",
                "mask": "https://example.com/mask.png"
            }),
        ),
        ("txt2video", json!({"prompt": "a cat walks"})),
        (
            "upscale",
            json!({"image": "https://example.com/cat.png", "factor": 3}),
        ),
    ];
    for (path, input) in inputs {
        let generated = workflows.generate(path, input).await.unwrap();
        assert_is_graph(&generated.prompt);
    }
    let video = workflows
        .generate("txt2video", json!({"prompt": "x", "seconds": 2}))
        .await
        .unwrap()
        .prompt;
    assert_eq!(video["canvas"]["inputs"]["length"], 49);
    let failure = workflows
        .generate("txt2video", json!({"prompt": "x", "checkpoint": "none"}))
        .await
        .unwrap_err();
    assert!(
        failure
            .message
            .starts_with("Failed to generate workflow prompt: checkpoint none is not installed"),
        "{}",
        failure.message
    );
    let failure = workflows
        .generate("txt2img", json!({"prompt": "x", "width": 100}))
        .await
        .unwrap_err();
    assert_eq!(failure.location.as_deref(), Some("input.width"));
}
