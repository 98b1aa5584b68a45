//! Video and sound by ffmpeg, judged by ffprobe; time limit, cancel and failure.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use comfyui_api::media::Converted;
use image::{Rgb, RgbImage};
use serde_json::json;

use super::{convert, convert_all, ffmpeg, none, photo_file, probe, python, stream};

/// An executable shell script.
pub(super) fn script(path: &Path, body: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A clip of one second with sound, 10 frames, 128x96.
fn clip(folder: &Path) -> PathBuf {
    let path = folder.join("clip.mp4");
    let inputs = [
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=128x96:rate=10:duration=1",
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440:duration=1",
    ];
    ffmpeg(
        &[
            &inputs[..],
            &[
                "-c:v",
                "libx264",
                "-pix_fmt",
                "yuv420p",
                "-c:a",
                "aac",
                "-shortest",
            ],
        ]
        .concat(),
        &path,
    );
    path
}

#[tokio::test]
async fn a_single_image_becomes_one_frame() {
    let (_folder, path) = photo_file(33, 21);
    for (format, codec) in [("mp4", "h264"), ("webm", "vp9"), ("gif", "gif")] {
        let probed = probe(&convert(&path, format, none()).await);
        let video = stream(&probed, "video");
        assert_eq!(
            (
                video["codec_name"].as_str(),
                video["nb_read_frames"].as_str()
            ),
            (Some(codec), Some("1")),
            "{format}"
        );
        let size = if format == "gif" { (33, 21) } else { (34, 22) };
        assert_eq!(
            (video["width"].as_u64(), video["height"].as_u64()),
            (Some(size.0), Some(size.1)),
            "{format}: odd sides grow"
        );
        if format != "gif" {
            assert_eq!(video["pix_fmt"], "yuv420p");
        }
    }
}

#[tokio::test]
async fn images_of_a_node_become_one_video_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let colours = [
        [250, 0, 0],
        [0, 250, 0],
        [0, 0, 250],
        [250, 250, 250],
        [250, 250, 0],
    ];
    let mut paths: Vec<PathBuf> = Vec::new();
    for (index, colour) in colours.iter().enumerate() {
        let path = folder.path().join(format!("f{}.png", 9 - index));
        // The fourth is of another size.
        let side = if index == 3 { 48 } else { 64 };
        RgbImage::from_pixel(side, side, Rgb(*colour))
            .save(&path)
            .unwrap();
        paths.push(path);
    }
    let text = folder.path().join("x.txt");
    std::fs::write(&text, "text").unwrap();
    paths.insert(1, text);
    for (options, rate, length) in [(none(), "8/1", 0.625), (json!({"fps": 2.5}), "5/2", 2.0)] {
        let done = convert_all(&paths, "mp4", options).await;
        let [
            Converted::File {
                sources,
                path,
                filename,
            },
            Converted::Unchanged(1),
        ] = &done[..]
        else {
            panic!("{done:?}")
        };
        assert_eq!(
            (sources.as_slice(), filename.as_str()),
            ([0, 2, 3, 4, 5].as_slice(), "f9.mp4")
        );
        let probed = probe(path);
        let video = stream(&probed, "video");
        assert_eq!(
            (
                video["nb_read_frames"].as_str(),
                video["r_frame_rate"].as_str()
            ),
            (Some("5"), Some(rate))
        );
        assert!(
            (video["duration"].as_str().unwrap().parse::<f64>().unwrap() - length).abs() < 0.01,
            "{video}"
        );
        let frames = folder.path().join("out%d.png");
        ffmpeg(&["-i", path.to_str().unwrap(), "-vsync", "0"], &frames);
        for (index, colour) in colours.iter().enumerate() {
            let frame = image::open(folder.path().join(format!("out{}.png", index + 1)))
                .unwrap()
                .into_rgb8();
            let pixel = frame.get_pixel(32, 32).0;
            assert!(
                colour.iter().zip(pixel).all(|(a, b)| a.abs_diff(b) < 30),
                "frame {index}: {pixel:?}"
            );
        }
    }
}

