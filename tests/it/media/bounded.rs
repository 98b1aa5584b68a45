//! What conversions may cost, and when they end (attack.md A13, A14; faults.md U5).

use std::path::Path;
use std::time::{Duration, Instant};

use comfyui_api::media::{ArchiveFormat, Conversion, Converted, Media, content_type};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{config, convert, convert_all, photo_file, python, source};

/// A PNG with chunks as given, by Python.
fn made(path: &Path, size: (u32, u32), depth: u8, colour: u8, more: &str) {
    let script = format!(
        "import sys, zlib, struct\nc = lambda k, d: struct.pack('>I', len(d)) + k + d + \
         struct.pack('>I', zlib.crc32(k + d))\nw, h, depth, colour = {}, {}, {depth}, \
         {colour}\nrow = b'\\0' + b'\\x55' * ((w * depth * {{0: 1, 2: 3, 6: 4}}[colour] + 7) // \
         8)\nz = zlib.compressobj(9); data = b''.join(z.compress(row) for _ in range(h)) + \
         z.flush()\nmore = {more}\nopen(sys.argv[1], 'wb').write(b'\\x89PNG\\r\\n\\x1a\\n' + \
         c(b'IHDR', struct.pack('>IIBBBBB', w, h, depth, colour, 0, 0, 0)) + more + c(b'IDAT', \
         data) + c(b'IEND', b''))\nprint(0)",
        size.0, size.1
    );
    python(&script, &[path]);
}

#[tokio::test]
async fn a_small_file_of_a_large_picture_is_delivered_as_it_is() {
    let (folder, path) = photo_file(16, 16);
    let large = folder.path().join("large.png");
    made(&large, (32_700, 32_700), 1, 0, "b''");
    for format in ["jpeg", "webp", "png", "mp4"] {
        let done = convert_all(std::slice::from_ref(&large), format, json!({})).await;
        assert!(
            matches!(&done[0], Converted::Failed(0, why) if why.contains("MiB of memory")),
            "{format}: {done:?}"
        );
    }
    // Packed profiles and texts count by what they become.
    for (name, chunk) in [
        (
            "profile",
            "c(b'iCCP', b'p\\0\\0' + zlib.compress(bytes(300_000_000), 9))",
        ),
        (
            "text",
            "c(b'zTXt', b'p\\0\\0' + zlib.compress(bytes(30_000_000), 9))",
        ),
        (
            "international",
            "c(b'iTXt', b'p\\0\\1\\0\\0\\0' + zlib.compress(bytes(30_000_000), 9))",
        ),
    ] {
        let packed = folder.path().join(format!("{name}.png"));
        made(&packed, (8, 8), 8, 2, chunk);
        let done = convert_all(&[packed], "jpeg", json!({})).await;
        assert!(
            matches!(
                &done[0],
                Converted::Failed(0, why) if why.contains("unpacks to more than 4 MiB")
            ),
            "{name}: {done:?}"
        );
    }
    convert(&path, "jpeg", json!({})).await;
}

