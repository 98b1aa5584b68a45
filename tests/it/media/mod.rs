//! Conversions and archives: their effects on pixels and bytes, judged by other programs (Pillow,
//! sharp, ffprobe, unzip, tar).

mod archives;
mod bounded;
mod images;
mod jpeg;
mod options;
mod video;
mod video_stopped;
mod webp;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use comfyui_api::config::MediaConfig;
use comfyui_api::media::{Conversion, Converted, Media, SourceFile};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

fn config() -> MediaConfig {
    MediaConfig {
        ffmpeg: PathBuf::from("ffmpeg"),
        ffmpeg_timeout: Duration::from_secs(120),
    }
}

/// Something between a photograph and noise, the same every time.
fn photo(width: u32, height: u32) -> RgbImage {
    let mut seed = 0x1234_5678_u32;
    RgbImage::from_fn(width, height, |x, y| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = f64::from(seed >> 24) / 16.0;
        let (x, y) = (f64::from(x), f64::from(y));
        let wave = |a: f64, b: f64| {
            (((x / a).sin() + (y / b).cos()) * 55.0 + 120.0 + noise).clamp(0.0, 255.0) as u8
        };
        Rgb([wave(31.0, 47.0), wave(53.0, 23.0), wave(17.0, 71.0)])
    })
}

fn source(path: &Path) -> SourceFile {
    SourceFile {
        path: path.to_owned(),
        filename: path.file_name().unwrap().to_str().unwrap().to_owned(),
    }
}

async fn convert_all(paths: &[PathBuf], format: &str, options: Value) -> Vec<Converted> {
    let conversion = Conversion::parse(format, Some(&options)).unwrap();
    let sources: Vec<SourceFile> = paths.iter().map(|path| source(path)).collect();
    let media = Media::new(&config());
    media.check(&conversion).await.unwrap();
    media
        .convert(&conversion, &sources, &CancellationToken::new())
        .await
}

/// Converts one file that must succeed.
async fn convert(path: &Path, format: &str, options: Value) -> PathBuf {
    match convert_all(&[path.to_owned()], format, options)
        .await
        .remove(0)
    {
        Converted::File { path, .. } => path,
        other => panic!("{other:?}"),
    }
}

async fn bytes(path: &Path, format: &str, options: Value) -> Vec<u8> {
    std::fs::read(convert(path, format, options).await).unwrap()
}

/// A photograph in a new directory.
fn photo_file(width: u32, height: u32) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ComfyUI_00001_.png");
    photo(width, height).save(&path).unwrap();
    (folder, path)
}

/// Runs Python with Pillow; the script prints JSON.
fn python(script: &str, arguments: &[&Path]) -> Value {
    let python = std::env::var("TEST_PYTHON")
        .unwrap_or_else(|_| "/opt/comfyui-api-test/venv/bin/python".to_owned());
    let output = Command::new(&python)
        .arg("-c")
        .arg(script)
        .args(arguments)
        .output();
    let output = output
        .unwrap_or_else(|e| panic!("{python} (TEST_PYTHON) with Pillow and numpy is needed: {e}"));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs Node with `sharp` in scope.
fn sharp(script: &str, arguments: &[&Path]) {
    let modules = std::env::var("TEST_NODE_MODULES")
        .unwrap_or_else(|_| "/opt/comfyui-api-test/node_modules".to_owned());
    let script = format!(
        "const sharp = require({:?}); const [a, b] = process.argv.slice(1); (async () => {{ \
         {script} }})()",
        format!("{modules}/sharp")
    );
    let output = Command::new("node")
        .arg("-e")
        .arg(script)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("node is needed: {e}"));
    assert!(
        output.status.success(),
        "sharp in {modules} (TEST_NODE_MODULES): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What ffprobe says about a file, with counted frames.
fn probe(path: &Path) -> Value {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-count_frames",
            "-show_streams",
            "-show_format",
            "-of",
            "json",
        ])
        .arg(path)
        .output()
        .unwrap_or_else(|e| panic!("ffprobe is needed: {e}"));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stream<'a>(probed: &'a Value, kind: &str) -> &'a Value {
    probed["streams"]
        .as_array()
        .unwrap()
        .iter()
        .find(|stream| stream["codec_type"] == kind)
        .unwrap_or(&Value::Null)
}

/// Runs ffmpeg to make an input.
fn ffmpeg(arguments: &[&str], path: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-y"])
        .args(arguments)
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

fn none() -> Value {
    json!({})
}
