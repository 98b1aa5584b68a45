//! What is let through and what is refused, and with which location.

use comfyui_api::media::{Conversion, Media};
use serde_json::{Value, json};

use super::config;

fn refused(format: &str, options: Value) -> (String, String) {
    let failure =
        Conversion::parse(format, Some(&options)).expect_err(&format!("{format} {options}"));
    assert_eq!(failure.status.as_u16(), 400);
    (failure.location.unwrap(), failure.message)
}

#[test]
fn formats_are_known_or_refused() {
    for format in [
        "jpeg", "jpg", "webp", "png", "mp4", "webm", "gif", "mp3", "wav", "ogg",
    ] {
        for options in [
            None,
            Some(Value::Null),
            Some(json!({})),
            Some(json!({"keep_metadata": true})),
        ] {
            Conversion::parse(format, options.as_ref()).unwrap();
        }
    }
    for format in ["JPEG", "tiff", "", "jpeg ", "avif"] {
        let (location, message) = refused(format, json!({}));
        assert_eq!(location, "convert_output.format");
        assert!(message.contains("webp"), "{message}");
    }
    assert_eq!(refused("jpeg", json!([])).0, "convert_output.options");
}

#[test]
fn image_options_have_sharps_ranges() {
    for (format, option, good, bad) in [
        (
            "jpeg",
            "quality",
            json!([1, 80, 100, 80.0]),
            json!(["80", true, [80]]),
        ),
        (
            "jpeg",
            "progressive",
            json!([true, false]),
            json!([1, "true"]),
        ),
        (
            "jpeg",
            "chromaSubsampling",
            json!(["4:2:0", "4:4:4"]),
            json!(["4:2:2", 420]),
        ),
        ("jpeg", "optimizeCoding", json!([true]), json!([0])),
        ("jpg", "optimiseCoding", json!([false]), json!(["no"])),
        ("jpeg", "mozjpeg", json!([true]), json!([1])),
        ("jpeg", "trellisQuantisation", json!([true]), json!([1])),
        ("jpeg", "trellisQuantization", json!([true]), json!([1])),
        ("jpeg", "overshootDeringing", json!([true]), json!([1])),
        ("jpeg", "optimizeScans", json!([true]), json!([1])),
        ("jpeg", "optimiseScans", json!([true]), json!([1])),
        (
            "jpeg",
            "quantisationTable",
            json!([0, 8]),
            json!([-1, 9, 1.5]),
        ),
        ("jpeg", "quantizationTable", json!([3]), json!([9])),
        ("webp", "quality", json!([1, 100]), json!(["1", null])),
        ("webp", "alphaQuality", json!([0, 100, 101]), json!([true])),
        ("webp", "lossless", json!([true]), json!(["yes"])),
        ("webp", "nearLossless", json!([true]), json!([60])),
        ("webp", "smartSubsample", json!([true]), json!([1])),
        (
            "webp",
            "preset",
            json!(["default", "photo", "picture", "drawing", "icon", "text"]),
            json!(["foto", 1]),
        ),
        ("webp", "effort", json!([0, 6]), json!([-1, 7])),
        ("png", "compressionLevel", json!([0, 9]), json!([10])),
        (
            "mp4",
            "codec",
            json!(["libx264", "h264", "libx265", "hevc"]),
            json!(["libvpx", "copy", "-i", "libx264 -i x"]),
        ),
        (
            "webm",
            "codec",
            json!(["libvpx", "vp9", "libvpx-vp9", "av1"]),
            json!(["libx264"]),
        ),
        ("gif", "codec", json!(["gif"]), json!(["libx264"])),
        (
            "mp4",
            "fps",
            json!([0.5, 8, 23.976, 240]),
            json!([0, -1, 241, "8"]),
        ),
        ("mp4", "crf", json!([0, 51]), json!([-1, 52, 20.5, "20"])),
        ("webm", "crf", json!([0, 63]), json!([64])),
        (
            "mp4",
            "preset",
            json!(["ultrafast", "medium", "placebo"]),
            json!(["warp", 5, "good"]),
        ),
        (
            "webm",
            "preset",
            json!(["good", "realtime", "fast"]),
            json!(["warp"]),
        ),
        (
            "mp4",
            "bitrate",
            json!(["2M", "800k", "800K", "500000", 500_000]),
            json!([
                "2 M", "2G", "-2M", "", "k", "M", 2.5, "1;rm", "999", "99999M", "2Mk"
            ]),
        ),
        ("mp3", "codec", json!(["libmp3lame"]), json!(["aac"])),
        (
            "wav",
            "codec",
            json!(["pcm_s16le", "pcm_s24le", "pcm_f32le"]),
            json!(["libmp3lame"]),
        ),
        (
            "ogg",
            "codec",
            json!(["libvorbis", "libopus", "flac"]),
            json!(["pcm_s16le"]),
        ),
        ("mp3", "bitrate", json!(["128k", 192_000]), json!(["loud"])),
        (
            "mp3",
            "frequency",
            json!([8000, 44_100, 48_000]),
            json!([96_000, 44_101, "44100", 0]),
        ),
        (
            "wav",
            "frequency",
            json!([8000, 96_000, 192_000]),
            json!([7999, 192_001]),
        ),
    ] {
        for value in good.as_array().unwrap() {
            Conversion::parse(format, Some(&json!({option: value})))
                .unwrap_or_else(|e| panic!("{format} {option} {value}: {e}"));
        }
        for value in bad.as_array().unwrap() {
            let (location, message) = refused(format, json!({option: value}));
            assert_eq!(
                location,
                format!("convert_output.options.{option}"),
                "{value}"
            );
            assert!(message.contains(" must be "), "{message}");
        }
    }
}