/// An animation that takes minutes, by Pillow: large canvas, frames that are nearly the same.
fn long_animation(path: &Path) {
    let script = "import sys\nfrom PIL import Image\nbase = Image.effect_noise((1500, 1500), \
                  90).convert('P')\nframes = []\nfor n in range(120):\n    f = base.copy(); \
                  f.putpixel((n, n), n % 255); frames.append(f)\nframes[0].save(sys.argv[1], \
                  save_all=True, append_images=frames[1:], duration=20)\nprint(0)";
    python(script, &[path]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_stops_the_codec_and_animations_keep_no_still_waiting() {
    let (folder, still) = photo_file(64, 64);
    let long = folder.path().join("long.gif");
    long_animation(&long);
    let media = Media::new(&config());
    let webp = Conversion::parse("webp", Some(&json!({"effort": 6}))).unwrap();
    let cancel = CancellationToken::new();
    let cores = std::thread::available_parallelism().unwrap().get();
    let animations: Vec<_> = (0..cores + 1)
        .map(|_| {
            let (media, webp, cancel, long) =
                (media.clone(), webp.clone(), cancel.clone(), source(&long));
            tokio::spawn(async move { media.convert(&webp, &[long], &cancel).await })
        })
        .collect();
    // A still meanwhile: it has places of its own.
    let done = media
        .convert(&webp, &[source(&still)], &CancellationToken::new())
        .await;
    assert!(matches!(&done[..], [Converted::File { .. }]), "{done:?}");
    assert!(
        animations.iter().all(|animation| !animation.is_finished()),
        "the animations should take longer than a still"
    );
    cancel.cancel();
    for animation in animations {
        let done = animation.await.unwrap();
        assert!(matches!(&done[..], [Converted::Failed(0, why)] if why.contains("cancelled")));
    }
    // The places are free again as soon as the codecs have noticed.
    let began = Instant::now();
    let short = folder.path().join("short.gif");
    python(
        "import sys\nfrom PIL import Image\nf = [Image.new('P', (16, 16), n) for n in \
         range(3)]\nf[0].save(sys.argv[1], save_all=True, append_images=f[1:])\nprint(0)",
        &[&short],
    );
    convert_with(&media, &short).await;
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
}

async fn convert_with(media: &Media, path: &Path) {
    let webp = Conversion::parse("webp", None).unwrap();
    let done = media
        .convert(&webp, &[source(path)], &CancellationToken::new())
        .await;
    assert!(matches!(&done[..], [Converted::File { .. }]), "{done:?}");
}

#[tokio::test]
async fn a_conversion_has_a_time_limit_and_packing_ends_when_cancelled() {
    let (folder, _) = photo_file(8, 8);
    let long = folder.path().join("long.gif");
    long_animation(&long);
    let mut config = config();
    config.ffmpeg_timeout = Duration::from_millis(200);
    let media = Media::new(&config);
    let webp = Conversion::parse("webp", Some(&json!({"effort": 6}))).unwrap();
    let done = media
        .convert(&webp, &[source(&long)], &CancellationToken::new())
        .await;
    assert!(
        matches!(&done[..], [Converted::Failed(0, why)] if why.contains("FFMPEG_TIMEOUT_S")),
        "{done:?}"
    );
    let cancel = CancellationToken::new();
    cancel.cancel();
    let packed = folder.path().join("x.zip");
    let files = vec![(long, "long.gif".to_owned())];
    let error = media
        .pack(files, packed.clone(), ArchiveFormat::Zip, &cancel)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cancelled"), "{error}");
    assert!(!packed.exists());
}

#[tokio::test]
async fn pictures_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8], Option<&str>); 7] = [
        (
            "a.avif",
            b"\0\0\0\x20ftypavif\0\0\0\0avifmif1",
            Some("AVIF"),
        ),
        ("b.png", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Some("HEIF")),
        (
            "c.tga",
            b"\0\0\x02\0\0\0\0\0\0\0\0\0\x04\0\x04\0",
            Some("TGA"),
        ),
        ("d.qoi", b"qoif\0\0\0\x04", Some("QOI")),
        (
            "e.svg",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            Some("SVG"),
        ),
        ("f.txt", b"hello", None),
        ("g.glb", b"glTF\x02\0\0\0", None),
    ];
    for (name, content, kind) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let done = convert_all(&[path], "jpeg", json!({})).await;
        match (kind, &done[0]) {
            (Some(kind), Converted::Failed(0, why)) => {
                assert!(why.contains(name) && why.contains(kind), "{why}");
            }
            (None, Converted::Unchanged(0)) => {}
            other => panic!("{name}: {other:?}"),
        }
    }
    for (name, wanted) in [
        ("x.tga", "image/x-tga"),
        ("x.dds", "image/vnd-ms.dds"),
        ("x.qoi", "image/qoi"),
        ("x.ppm", "image/x-portable-pixmap"),
    ] {
        assert_eq!(content_type(name, b"\x01\x02"), wanted);
    }
}
