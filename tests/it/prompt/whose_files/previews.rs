//! Previews and texts, where they are all that a prompt makes.

use serde_json::json;

use super::{saved_by, until_clean};
use crate::support::graphs::{colour_of, picture, with};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage};
use crate::support::sse::Sse;

/// U1 and F21: what ComfyUI accepts runs, and previews go when they are delivered.
#[tokio::test]
async fn previews_and_texts_are_delivered_where_there_is_nothing_else() {
    let product = Product::start(&[("ALLOW_PRIVATE_NETWORKS", "true")]).await;
    let origin = Origin::start(|_, _| Reply::status(200)).await;
    let preview = saved_by(
        0x0011_2233,
        json!({"class_type": "PreviewImage", "inputs": {}}),
    );
    let video = saved_by(
        0x0011_2233,
        json!({"class_type": "VHS_VideoCombine", "inputs": {"frame_rate": 8, "loop_count": 0,
        "filename_prefix": "clip", "format": "image/webp", "pingpong": false,
        "save_output": false}}),
    );
    let text = json!({"1": {"class_type": "PreviewAny", "inputs": {"source": "only words"}}});
    for round in 0..2 {
        // The second time ComfyUI has it in its cache, and its file is gone.
        for id in ["same".to_owned(), format!("other{round}")] {
            let answer = product.run(&id, &preview).await;
            assert_eq!(colour_of(&answer["images"][0]), [0x11, 0x22, 0x33]);
            assert_eq!(
                (&answer["outputs"][0]["node_id"], &answer["warnings"]),
                (&json!("9"), &json!([]))
            );
        }
        let answer = product.run("video", &video).await;
        assert_eq!(answer["filenames"], json!(["video_clip_00001_.webp"]));
        let answer = product.run("text", &text).await;
        assert_eq!(
            (&answer["images"], &answer["filenames"], &answer["texts"]),
            (&json!([]), &json!([]), &json!({"1": ["only words"]}))
        );
    }
    let answer = product
        .run(
            "both",
            &with(preview.clone(), json!({"8": picture("kept")["9"]})),
        )
        .await;
    assert_eq!(answer["filenames"], json!(["both_kept_00001_.png"]));
    until_clean(&product).await;
    for (extra, images) in [
        (
            json!({"compress_outputs": "zip", "convert_output": {"format": "jpeg"}}),
            1,
        ),
        (json!({"http_upload": {"url_prefix": origin.url("/up")}}), 1),
    ] {
        let (status, answer) = product
            .prompt(&with(json!({"id": "p", "prompt": preview}), extra.clone()))
            .await;
        assert_eq!(
            (status, answer["images"].as_array().unwrap().len()),
            (200, images),
            "{answer}"
        );
        let (status, answer) = product
            .prompt(&with(json!({"id": "t", "prompt": text}), extra))
            .await;
        assert_eq!((status, &answer["images"]), (200, &json!([])), "{answer}");
    }
    let (status, _) = product
        .prompt(&json!({"id": "hooked", "prompt": text, "webhook_v2": origin.url("/hook")}))
        .await;
    assert_eq!(status, 202);
    origin.wait_for(2).await;
    let nothing = json!({"1": {"class_type": "SimReport", "inputs": {"filename_prefix": "x"}}});
    let (status, answer) = product.prompt(&json!({"prompt": nothing})).await;
    assert_eq!(
        (status, &answer["code"]),
        (500, &json!("execution_error")),
        "{answer}"
    );
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("there is no output to deliver")
    );
    until_clean(&product).await;
}

/// U1 at the other doors: workflow endpoints and the warmup prompt.
#[tokio::test]
async fn previews_and_texts_run_as_workflows_and_to_warm_up() {
    let workflow = "import { z } from \"zod\";\nexport default { RequestSchema: z.object({}), \
                    summary: 'A test', generateWorkflow: (input) => ({ draw: { class_type: \
                    'EmptyImage', inputs: { width: 8, height: 8, batch_size: 1, color: 1122867 } \
                    }, show: { class_type: 'PreviewImage', inputs: { images: ['draw', 0] } } }) \
                    };\n";
    let warmup = json!({"1": {"class_type": "PreviewAny", "inputs": {"source": "warm"}}});
    let stage = Stage::new()
        .file("workflows/preview.js", workflow)
        .file("warmup.json", warmup.to_string());
    let path = stage.path("warmup.json");
    let product = stage
        .env("WARMUP_PROMPT_FILE", path.display())
        .start()
        .await;
    product.log.line("\"warm\"").await;
    let (status, answer) = product
        .post("/workflow/preview", &json!({"input": {}}))
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(colour_of(&answer["images"][0]), [0x11, 0x22, 0x33]);
    until_clean(&product).await;
}

/// U1: streams.
#[tokio::test]
async fn a_text_alone_ends_a_stream_well() {
    let product = Product::start(&[]).await;
    let text = json!({"1": {"class_type": "PreviewAny", "inputs": {"source": "only words"}}});
    let request = product.http.post(format!("{}/prompt", product.url));
    let request = request
        .header("accept", "text/event-stream")
        .json(&json!({"prompt": text}));
    let mut stream = Sse::new(request.send().await.unwrap());
    let last = stream.rest().await.pop().unwrap();
    assert_eq!(
        (last.name.as_str(), &last.data["texts"]),
        ("complete", &json!({"1": ["only words"]}))
    );
}