#[test]
fn options_of_other_formats_are_ignored_with_a_warning() {
    for (format, option, value) in [
        ("jpeg", "lossless", json!(true)),
        ("webp", "progressive", json!(true)),
        ("webp", "mozjpeg", json!(true)),
        ("png", "quality", json!(80)),
        ("mp4", "quality", json!(80)),
        ("mp4", "frequency", json!(44_100)),
        ("mp3", "fps", json!(8)),
        ("mp3", "crf", json!(20)),
        ("gif", "frequency", json!(44_100)),
        ("jpeg", "colour", json!(null)),
    ] {
        let plain = Conversion::parse(format, None).unwrap();
        assert!(plain.warnings().is_empty());
        let read = Conversion::parse(format, Some(&json!({option: value}))).unwrap();
        let [warning] = read.warnings() else {
            panic!("{:?}", read.warnings());
        };
        assert!(
            warning.contains(option) && warning.contains("keep_metadata"),
            "the sentence lists what is allowed: {warning}"
        );
    }
}

/// D21
#[test]
fn odd_qualities_are_moved_into_their_range() {
    for (format, option, given, taken) in [
        ("jpeg", "quality", json!(0), 1),
        ("jpg", "quality", json!(150), 100),
        ("webp", "quality", json!(80.5), 81),
        ("webp", "alphaQuality", json!(-3), 0),
    ] {
        let read = Conversion::parse(format, Some(&json!({option: given}))).unwrap();
        assert!(
            read.warnings()[0].contains(&taken.to_string()),
            "{:?}",
            read.warnings()
        );
        let exact = Conversion::parse(format, Some(&json!({option: taken}))).unwrap();
        assert!(exact.warnings().is_empty());
    }
}

#[test]
fn a_wrong_second_spelling_is_refused_too() {
    let (location, _) = refused(
        "jpg",
        json!({"trellisQuantisation": false, "trellisQuantization": 7.1e16}),
    );
    assert_eq!(location, "convert_output.options.trellisQuantization");
    let (location, _) = refused("jpg", json!({"optimizeScans": 1, "optimiseScans": true}));
    assert_eq!(location, "convert_output.options.optimizeScans");
}

#[tokio::test]
async fn a_missing_ffmpeg_is_said_when_the_request_is_checked() {
    let mut config = config();
    config.ffmpeg = "/nowhere/ffmpeg".into();
    let media = Media::new(&config);
    for format in ["mp4", "webm", "gif", "mp3", "wav", "ogg"] {
        let failure = media
            .check(&Conversion::parse(format, None).unwrap())
            .await
            .unwrap_err();
        assert_eq!(
            (failure.status.as_u16(), failure.location.as_deref()),
            (400, Some("convert_output.format"))
        );
        assert!(failure.message.contains("FFMPEG_PATH"), "{failure}");
    }
    media
        .check(&Conversion::parse("jpeg", None).unwrap())
        .await
        .unwrap();
    Media::new(&super::config())
        .check(&Conversion::parse("mp4", None).unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_encoder_that_ffmpeg_lacks_is_said_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    config.ffmpeg = folder.path().join("ffmpeg");
    super::video::script(
        &config.ffmpeg,
        "echo ' V..... rawvideo  raw'; echo ' V..... libx264  H.264'",
    );
    let media = Media::new(&config);
    media
        .check(&Conversion::parse("mp4", None).unwrap())
        .await
        .unwrap();
    let failure = media
        .check(&Conversion::parse("mp4", Some(&json!({"codec": "hevc"}))).unwrap())
        .await
        .unwrap_err();
    assert!(failure.message.contains("libx265"), "{failure}");
}
