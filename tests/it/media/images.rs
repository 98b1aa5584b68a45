//! Colour, depth, orientation, metadata, and what is not converted.

use std::path::Path;

use comfyui_api::media::{Conversion, Converted, Media};
use image::{ImageBuffer, Rgb};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{bytes, config, convert, convert_all, none, photo_file, python, source};

#[tokio::test]
async fn sixteen_bits_become_eight_by_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep.png");
    let deep: ImageBuffer<Rgb<u16>, Vec<u16>> = ImageBuffer::from_fn(256, 4, |x, _| {
        Rgb([(x * 257) as u16, 65_535 - (x * 257) as u16, 0x8080])
    });
    deep.save(&path).unwrap();
    let eight = image::load_from_memory(&bytes(&path, "webp", json!({"lossless": true})).await)
        .unwrap()
        .into_rgb8();
    for x in 0..256 {
        assert_eq!(eight.get_pixel(x, 1).0, [x as u8, 255 - x as u8, 128]);
    }
    let kept = image::load_from_memory(&bytes(&path, "png", none()).await).unwrap();
    assert_eq!(kept.as_rgb16().unwrap(), &deep, "a PNG keeps its depth");
}

#[tokio::test]
async fn a_profile_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linear.png");
    // A matrix profile with sRGB's primaries and a linear curve, made from Pillow's sRGB profile.
    let make = r#"
import sys, struct
from PIL import Image, ImageCms
p = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes())
n = struct.unpack('>I', p[128:132])[0]
curve = len(p)
p += b'curv' + bytes(8)
for i in range(n):
    at = 132 + 12 * i
    if p[at:at + 4] in (b'rTRC', b'gTRC', b'bTRC'):
        p[at + 4:at + 12] = struct.pack('>II', curve, 12)
p[0:4] = struct.pack('>I', len(p))
Image.new('RGB', (16, 16), (55, 128, 200)).save(sys.argv[1], icc_profile=bytes(p))
print('{}')
"#;
    python(make, &[&path]);
    for (format, options) in [
        ("webp", json!({"lossless": true})),
        ("png", none()),
        ("jpeg", json!({"quality": 100})),
    ] {
        let written = bytes(&path, format, options).await;
        let pixel = image::load_from_memory(&written)
            .unwrap()
            .into_rgb8()
            .get_pixel(3, 3)
            .0;
        // sRGB's curve brightens linear 55, 128, 200 to about 128, 188, 229.
        assert!(
            [128_i16, 188, 229]
                .iter()
                .zip(pixel)
                .all(|(wanted, got)| (wanted - i16::from(got)).abs() <= 3),
            "{format}: {pixel:?}"
        );
        assert!(
            !written
                .windows(4)
                .any(|window| window == b"iCCP" || window == b"ICCP"),
            "applied, so not embedded again"
        );
    }
}

#[tokio::test]
async fn orientation_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let make = "import sys\nfrom PIL import Image\nim = Image.new('RGB', (32, 16), 'black'); \
                im.paste('white', (0, 0, 16, 16))\ne = Image.Exif(); e[274] = 6\nfor p in \
                sys.argv[1:]: im.save(p, exif=e, quality=100)\nprint('{}')";
    let paths = ["o.jpg", "o.png", "o.webp"].map(|name| folder.path().join(name));
    python(
        make,
        &paths
            .iter()
            .map(std::path::PathBuf::as_path)
            .collect::<Vec<_>>(),
    );
    for path in paths {
        let upright = image::load_from_memory(&bytes(&path, "png", none()).await)
            .unwrap()
            .into_rgb8();
        assert_eq!(upright.dimensions(), (16, 32), "{path:?}");
        assert!(
            upright.get_pixel(8, 4).0[0] > 200 && upright.get_pixel(8, 28).0[0] < 50,
            "{path:?}: turned clockwise"
        );
    }
}

/// What Pillow reads of the texts in a file.
fn texts(path: &Path) -> Value {
    python(
        "import sys, json\nfrom PIL import Image\nim = Image.open(sys.argv[1])\nt = \
         dict(getattr(im, 'text', {}))\nfor k, v in im.getexif().items():\n    if isinstance(v, \
         str): t[str(k)] = v\nprint(json.dumps(t))",
        &[path],
    )
}

