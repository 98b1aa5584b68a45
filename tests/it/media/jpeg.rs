//! Every JPEG option by its effect on the bytes.

use serde_json::{Value, json};

use super::{bytes, none, photo_file, sharp};

/// Marker and payload of every segment before the first scan, and the number of scans.
fn segments(jpeg: &[u8]) -> (Vec<(u8, Vec<u8>)>, usize) {
    assert_eq!(&jpeg[..2], [0xFF, 0xD8]);
    let (mut at, mut found, mut scans) = (2, Vec::new(), 0);
    while at + 4 <= jpeg.len() {
        if jpeg[at] != 0xFF || matches!(jpeg[at + 1], 0 | 0xD0..=0xD9 | 0xFF) {
            at += 1;
            continue;
        }
        let length = usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        scans += usize::from(jpeg[at + 1] == 0xDA);
        found.push((jpeg[at + 1], jpeg[at + 4..at + 2 + length].to_vec()));
        at += 2 + length;
    }
    (found, scans)
}

fn segment(jpeg: &[u8], marker: u8) -> Option<Vec<u8>> {
    segments(jpeg)
        .0
        .into_iter()
        .find(|(known, _)| *known == marker)
        .map(|(_, payload)| payload)
}

/// Horizontal and vertical sampling of each component.
fn sampling(jpeg: &[u8]) -> Vec<u8> {
    let frame = segment(jpeg, 0xC0).or_else(|| segment(jpeg, 0xC2)).unwrap();
    frame[6..].chunks(3).map(|component| component[1]).collect()
}

#[tokio::test]
async fn baseline_by_default_and_progressive_on_request() {
    let (_folder, path) = photo_file(64, 48);
    let plain = bytes(&path, "jpeg", none()).await;
    assert!(segment(&plain, 0xC0).is_some() && segment(&plain, 0xC2).is_none());
    assert_eq!(segments(&plain).1, 1);
    let progressive = bytes(&path, "jpeg", json!({"progressive": true})).await;
    assert!(segment(&progressive, 0xC2).is_some() && segments(&progressive).1 > 1);
    for option in ["optimizeScans", "optimiseScans", "mozjpeg"] {
        assert!(
            segment(
                &bytes(&path, "jpeg", json!({option: true, "progressive": false})).await,
                0xC2
            )
            .is_some(),
            "{option} forces progressive"
        );
    }
}

#[tokio::test]
async fn quality_subsampling_and_tables() {
    let (_folder, path) = photo_file(160, 120);
    let default = bytes(&path, "jpeg", none()).await;
    assert_eq!(sampling(&default), [0x22, 0x11, 0x11]);
    assert_eq!(
        sampling(&bytes(&path, "jpeg", json!({"chromaSubsampling": "4:4:4"})).await),
        [0x11, 0x11, 0x11]
    );
    assert_eq!(
        sampling(&bytes(&path, "jpeg", json!({"quality": 100})).await),
        [0x22, 0x11, 0x11],
        "high quality does not change sampling"
    );
    assert_eq!(default, bytes(&path, "jpeg", json!({"quality": 80})).await);
    let all = bytes(&path, "jpeg", json!({"quality": 100})).await;
    assert!(
        segment(&all, 0xDB).unwrap()[1..]
            .iter()
            .take(64)
            .all(|step| *step == 1)
    );
    assert!(bytes(&path, "jpeg", json!({"quality": 10})).await.len() < default.len() / 2);
    let mut tables = std::collections::HashSet::new();
    for table in 0..=8 {
        let quantised = bytes(&path, "jpeg", json!({"quantisationTable": table})).await;
        tables.insert(
            segments(&quantised)
                .0
                .into_iter()
                .filter(|(marker, _)| *marker == 0xDB)
                .map(|(_, payload)| payload)
                .collect::<Vec<_>>(),
        );
        assert_eq!(
            quantised,
            bytes(&path, "jpeg", json!({"quantizationTable": table})).await
        );
    }
    assert_eq!(tables.len(), 9, "nine different tables");
}

