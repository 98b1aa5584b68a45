//! Every WEBP option by its effect on chunks and pixels.

use image::{Rgba, RgbaImage};
use serde_json::json;

use super::{bytes, convert, none, photo, photo_file, python, sharp};

/// Names and payloads of the chunks.
fn chunks(webp: &[u8]) -> Vec<(String, Vec<u8>)> {
    assert_eq!(
        (&webp[..4], &webp[8..12]),
        (b"RIFF".as_slice(), b"WEBP".as_slice())
    );
    assert_eq!(
        u32::from_le_bytes(webp[4..8].try_into().unwrap()) as usize,
        webp.len() - 8
    );
    let (mut at, mut found) = (12, Vec::new());
    while at + 8 <= webp.len() {
        let length = u32::from_le_bytes(webp[at + 4..at + 8].try_into().unwrap()) as usize;
        found.push((
            String::from_utf8_lossy(&webp[at..at + 4]).into_owned(),
            webp[at + 8..at + 8 + length].to_vec(),
        ));
        at += 8 + length + length % 2;
    }
    found
}

fn names(webp: &[u8]) -> Vec<String> {
    chunks(webp).into_iter().map(|(name, _)| name).collect()
}

#[tokio::test]
async fn lossy_lossless_and_near_lossless() {
    let (_folder, path) = photo_file(200, 150);
    let original = photo(200, 150);
    let lossy = bytes(&path, "webp", none()).await;
    assert_eq!(names(&lossy), ["VP8 "]);
    assert_eq!(
        lossy,
        bytes(&path, "webp", json!({"quality": 80, "effort": 4})).await
    );
    let lossless = bytes(&path, "webp", json!({"lossless": true})).await;
    assert_eq!(names(&lossless), ["VP8L"]);
    assert_eq!(
        image::load_from_memory(&lossless).unwrap().into_rgb8(),
        original
    );
    let near = bytes(&path, "webp", json!({"nearLossless": true, "quality": 20})).await;
    assert_eq!(names(&near), ["VP8L"]);
    let decoded = image::load_from_memory(&near).unwrap().into_rgb8();
    assert_ne!(decoded, original);
    let furthest = decoded
        .as_raw()
        .iter()
        .zip(original.as_raw())
        .map(|(a, b)| a.abs_diff(*b))
        .max()
        .unwrap();
    assert!(furthest <= 16, "near: {furthest}");
    assert!(near.len() < lossless.len());
}

#[tokio::test]
async fn quality_effort_preset_and_subsampling_matter() {
    let (_folder, path) = photo_file(200, 150);
    let default = bytes(&path, "webp", none()).await;
    assert!(bytes(&path, "webp", json!({"quality": 20})).await.len() < default.len() / 2);
    assert!(bytes(&path, "webp", json!({"effort": 0})).await.len() > default.len());
    assert_ne!(
        bytes(&path, "webp", json!({"smartSubsample": true})).await,
        default
    );
    let mut different = std::collections::HashSet::new();
    for preset in ["default", "photo", "picture", "drawing", "icon", "text"] {
        different.insert(bytes(&path, "webp", json!({"preset": preset})).await);
    }
    assert!(different.len() >= 5, "{} different", different.len());
}

#[tokio::test]
async fn alpha_is_kept_at_its_own_quality() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alpha.png");
    let original = photo(128, 128);
    RgbaImage::from_fn(128, 128, |x, y| {
        let [r, g, b] = original.get_pixel(x, y).0;
        Rgba([r, g, b, r ^ (x * 2) as u8])
    })
    .save(&path)
    .unwrap();
    let full = bytes(&path, "webp", none()).await;
    assert_eq!(names(&full), ["VP8X", "ALPH", "VP8 "]);
    let alpha = |webp: &[u8]| {
        image::load_from_memory(webp)
            .unwrap()
            .into_rgba8()
            .pixels()
            .map(|pixel| pixel.0[3])
            .collect::<Vec<u8>>()
    };
    let wanted: Vec<u8> = image::open(&path)
        .unwrap()
        .into_rgba8()
        .pixels()
        .map(|pixel| pixel.0[3])
        .collect();
    assert_eq!(alpha(&full), wanted, "alpha is lossless at 100");
    let coarse = bytes(&path, "webp", json!({"alphaQuality": 5})).await;
    assert_ne!(alpha(&coarse), wanted);
    let size = |webp: &[u8]| {
        chunks(webp)
            .into_iter()
            .find(|(name, _)| name == "ALPH")
            .unwrap()
            .1
            .len()
    };
    assert!(size(&coarse) < size(&full));
}