#[tokio::test]
async fn animations_become_videos_at_their_own_tempo() {
    let folder = tempfile::tempdir().unwrap();
    let make = "import sys\nfrom PIL import Image\nframes = [Image.new('RGB', (40, 30), (60 * i, \
                0, 255 - 60 * i)) for i in range(4)]\nfor p in sys.argv[1:]: frames[0].save(p, \
                save_all=True, append_images=frames[1:], duration=200, loop=0, \
                lossless=True)\nprint('{}')";
    let inputs = ["a.webp", "a.png", "a.gif"].map(|name| folder.path().join(name));
    python(
        make,
        &inputs.iter().map(PathBuf::as_path).collect::<Vec<_>>(),
    );
    for input in &inputs {
        for (format, codec) in [("mp4", "h264"), ("webm", "vp9"), ("gif", "gif")] {
            let probed = probe(&convert(input, format, none()).await);
            let video = stream(&probed, "video");
            assert_eq!(
                (
                    video["codec_name"].as_str(),
                    video["nb_read_frames"].as_str()
                ),
                (Some(codec), Some("4")),
                "{input:?} {format}"
            );
            assert_eq!(video["r_frame_rate"], "5/1", "{input:?} {format}");
        }
    }
    // Two animations of one node stay two videos.
    assert_eq!(convert_all(&inputs[..2], "mp4", none()).await.len(), 2);
}

#[tokio::test]
async fn video_options_reach_the_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    for (format, options, codec) in [
        (
            "mp4",
            json!({"codec": "hevc", "preset": "ultrafast", "crf": 30}),
            "hevc",
        ),
        ("mp4", json!({"codec": "mpeg4", "bitrate": "300k"}), "mpeg4"),
        ("mp4", json!({"codec": "av1", "preset": 8}), "av1"),
        ("mp4", json!({"codec": "libsvtav1", "preset": 12}), "av1"),
        ("webm", json!({"codec": "vp8", "preset": "realtime"}), "vp8"),
        (
            "webm",
            json!({"codec": "vp9", "bitrate": "200k", "crf": 40, "preset": "fast"}),
            "vp9",
        ),
        ("webm", json!({"codec": "av1", "preset": 8}), "av1"),
    ] {
        let probed = probe(&convert(&clip, format, options.clone()).await);
        assert_eq!(stream(&probed, "video")["codec_name"], codec, "{options}");
    }
    let size = async |options| {
        std::fs::metadata(convert(&clip, "mp4", options).await)
            .unwrap()
            .len()
    };
    assert!(size(json!({"crf": 10})).await > size(json!({"crf": 45})).await);
    assert_ne!(
        size(json!({"preset": "ultrafast"})).await,
        size(json!({"preset": "veryslow"})).await
    );
    assert!(size(json!({"bitrate": "20k"})).await < size(json!({"bitrate": "2M"})).await);
    assert!(
        size(json!({"crf": 5, "bitrate": "5k"})).await < size(json!({"crf": 5})).await,
        "the rate limits the quality"
    );
    let probed = probe(&convert(&clip, "mp4", json!({"fps": 5})).await);
    assert_eq!(
        (
            &stream(&probed, "video")["nb_read_frames"],
            &stream(&probed, "video")["r_frame_rate"]
        ),
        (&json!("5"), &json!("5/1"))
    );
}

