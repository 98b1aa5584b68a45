//! What workflow endpoints answer, and that they go the way of every prompt.

use futures_util::StreamExt as _;
use serde_json::json;

use super::*;
use crate::support::origin::{Origin, Reply};
use crate::support::receiver::Receiver;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_told_where_they_are_wrong() {
    let throws = script("z.object({})", "throw new Error('no such style');");
    let no_graph = script("z.object({})", "return { a: 5 } as any;");
    let unknown = script(
        "z.object({})",
        "return { a: { class_type: 'Nothing', inputs: { filename_prefix: 'x' } } };",
    );
    let broken = "import { z } from \"zod\";\nexport default { RequestSchema: z.object({}),\n  \
                  generateWorkflow: (a b) => a };\n";
    let files = [
        ("draw.ts", script(COLOR, PICTURE)),
        (
            "sub/deep.js",
            script("z.object({})", PICTURE).replace(": any", ""),
        ),
        ("throws.ts", throws),
        ("nograph.ts", no_graph),
        ("unknown.ts", unknown),
        ("broken.ts", broken.to_owned()),
    ];
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let product = stage(&files).start().await;

    let (status, body) = product.post("/workflow/none", &json!({"input": {}})).await;
    assert_eq!(
        (status, &body["code"]),
        (404, &json!("not_found")),
        "{body}"
    );
    let (status, body) = product
        .post("/workflow/draw", &input(&json!({"color": "red"})))
        .await;
    assert_eq!(
        (status, &body["location"], &body["error"]),
        (
            400,
            &json!("input.color"),
            &json!("Expected number, received string")
        ),
        "{body}"
    );
    let (status, body) = product
        .post("/workflow/draw", &input(&json!({"style": {"name": "c"}})))
        .await;
    assert_eq!(
        (status, &body["location"], &body["code"]),
        (400, &json!("input.style.name"), &json!("invalid_request")),
        "{body}"
    );
    let (status, body) = product.post("/workflow/draw", &json!({"input": 5})).await;
    assert_eq!(
        (status, &body["location"]),
        (400, &json!("input")),
        "{body}"
    );
    let (status, body) = product
        .post(
            "/workflow/draw",
            &json!({"input": {}, "convert_output": {"format": "bmp"}}),
        )
        .await;
    assert_eq!(
        (status, &body["location"]),
        (400, &json!("convert_output.format")),
        "{body}"
    );
    let (status, body) = product
        .post("/workflow/throws", &json!({"input": {}}))
        .await;
    assert_eq!(
        (status, &body["error"]),
        (
            400,
            &json!("Failed to generate workflow prompt: no such style")
        ),
        "{body}"
    );
    let (status, body) = product
        .post("/workflow/nograph", &json!({"input": {}}))
        .await;
    assert_eq!(status, 400, "{body}");
    assert!(
        body["error"]
            .as_str()
            .unwrap()
            .starts_with("Failed to generate workflow prompt: "),
        "{body}"
    );
    let (status, body) = product
        .post("/workflow/unknown", &json!({"input": {}}))
        .await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("invalid_prompt")),
        "{body}"
    );
    let (status, body) = product
        .post("/workflow/broken", &json!({"input": {}}))
        .await;
    assert_eq!(status, 404, "{body}");
    let log = product.log.line("the workflow file cannot be loaded").await;
    let line: Value = serde_json::from_str(&log).unwrap();
    assert!(
        line["file"].as_str().unwrap().ends_with("broken.ts")
            && line["line"] == 3
            && line["column"].is_u64()
            && line["level"].is_number() | line["level"].is_string(),
        "{line}"
    );

    // A body without input is one with an empty input; unknown keys are dropped; defaults are
    // shown.
    let (status, body) = product.post("/workflow/draw", &json!({"id": "mine"})).await;
    assert_eq!(
        (status, &body["input"], &body["filenames"]),
        (200, &json!({"color": 7}), &json!(["mine_w_00001_.png"])),
        "{body}"
    );
    let (status, body) = product
        .post("/workflow/draw", &json!({"input": {"color": 9, "more": 1}}))
        .await;
    assert_eq!(
        (
            status,
            &body["input"],
            &body["prompt"]["draw"]["inputs"]["color"]
        ),
        (200, &json!({"color": 9}), &json!(9)),
        "{body}"
    );
    let (status, body) = product
        .post("/workflow/sub/deep", &json!({"input": {}}))
        .await;
    // The file left its colour open, so ComfyUI misses one.
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("invalid_prompt")),
        "{body}"
    );
    product.until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn background_stream_credentials_and_uploads_work_as_for_prompts() {
    let load = script(
        "z.object({ image: z.string() })",
        "return { load: { class_type: 'LoadImage', inputs: { image: input.image } }, save: { \
         class_type: 'SaveImage', inputs: { filename_prefix: 'w', images: ['load', 0] } } };",
    );
    let product = stage(&[("draw.ts", &script(COLOR, PICTURE)), ("load.ts", &load)])
        .start()
        .await;
    let peer = Receiver::start().await;

    let (status, body) = product
        .post(
            "/workflow/draw",
            &json!({"id": "later", "input": {"color": 3}, "webhook_v2": peer.url("/hook")}),
        )
        .await;
    assert_eq!(
        (status, &body["status"], &body["id"], &body["input"]),
        (202, &json!("ok"), &json!("later"), &json!({"color": 3})),
        "{body}"
    );
    assert_eq!(body["prompt"]["save"]["class_type"], "SaveImage");
    let hook = peer.wait("/hook", 1).await[0].json();
    assert_eq!(
        (&hook["type"], &hook["id"], &hook["input"]),
        (
            &json!("prompt.complete"),
            &json!("later"),
            &json!({"color": 3})
        ),
        "{hook}"
    );

    let request = product
        .http
        .post(format!("{}/workflow/draw", product.url))
        .header("accept", "text/event-stream")
        .json(&json!({"input": {"color": 4}}));
    let response = request.send().await.unwrap();
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/event-stream")
    );
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    while let Some(chunk) = stream.next().await {
        text.push_str(&String::from_utf8_lossy(&chunk.unwrap()));
    }
    assert!(
        text.contains("event: message")
            && text.contains("execution_start")
            && text.contains("event: complete"),
        "{text}"
    );
    let complete = text
        .split("event: complete")
        .nth(1)
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix("data:"))
        .unwrap();
    let complete: Value = serde_json::from_str(complete.trim()).unwrap();
    assert_eq!(complete["input"], json!({"color": 4}));
    // What is wrong with the input is a plain answer, not a stream.
    let request = product
        .http
        .post(format!("{}/workflow/draw", product.url))
        .header("accept", "text/event-stream")
        .json(&json!({"input": {"color": -4}}));
    assert_eq!(request.send().await.unwrap().status(), 400);

    let (_, drawn) = product
        .post("/workflow/draw", &json!({"input": {"color": 5}}))
        .await;
    let png = first_image(&drawn);
    let origin = Origin::start(move |request, _| {
        if request.header("authorization") == Some("Bearer s3cr3t") {
            Reply::ok(png.clone()).with("Content-Type", "image/png")
        } else {
            Reply::status(401)
        }
    })
    .await;
    let url = origin.url("/picture.png");
    let (status, body) = product
        .post("/workflow/load", &json!({"input": {"image": url}}))
        .await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("download_failed")),
        "{body}"
    );
    let credentials = json!([{
        "url_pattern": format!("http://127.0.0.1:{}/*", origin.port),
        "auth": {"type": "bearer", "token": "s3cr3t"}
    }]);
    let upload = json!({"url_prefix": peer.url("/up")});
    let (status, body) = product
        .post(
            "/workflow/load",
            &json!({
                "id": "cred",
                "input": {"image": url},
                "credentials": credentials,
                "http_upload": upload
            }),
        )
        .await;
    assert_eq!(
        (status, &body["images"]),
        (200, &json!([peer.url("/up/cred_w_00001_.png")])),
        "{body}"
    );
    assert!(!body.to_string().contains("s3cr3t") && !product.log.text().contains("s3cr3t"));
    product.until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_workflow_binds_and_draws_its_own_seed() {
    let plain = json!({
        "summary": "Plain",
        "input": {
            "type": "object",
            "properties": {
                "width": {"type": "integer", "minimum": 16, "default": 64},
                "seed": {"type": "integer"},
                "color": {"type": "integer", "default": 1}
            }
        },
        "bind": {
            "width": ["a.inputs.width", "b.inputs.width"],
            "color": "a.inputs.color",
            "seed": "n.inputs.value"
        },
        "prompt": {
            "n": {"class_type": "PrimitiveInt", "inputs": {"value": 0}},
            "shown": {"class_type": "PreviewAny", "inputs": {"source": ["n", 0]}},
            "a": {
                "class_type": "EmptyImage",
                "inputs": {"width": 1, "height": 64, "batch_size": 1, "color": 0}
            },
            "b": {
                "class_type": "EmptyImage",
                "inputs": {"width": 1, "height": 64, "batch_size": 1, "color": 0}
            },
            "both": {
                "class_type": "ImageBatch",
                "inputs": {"image1": ["a", 0], "image2": ["b", 0]}
            },
            "save": {
                "class_type": "SaveImage",
                "inputs": {"filename_prefix": "w", "images": ["both", 0]}
            },
        },
    });
    let product = stage(&[("plain.json", &plain.to_string())]).start().await;
    let (status, one) = product
        .post("/workflow/plain", &json!({"input": {"width": 80}}))
        .await;
    assert_eq!(
        (
            status,
            &one["prompt"]["a"]["inputs"]["width"],
            &one["prompt"]["b"]["inputs"]["width"]
        ),
        (200, &json!(80), &json!(80)),
        "{one}"
    );
    assert_eq!(
        (
            &one["input"]["color"],
            one["images"].as_array().unwrap().len()
        ),
        (&json!(1), 2)
    );
    let (_, two) = product.post("/workflow/plain", &json!({"input": {}})).await;
    let seeds =
        [&one, &two].map(|answer| answer["prompt"]["n"]["inputs"]["value"].as_u64().unwrap());
    assert_ne!(seeds[0], seeds[1], "random when not given");
    assert_eq!(two["texts"]["shown"], json!([seeds[1].to_string()]));
    let (_, three) = product
        .post("/workflow/plain", &json!({"input": {"seed": 11}}))
        .await;
    assert_eq!(three["texts"]["shown"], json!(["11"]));
    let (status, wrong) = product
        .post("/workflow/plain", &json!({"input": {"width": 3}}))
        .await;
    assert_eq!(
        (status, &wrong["location"]),
        (400, &json!("input.width")),
        "{wrong}"
    );
}