#[tokio::test]
async fn the_bytes_are_those_of_sharp() {
    let (folder, opaque) = photo_file(333, 217);
    let alpha = folder.path().join("alpha.png");
    let picture = photo(120, 90);
    RgbaImage::from_fn(120, 90, |x, y| {
        let [r, g, b] = picture.get_pixel(x, y).0;
        Rgba([r, g, b, if x < 30 { 0 } else { (x * 2) as u8 }])
    })
    .save(&alpha)
    .unwrap();
    for path in [opaque, alpha] {
        compare(&folder, &path).await;
    }
}

async fn compare(folder: &tempfile::TempDir, path: &std::path::Path) {
    for options in [
        json!({}),
        json!({"quality": 30, "effort": 6}),
        json!({"lossless": true}),
        json!({"nearLossless": true, "quality": 60}),
        json!({"smartSubsample": true}),
        json!({"preset": "text"}),
        json!({"effort": 0}),
        json!({"alphaQuality": 30}),
    ] {
        let theirs = folder.path().join("sharp.webp");
        sharp(
            &format!("await sharp(a).webp({options}).toFile(b)"),
            &[path, &theirs],
        );
        let (ours, theirs) = (
            bytes(path, "webp", options.clone()).await,
            std::fs::read(&theirs).unwrap(),
        );
        // Near-lossless streams differ in a few bytes between builds of libwebp; everything else is
        // equal.
        let ratio = ours.len() as f64 / theirs.len() as f64;
        let equal = ours == theirs
            || (options.get("nearLossless").is_some() && (0.99..=1.01).contains(&ratio));
        assert!(
            equal,
            "{path:?} {options}: {} bytes of ours, {} of sharp's",
            ours.len(),
            theirs.len()
        );
    }
}

#[tokio::test]
async fn animations_stay_animated() {
    let folder = tempfile::tempdir().unwrap();
    let make = "import sys, json\nfrom PIL import Image\nframes = [Image.new('RGB', (40, 30), c) \
                for c in ('red', 'lime', 'blue')]\nfor p in sys.argv[1:]:\n    frames[0].save(p, \
                save_all=True, append_images=frames[1:], duration=[100, 200, 300], loop=3, \
                lossless=True)\nprint('{}')";
    let inputs = ["a.png", "a.gif", "a.webp"].map(|name| folder.path().join(name));
    python(
        make,
        &inputs
            .iter()
            .map(std::path::PathBuf::as_path)
            .collect::<Vec<_>>(),
    );
    for input in inputs {
        let output = convert(&input, "webp", json!({"lossless": true})).await;
        let written = std::fs::read(&output).unwrap();
        assert_eq!(
            names(&written)
                .iter()
                .filter(|name| *name == "ANMF")
                .count(),
            3,
            "{input:?}"
        );
        let seen = python(
            "import sys, json\nfrom PIL import Image, ImageSequence\nim = \
             Image.open(sys.argv[1])\nout = []\nfor f in ImageSequence.Iterator(im):\n    \
             f.load(); out.append([list(f.convert('RGB').getpixel((5, 5))), \
             f.info['duration']])\nprint(json.dumps([out, im.info['loop']]))",
            &[&output],
        );
        let expected = json!([[[255, 0, 0], 100], [[0, 255, 0], 200], [[0, 0, 255], 300]]);
        assert_eq!(seen[0], expected, "{input:?}");
        assert!(
            seen[1].as_u64().unwrap() > 0,
            "{input:?} does not loop for ever: {seen}"
        );
        let still = image::open(convert(&input, "jpeg", json!({"quality": 100})).await)
            .unwrap()
            .into_rgb8();
        let [red, green, blue] = still.get_pixel(5, 5).0;
        assert!(
            red > 250 && green < 5 && blue < 5,
            "first frame: {:?}",
            still.get_pixel(5, 5)
        );
    }
}

#[tokio::test]
async fn a_gif_of_one_frame_is_a_still_webp() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.gif");
    photo(32, 32).save(&path).unwrap();
    let written = bytes(&path, "webp", none()).await;
    assert!(!names(&written).contains(&"ANMF".to_owned()));
}
