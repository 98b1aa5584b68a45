//! The examples of docker/workflows/, each run to its files.

use std::path::Path;

use base64::Engine as _;
use serde_json::json;

use super::{first_image, input};
use crate::support::product::Stage;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

#[tokio::test(flavor = "multi_thread")]
async fn all_four_examples_run() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/workflows");
    let product = Stage::new()
        .env("WORKFLOW_DIR", examples.display())
        .file("models/checkpoints/sd.safetensors", "weights")
        .file(
            "models/checkpoints/ltx-video-2b-v0.9.5.safetensors",
            "weights",
        )
        .file("models/text_encoders/t5xxl_fp16.safetensors", "weights")
        .start()
        .await;
    let (status, made) = product
        .post(
            "/workflow/txt2img",
            &input(&json!({
                "prompt": "a cat",
                "width": 128,
                "height": 64,
                "steps": 2,
                "checkpoint": "sd.safetensors"
            })),
        )
        .await;
    assert_eq!(status, 200, "{made}");
    assert_eq!(
        (
            &made["input"]["cfg"],
            &made["input"]["sampler"],
            &made["input"]["width"]
        ),
        (&json!(7), &json!("euler"), &json!(128)),
        "defaults are echoed"
    );
    assert!(
        made["input"]["seed"].is_u64()
            && made["prompt"]["sample"]["inputs"]["seed"] == made["input"]["seed"]
    );
    let png = first_image(&made);
    assert!(png.starts_with(PNG));

    let encoded = base64::engine::general_purpose::STANDARD.encode(&png);
    let (status, changed) = product
        .post(
            "/workflow/img2img",
            &input(&json!({
                "prompt": "a dog",
                "image": encoded,
                "mask": encoded,
                "steps": 2,
                "checkpoint": "sd.safetensors"
            })),
        )
        .await;
    assert_eq!(status, 200, "{changed}");
    assert!(first_image(&changed).starts_with(PNG));

    let (status, larger) = product
        .post(
            "/workflow/upscale",
            &input(&json!({"image": encoded, "factor": 3})),
        )
        .await;
    assert_eq!(status, 200, "{larger}");
    assert_eq!(
        (
            &larger["input"]["method"],
            &larger["prompt"]["scale"]["inputs"]["scale_by"]
        ),
        (&json!("lanczos"), &json!(3))
    );
    assert_eq!(
        first_image(&larger)[16..24],
        [0, 0, 1, 128, 0, 0, 0, 192],
        "384 by 192 pixels"
    );

    let video = json!({
        "input": {"prompt": "a cat walks", "seconds": 1, "width": 256, "height": 256, "steps": 4}
    });
    let (status, filmed) = product.post("/workflow/txt2video", &video).await;
    assert_eq!(status, 200, "{filmed}");
    assert_eq!(
        filmed["outputs"][0]["content_type"], "video/mp4",
        "{}",
        filmed["outputs"]
    );
    assert_eq!(&first_image(&filmed)[4..8], b"ftyp");
    let mut converted = video;
    converted["convert_output"] = json!({"format": "webm"});
    converted["input"]["seed"] = json!(5);
    let (status, filmed) = product.post("/workflow/txt2video", &converted).await;
    assert_eq!(status, 200, "{filmed}");
    assert_eq!(
        (&filmed["outputs"][0]["content_type"], &filmed["warnings"]),
        (&json!("video/webm"), &json!([])),
        "{}",
        filmed["outputs"]
    );
    assert_eq!(&first_image(&filmed)[..4], [0x1a, 0x45, 0xdf, 0xa3]);
    product.until_clean().await;
}