#[tokio::test]
async fn huffman_tables_trellis_and_deringing() {
    let (_folder, path) = photo_file(256, 256);
    let default = bytes(&path, "jpeg", none()).await;
    let standard = bytes(&path, "jpeg", json!({"optimizeCoding": false})).await;
    assert!(default.len() < standard.len());
    assert_eq!(
        standard,
        bytes(&path, "jpeg", json!({"optimiseCoding": false})).await
    );
    assert_eq!(
        image::load_from_memory(&default).unwrap(),
        image::load_from_memory(&standard).unwrap(),
        "the same picture"
    );
    let trellis = bytes(&path, "jpeg", json!({"trellisQuantisation": true})).await;
    assert!(trellis.len() < default.len());
    assert_ne!(
        image::load_from_memory(&trellis).unwrap(),
        image::load_from_memory(&default).unwrap()
    );
    let moz = bytes(&path, "jpeg", json!({"mozjpeg": true})).await;
    assert!(moz.len() < default.len());
    let spelled = json!({
        "trellisQuantisation": true,
        "overshootDeringing": true,
        "optimizeScans": true,
        "quantisationTable": 3
    });
    assert_eq!(
        moz,
        bytes(&path, "jpeg", spelled).await,
        "mozjpeg is these four"
    );
    assert_ne!(
        moz,
        bytes(
            &path,
            "jpeg",
            json!({"mozjpeg": true, "quantisationTable": 0})
        )
        .await,
        "a single option overrides it"
    );
    // Black text on white is what deringing is for.
    let text = path.with_file_name("text.png");
    image::RgbImage::from_fn(64, 64, |x, y| {
        image::Rgb(if (x / 3 + y / 5) % 4 == 0 {
            [0; 3]
        } else {
            [255; 3]
        })
    })
    .save(&text)
    .unwrap();
    assert_ne!(
        bytes(&text, "jpeg", json!({"overshootDeringing": true})).await,
        bytes(&text, "jpeg", none()).await
    );
}

/// The strongest proof that names, defaults and meanings are sharp's: the same bytes for every
/// option.
#[tokio::test]
async fn the_bytes_are_those_of_sharp() {
    let (folder, path) = photo_file(333, 217);
    for options in [
        json!({}),
        json!({"quality": 35}),
        json!({"quality": 95, "chromaSubsampling": "4:4:4"}),
        json!({"progressive": true}),
        json!({"optimizeCoding": false}),
        json!({"trellisQuantisation": true}),
        json!({"overshootDeringing": true}),
        json!({"optimizeScans": true}),
        json!({"quantisationTable": 5}),
        json!({"mozjpeg": true}),
        json!({"mozjpeg": true, "trellisQuantisation": false, "quality": 60}),
    ] {
        assert_same(&folder, &path, &options).await;
    }
}

async fn assert_same(folder: &tempfile::TempDir, path: &std::path::Path, options: &Value) {
    let theirs = folder.path().join("sharp.jpeg");
    sharp(
        &format!("await sharp(a).jpeg({options}).toFile(b)"),
        &[path, &theirs],
    );
    let (ours, theirs) = (
        bytes(path, "jpeg", options.clone()).await,
        std::fs::read(&theirs).unwrap(),
    );
    assert!(
        ours == theirs,
        "{options}: {} bytes of ours, {} of sharp's",
        ours.len(),
        theirs.len()
    );
}

#[tokio::test]
async fn alpha_becomes_black_and_grey_becomes_colour() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alpha.png");
    image::RgbaImage::from_fn(64, 64, |x, _| {
        image::Rgba([200, 120, 40, if x < 32 { 0 } else { 128 }])
    })
    .save(&path)
    .unwrap();
    let decoded = image::load_from_memory(
        &bytes(
            &path,
            "jpeg",
            json!({"quality": 100, "chromaSubsampling": "4:4:4"}),
        )
        .await,
    )
    .unwrap()
    .into_rgb8();
    assert!(
        decoded.get_pixel(8, 8).0.iter().all(|sample| *sample < 4),
        "{:?}",
        decoded.get_pixel(8, 8)
    );
    let half = decoded.get_pixel(56, 8).0;
    assert!(
        [100_i16, 60, 20]
            .iter()
            .zip(half)
            .all(|(wanted, got)| (wanted - i16::from(got)).abs() < 6),
        "{half:?}"
    );
    assert_same(&folder, &path, &json!({})).await;
    let grey = folder.path().join("grey.png");
    image::GrayImage::from_fn(80, 60, |x, y| image::Luma([(x * 3 + y) as u8]))
        .save(&grey)
        .unwrap();
    assert_same(&folder, &grey, &json!({})).await;
}
