//! `convert_output` and `compress_outputs`, from the request to the bytes.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use super::{file, picture, picture_and_animation, refused};
use crate::support::product::{Product, Stage, until};

/// A stage whose ffmpeg lists its encoders like the real one and otherwise runs `script`.
fn with_ffmpeg(script: &str) -> Stage {
    let text = format!(
        "#!/bin/sh\nfor word; do case $word in -encoders|-version) exec ffmpeg \"$@\";; esac; \
         done\n{script}\n"
    );
    let stage = Stage::new().file("ffmpeg.sh", text);
    let path = stage.path("ffmpeg.sh");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    stage.env("FFMPEG_PATH", path.display())
}

async fn converted(product: &Product, graph: Value, conversion: Value) -> Value {
    let (status, body) = product
        .prompt(&json!({"id": "c", "prompt": graph, "convert_output": conversion}))
        .await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["convert_output"], conversion);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind() {
    let product = Product::start(&[]).await;
    let jpeg = json!({
        "format": "jpeg",
        "options": {"quality": 40, "progressive": true, "chromaSubsampling": "4:4:4"}
    });
    let body = converted(&product, picture(1), jpeg).await;
    assert_eq!(
        (
            body["filenames"].clone(),
            body["outputs"][0]["content_type"].as_str()
        ),
        (json!(["c_pic_00001_.jpeg"]), Some("image/jpeg")),
        "{body}"
    );
    let bytes = file(&body, 0);
    // A progressive frame begins with SOF2.
    assert!(bytes.starts_with(b"\xFF\xD8") && bytes.windows(2).any(|two| two == b"\xFF\xC2"));

    let body = converted(
        &product,
        picture(1),
        json!({"format": "webp", "options": {"lossless": true, "effort": 2}}),
    )
    .await;
    assert_eq!(file(&body, 0).get(8..16), Some(&b"WEBPVP8L"[..]), "{body}");

    let body = converted(
        &product,
        picture(5),
        json!({"format": "mp4", "options": {"fps": 4}}),
    )
    .await;
    assert_eq!(
        (
            body["filenames"].clone(),
            body["outputs"][0]["content_type"].as_str()
        ),
        (json!(["c_pic_00001_.mp4"]), Some("video/mp4")),
        "{body}"
    );
    assert_eq!(file(&body, 0).get(4..8), Some(&b"ftyp"[..]));

    let sound = json!({
        "1": {"class_type": "SimTone", "inputs": {"duration": 0.5, "pitch": 440.0}},
        "2": {"class_type": "SimSaveWAV", "inputs": {"audio": ["1", 0], "filename_prefix": "tone"}},
    });
    let body = converted(&product, sound, json!({"format": "mp3"})).await;
    assert_eq!(
        (
            body["outputs"][0]["content_type"].as_str(),
            body["outputs"].as_array().map(Vec::len)
        ),
        (Some("audio/mpeg"), Some(1)),
        "{body}"
    );

    let mut animation = picture_and_animation();
    animation["1"]["inputs"]["batch_size"] = json!(4);
    animation.as_object_mut().unwrap().remove("2");
    let body = converted(&product, animation, json!({"format": "gif"})).await;
    assert!(file(&body, 0).starts_with(b"GIF89a"), "{body}");
    assert_eq!(body["warnings"], json!([]));

    let (status, body) = product
        .prompt(&json!({
            "id": "z",
            "prompt": picture(3),
            "convert_output": {"format": "jpg"},
            "compress_outputs": "tar.gz"
        }))
        .await;
    assert_eq!(
        (status, body["filenames"].clone()),
        (200, json!(["z_outputs.tar.gz"])),
        "{body}"
    );
    let bytes = file(&body, 0);
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(
        names,
        ["z_pic_00001_.jpg", "z_pic_00002_.jpg", "z_pic_00003_.jpg"]
    );
    product.until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_delivers_the_original_with_a_warning() {
    let product = with_ffmpeg("echo 'the disk fell off' >&2; exit 3")
        .start()
        .await;
    let body = converted(&product, picture(1), json!({"format": "mp4"})).await;
    assert_eq!(body["filenames"], json!(["c_pic_00001_.png"]));
    assert!(file(&body, 0).starts_with(b"\x89PNG"));
    let warnings = body["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let warning = warnings[0].as_str().unwrap();
    assert!(
        warning.contains("c_pic_00001_.png could not be converted to mp4")
            && warning.matches("could not be converted").count() == 1,
        "{warning}"
    );
    product.until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_ffmpeg_is_noticed_before_the_gpu_works() {
    let product = Product::start(&[("FFMPEG_PATH", "/nonexistent/ffmpeg")]).await;
    refused(
        &product,
        json!({"convert_output": {"format": "mp4"}}),
        "convert_output.format",
        &["ffmpeg", "FFMPEG_PATH"],
    )
    .await;
    refused(
        &product,
        json!({"convert_output": {"format": "jpeg", "options": {"quality": "high"}}}),
        "convert_output.options.quality",
        &["quality"],
    )
    .await;
    refused(
        &product,
        json!({"convert_output": {"format": "bmp"}}),
        "convert_output.format",
        &["bmp"],
    )
    .await;
    refused(
        &product,
        json!({"compress_outputs": "rar"}),
        "compress_outputs",
        &["tar.gz"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_kills_ffmpeg_and_leaves_nothing() {
    let stage = with_ffmpeg("echo $$ > \"$(dirname \"$0\")/pid\"; exec sleep 600");
    let pid_file = stage.path("pid");
    let product = stage.start().await;
    // The animation's node is quick to fail; the stills' ffmpeg hangs.
    let conversion = product.prompt_later(
        json!({"id": "c", "prompt": picture(3), "convert_output": {"format": "mp4"}}),
    );
    let pid = until("ffmpeg runs", async || {
        std::fs::read_to_string(&pid_file)
            .ok()
            .filter(|pid| pid.ends_with('\n'))
    })
    .await;
    product.until_prompt("c", "postprocessing").await;
    assert_eq!(product.post("/interrupt", &json!({"id": "c"})).await.0, 200);
    let (status, body) = tokio::time::timeout(Duration::from_secs(30), conversion)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (status, body["code"].as_str()),
        (409, Some("execution_interrupted")),
        "{body}"
    );
    until("ffmpeg is dead", async || {
        (!std::path::Path::new("/proc")
            .join(pid.trim())
            .join("exe")
            .exists())
        .then_some(())
    })
    .await;
    product.until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_removes_what_was_converted_already() {
    // The first node's conversion succeeds, the second's hangs: its ffmpeg is given a webp file.
    let script = "for last; do :; done; mkdir \"$(dirname \"$0\")/first\" 2>/dev/null && { cat \
                  >/dev/null; echo done > \"${last#file:}\"; exit 0; }\ntouch \"$(dirname \
                  \"$0\")/hangs\"; exec sleep 600";
    let stage = with_ffmpeg(script);
    let hangs = stage.path("hangs");
    let product = stage.start().await;
    let mut graph = picture(1);
    graph["3"] = json!({
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "other"}
    });
    let conversion = product
        .prompt_later(json!({"id": "c", "prompt": graph, "convert_output": {"format": "mp4"}}));
    until("the second ffmpeg runs", async || {
        hangs.exists().then_some(())
    })
    .await;
    let done = async || {
        let output = std::fs::read_dir(product.path("output")).unwrap();
        let folders = output
            .flatten()
            .filter_map(|entry| std::fs::read_dir(entry.path()).ok());
        folders
            .flatten()
            .flatten()
            .any(|entry| entry.metadata().is_ok_and(|file| file.len() == 5))
            .then_some(())
    };
    until("the first is done", done).await;
    assert_eq!(product.delete("/prompt/c").await.0, 200);
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(30), conversion)
            .await
            .unwrap()
            .unwrap()
            .0,
        409
    );
    product.until_clean().await;
}
