//! What a model sees: previews of pictures and videos, progress of downloads, and failures of
//! tasks.

use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Value, json};

use super::{STATELESS, call, result, tool};
use crate::support::graphs;
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage, until};

fn preview(result: &Value) -> (Vec<u8>, String) {
    let blocks = result["content"].as_array().unwrap();
    let block = blocks.iter().find(|block| block["type"] == "image");
    let block = block.unwrap_or_else(|| panic!("no preview: {result}"));
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(block["data"].as_str().unwrap())
        .unwrap();
    (bytes, block["mimeType"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_preview_has_no_workflow_in_it_and_a_video_shows_its_first_frame() {
    let product = Product::start(&[]).await;
    let graph = graphs::coloured("marked", 0x0000_FF00);
    let seen = tool(&product, "run_graph", json!({"graph": graph})).await;
    let file = product
        .http
        .get(
            seen["structuredContent"]["outputs"][0]["url"]
                .as_str()
                .unwrap(),
        )
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let holds = |bytes: &[u8]| bytes.windows(10).any(|part| part == b"class_type");
    assert!(holds(&file), "the file itself has the workflow");
    assert!(!holds(&preview(&seen).0));

    let mut video = graphs::coloured("marked", 0x00FF_0000);
    video["1"]["inputs"]["batch_size"] = 8.into();
    video["9"] = json!({"class_type": "VHS_VideoCombine", "inputs": {
        "images": ["1", 0], "frame_rate": 8.0, "loop_count": 0, "filename_prefix": "v",
        "format": "video/h264-mp4", "pingpong": false, "save_output": true}});
    let seen = tool(&product, "run_graph", json!({"graph": video})).await;
    let job = &seen["structuredContent"];
    let outputs = job["outputs"].as_array().unwrap();
    let of_video = outputs
        .iter()
        .find(|output| output["content_type"] == "video/mp4");
    let of_video = of_video.unwrap_or_else(|| panic!("{job}"));
    assert!(of_video["duration"].as_f64().unwrap() > 0.0, "{of_video}");
    assert_eq!(of_video["width"], 32);
    let (bytes, kind) = preview(&seen);
    assert_eq!(kind, "image/jpeg");
    let frame = image::load_from_memory(&bytes).unwrap().to_rgb8();
    assert!(frame.get_pixel(5, 5).0[0] > 200, "the frame is red");
}

#[tokio::test]
async fn a_download_is_told() {
    let body = Arc::new(vec![7_u8; 4 << 20]);
    let origin = Origin::start(move |request, _| Reply {
        trickle: Some(16 * 1024),
        ..Reply::file(request, &body, "one")
    })
    .await;
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .start()
        .await;
    let mut graph = graphs::sampling(1);
    graph["4"]["inputs"]["ckpt_name"] = origin.url("/big.safetensors").into();
    let mut params = json!({"name": "run_graph", "arguments": {"graph": graph}});
    params["_meta"]["progressToken"] = json!("p");
    let (_, messages) = call(STATELESS, "tools/call", params).send(&product).await;
    let notes = messages
        .iter()
        .filter_map(|note| note["params"]["message"].as_str());
    let notes: Vec<&str> = notes.collect();
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("downloading big.safetensors ") && note.ends_with(" %")),
        "{notes:?}"
    );
}

#[tokio::test]
async fn a_task_that_fails_is_completed_with_its_failure() {
    let product = Product::start(&[]).await;
    let mut graph = graphs::slow(2.5, 25);
    graph["8"] = json!({"class_type": "SimFail", "inputs": {"message": "the fuse has blown"}});
    let params = json!({"name": "run_graph", "arguments": {"graph": graph}, "_meta": {
    "io.modelcontextprotocol/clientCapabilities": {
        "extensions": {"io.modelcontextprotocol/tasks": {}}
    }}});
    let task = result(&product, "tools/call", params).await;
    let done = match task["taskId"].as_str() {
        // It may fail before it becomes a task: then the order of its nodes was another.
        None => task,
        Some(id) => {
            until("the task is completed", async || {
                let task = result(&product, "tasks/get", json!({"taskId": id})).await;
                (task["status"] == "completed").then(|| task["result"].clone())
            })
            .await
        }
    };
    assert_eq!(done["isError"], true, "{done}");
    assert_eq!(
        done["structuredContent"]["error"]["code"],
        "execution_error"
    );
}