#[tokio::test]
async fn sound_is_kept_or_extracted() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    for (format, video, audio) in [("mp4", "h264", "aac"), ("webm", "vp9", "opus")] {
        let probed = probe(&convert(&clip, format, none()).await);
        assert_eq!(
            (
                &stream(&probed, "video")["codec_name"],
                &stream(&probed, "audio")["codec_name"]
            ),
            (&json!(video), &json!(audio))
        );
        assert_eq!(stream(&probed, "video")["nb_read_frames"], "10");
    }
    assert!(stream(&probe(&convert(&clip, "gif", none()).await), "audio").is_null());
    for (format, options, codec, rate) in [
        (
            "mp3",
            json!({"frequency": 22_050, "bitrate": "64k"}),
            "mp3",
            "22050",
        ),
        (
            "wav",
            json!({"codec": "pcm_s24le", "frequency": 16_000}),
            "pcm_s24le",
            "16000",
        ),
        ("wav", none(), "pcm_s16le", "44100"),
        ("ogg", none(), "vorbis", "44100"),
        (
            "ogg",
            json!({"codec": "libopus", "bitrate": "32k"}),
            "opus",
            "48000",
        ),
        ("ogg", json!({"codec": "flac"}), "flac", "44100"),
    ] {
        let made = convert(&clip, format, options.clone()).await;
        let probed = probe(&made);
        let sound = stream(&probed, "audio");
        assert_eq!(
            (sound["codec_name"].as_str(), sound["sample_rate"].as_str()),
            (Some(codec), Some(rate)),
            "{format} {options}"
        );
        assert!(stream(&probed, "video").is_null());
        assert!(
            (probed["format"]["duration"]
                .as_str()
                .unwrap()
                .parse::<f64>()
                .unwrap()
                - 1.0)
                .abs()
                < 0.15,
            "{format}"
        );
        if format == "mp3" {
            assert_eq!(sound["bit_rate"], "64000");
            // Sound into sound, and sound is not a video.
            assert_eq!(
                stream(&probe(&convert(&made, "ogg", none()).await), "audio")["codec_name"],
                "vorbis"
            );
            assert!(matches!(
                convert_all(&[made], "mp4", none()).await[..],
                [Converted::Unchanged(0)]
            ));
        }
    }
    let silent = folder.path().join("silent.mp4");
    ffmpeg(
        &["-i", clip.to_str().unwrap(), "-an", "-c:v", "copy"],
        &silent,
    );
    let done = convert_all(&[silent], "mp3", none()).await;
    let [Converted::Failed(0, warning)] = &done[..] else {
        panic!("{done:?}")
    };
    assert!(warning.contains("no sound"), "{warning}");
}

#[tokio::test]
async fn the_workflow_is_carried_into_a_video() {
    let (_folder, path) = photo_file(32, 32);
    let make = "import sys\nfrom PIL import Image\nfrom PIL.PngImagePlugin import PngInfo\nm = \
                PngInfo()\nm.add_text('prompt', '{\"a=b\": \
                \"x;#\\\\\\\\n\"}')\nImage.open(sys.argv[1]).save(sys.argv[1], \
                pnginfo=m)\nprint('{}')";
    python(make, &[&path]);
    for format in ["mp4", "webm"] {
        let kept = convert(&path, format, json!({"keep_metadata": true})).await;
        let tags = probe(&kept)["format"]["tags"].clone();
        let prompt = tags["prompt"].as_str().or(tags["PROMPT"].as_str());
        assert_eq!(prompt, Some("{\"a=b\": \"x;#\\\\n\"}"), "{tags}");
        let again = probe(&convert(&kept, format, json!({"keep_metadata": true})).await)["format"]
            ["tags"]
            .clone();
        assert!(
            again["prompt"].is_string() || again["PROMPT"].is_string(),
            "{again}"
        );
        let dropped = probe(&convert(&kept, format, none()).await)["format"]["tags"].clone();
        assert!(
            dropped["prompt"].is_null() && dropped["PROMPT"].is_null(),
            "{dropped}"
        );
    }
}

#[tokio::test]
async fn ffmpegs_own_words_come_without_paths() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let cut = folder.path().join("cut.mp4");
    std::fs::write(&cut, &std::fs::read(&clip).unwrap()[..200]).unwrap();
    let done = convert_all(&[cut], "webm", none()).await;
    let [Converted::Failed(0, warning)] = &done[..] else {
        panic!("{done:?}")
    };
    assert!(
        warning.starts_with("cut.mp4 could not be converted to webm")
            && warning.contains("ffmpeg failed: "),
        "{warning}"
    );
    assert!(
        !warning.contains("/tmp") && !warning.contains(folder.path().to_str().unwrap()),
        "{warning}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}
