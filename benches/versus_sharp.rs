//! Our side of `versus_sharp.mjs`: converts when told to on standard input, answers with
//! milliseconds, bytes and milliseconds of processor time.
//!
//! `versus_sharp photo <path>` writes the picture; `versus_sharp serve <path>` reads lines
//! `[four ]<format> <options as JSON>`; `four` converts four copies at once.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a benchmark"
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use comfyui_api::config::MediaConfig;
use comfyui_api::media::{Conversion, Converted, Media, SourceFile};
use tokio_util::sync::CancellationToken;

#[path = "photo/mod.rs"]
mod photo;

/// Of this process, in milliseconds.
fn processor_ms() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| time.tv_sec() as f64 * 1000.0 + time.tv_usec() as f64 / 1000.0)
        .sum()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (Some(command), Some(path)) = (arguments.get(1), arguments.get(2).map(PathBuf::from))
    else {
        return;
    };
    if command == "photo" {
        photo::photo(1024, 1024).save(&path).unwrap();
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let media = Media::new(&MediaConfig {
        ffmpeg: PathBuf::from("ffmpeg"),
        ffmpeg_timeout: Duration::from_secs(60),
    });
    let source = [SourceFile {
        path: path.clone(),
        filename: "photo.png".to_owned(),
    }];
    let four: Vec<SourceFile> = (0..4)
        .map(|index| SourceFile {
            path: path.clone(),
            filename: format!("{index}.png"),
        })
        .collect();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (sources, line) = line
            .strip_prefix("four ")
            .map_or((&source[..], line.as_str()), |rest| (&four[..], rest));
        let (format, options) = line.split_once(' ').unwrap();
        let conversion =
            Conversion::parse(format, Some(&serde_json::from_str(options).unwrap())).unwrap();
        let (started, burnt) = (Instant::now(), processor_ms());
        let done = runtime.block_on(media.convert(&conversion, sources, &CancellationToken::new()));
        let took = started.elapsed().as_secs_f64() * 1000.0;
        let mut size = 0;
        for converted in done {
            let Converted::File { path, .. } = converted else {
                panic!("{converted:?}")
            };
            size = std::fs::metadata(&path).unwrap().len();
            std::fs::remove_file(path).unwrap();
        }
        println!("{took} {size} {}", processor_ms() - burnt);
    }
}