#[tokio::test]
async fn comfyuis_workflow_is_carried_over_on_request() {
    let (_folder, path) = photo_file(32, 32);
    let make = "import sys, json\nfrom PIL import Image\nfrom PIL.PngImagePlugin import \
                PngInfo\nm = PngInfo()\nm.add_text('prompt', json.dumps({'3': {'text': 'a \
                cat'}})); m.add_itxt('workflow', '{\"title\": \"K\u{e4}tzchen \
                \u{1f431}\"}')\nImage.open(sys.argv[1]).save(sys.argv[1], pnginfo=m)\nprint('{}')";
    python(make, &[&path]);
    let keep = json!({"keep_metadata": true});
    let workflow = "{\"title\": \"K\\u00e4tzchen \\ud83d\\udc31\"}";
    for format in ["webp", "jpeg"] {
        let kept = texts(&convert(&path, format, keep.clone()).await);
        assert_eq!(
            kept["272"], "prompt:{\"3\": {\"text\": \"a cat\"}}",
            "{format}: Model"
        );
        assert_eq!(
            kept["271"],
            format!("workflow:{workflow}"),
            "{format}: Make"
        );
        assert_eq!(
            texts(&convert(&path, format, none()).await),
            json!({}),
            "{format}: dropped by default"
        );
    }
    let webp = convert(&path, "webp", keep.clone()).await;
    let back = texts(&convert(&webp, "png", keep.clone()).await);
    assert_eq!(
        back,
        json!({"workflow": workflow, "prompt": "{\"3\": {\"text\": \"a cat\"}}"})
    );
    assert_eq!(texts(&convert(&path, "png", none()).await), json!({}));
}

#[tokio::test]
async fn a_long_workflow_survives_in_a_jpeg() {
    let (_folder, path) = photo_file(16, 16);
    let make = "import sys\nfrom PIL import Image\nfrom PIL.PngImagePlugin import PngInfo\nm = \
                PngInfo()\nm.add_text('workflow', '{\"x\": \"' + 'abc' * 60000 + \
                '\"}')\nImage.open(sys.argv[1]).save(sys.argv[1], pnginfo=m)\nprint('{}')";
    python(make, &[&path]);
    let kept = texts(&convert(&path, "jpeg", json!({"keep_metadata": true})).await);
    assert_eq!(
        kept["271"].as_str().unwrap().len(),
        "workflow:".len() + 180_000 + 9
    );
}

#[tokio::test]
async fn names_get_the_format_and_other_kinds_pass() {
    let (folder, path) = photo_file(16, 16);
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "hello").unwrap();
    let broken = folder.path().join("broken.png");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&broken, &whole[..whole.len() / 2]).unwrap();
    let before = std::fs::read_dir(folder.path()).unwrap().count();
    let done = convert_all(&[text, path.clone(), broken], "jpg", none()).await;
    assert!(matches!(&done[0], Converted::Unchanged(0)));
    let Converted::File {
        sources,
        path: made,
        filename,
    } = &done[1]
    else {
        panic!("{done:?}")
    };
    assert_eq!(
        (sources.as_slice(), filename.as_str()),
        ([1].as_slice(), "ComfyUI_00001_.jpg")
    );
    assert_eq!(made.parent(), path.parent(), "beside its source");
    let Converted::Failed(2, warning) = &done[2] else {
        panic!("{done:?}")
    };
    assert!(
        warning.contains("broken.png") && !warning.contains('/'),
        "{warning}"
    );
    assert!(path.exists(), "sources stay");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        before + 1,
        "nothing is left of the failure"
    );
}

#[tokio::test]
async fn a_picture_that_announces_too_many_pixels_is_refused() {
    let (folder, path) = photo_file(16, 16);
    let bomb = folder.path().join("bomb.png");
    let make = "import sys, zlib, struct\nd = b'IHDR' + struct.pack('>IIBBBBB', 60000, 60000, 8, \
                2, 0, 0, 0)\nc = lambda d: struct.pack('>I', len(d) - 4) + d + struct.pack('>I', \
                zlib.crc32(d))\nopen(sys.argv[1], 'wb').write(b'\\x89PNG\\r\\n\\x1a\\n' + c(d) + \
                c(b'IDAT' + zlib.compress(bytes(1000))) + c(b'IEND'))\nprint(0)";
    python(make, &[&bomb]);
    for format in ["jpeg", "webp", "png", "mp4"] {
        let done = convert_all(&[bomb.clone(), path.clone()], format, none()).await;
        assert!(
            matches!(&done[0], Converted::Failed(0, why) if why.contains("MiB of memory")),
            "{format}: {done:?}"
        );
    }
}

#[tokio::test]
async fn cancelling_leaves_nothing() {
    let (folder, path) = photo_file(64, 64);
    let cancel = CancellationToken::new();
    cancel.cancel();
    for format in ["webp", "mp4"] {
        let done = Media::new(&config())
            .convert(
                &Conversion::parse(format, None).unwrap(),
                &[source(&path)],
                &cancel,
            )
            .await;
        assert!(matches!(&done[..], [Converted::Failed(0, _)]), "{done:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
