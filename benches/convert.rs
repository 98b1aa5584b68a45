//! How long the conversions take that most clients ask for, file to file, on one thread:
//! a photo-like PNG of 1024x1024 into JPEG q80, JPEG with mozjpeg, and WEBP q80.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a benchmark"
)]

use std::path::PathBuf;
use std::time::Duration;

use comfyui_api::config::MediaConfig;
use comfyui_api::media::{Conversion, Converted, Media, SourceFile};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use tokio_util::sync::CancellationToken;

#[path = "photo/mod.rs"]
mod photo;

fn convert(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photo.png");
    photo::photo(1024, 1024).save(&path).unwrap();
    let media = Media::new(&MediaConfig {
        ffmpeg: PathBuf::from("ffmpeg"),
        ffmpeg_timeout: Duration::from_secs(60),
    });
    let source = [SourceFile {
        path,
        filename: "photo.png".to_owned(),
    }];
    let mut group = criterion.benchmark_group("png_1024");
    group.sample_size(20);
    for (name, format, options) in [
        ("jpeg_q80", "jpeg", json!({"quality": 80})),
        ("jpeg_mozjpeg", "jpeg", json!({"mozjpeg": true})),
        ("webp_q80", "webp", json!({"quality": 80})),
    ] {
        let conversion = Conversion::parse(format, Some(&options)).unwrap();
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(async || {
                let done = media
                    .convert(&conversion, &source, &CancellationToken::new())
                    .await
                    .remove(0);
                let Converted::File { path, .. } = done else {
                    panic!("{done:?}")
                };
                std::fs::remove_file(path).unwrap();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, convert);
criterion_main!(benches);
