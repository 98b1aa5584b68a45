//! Packing judged by unzip and Python's tarfile; unpacking against hostile archives.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use comfyui_api::media::{ArchiveFormat, content_type, extension_for, is_archive, pack, unpack};
use serde_json::json;

use super::{photo, python};

#[tokio::test]
async fn packed_files_come_out_of_other_programs() {
    let folder = tempfile::tempdir().unwrap();
    let (picture, text) = (folder.path().join("p.png"), folder.path().join("t.txt"));
    photo(64, 64).save(&picture).unwrap();
    fs::write(&text, "word ".repeat(20_000)).unwrap();
    let long = format!("{}/{}.txt", "d".repeat(90), "n".repeat(120));
    let files = || {
        vec![
            (picture.clone(), "a.png".to_owned()),
            (text.clone(), "a.png".to_owned()),
            (text.clone(), "ä/t.txt".to_owned()),
            (text.clone(), long.clone()),
        ]
    };
    for format in [ArchiveFormat::Zip, ArchiveFormat::Tar, ArchiveFormat::TarGz] {
        let archive = folder.path().join(format!("x.{}", format.extension()));
        pack(files(), archive.clone(), format).await.unwrap();
        let listed = python(
            "import sys, json, zipfile, tarfile, hashlib\np = sys.argv[1]\nif \
             p.endswith('zip'):\n    z = zipfile.ZipFile(p); assert z.testzip() is None\n    out \
             = [[i.filename, hashlib.md5(z.read(i)).hexdigest(), i.compress_type] for i in \
             z.infolist()]\nelse:\n    t = tarfile.open(p); out = [[m.name, \
             hashlib.md5(t.extractfile(m).read()).hexdigest(), 0] for m in \
             t]\nprint(json.dumps(out))",
            &[&archive],
        );
        let sums = python(
            "import sys, json, hashlib\nprint(json.dumps([hashlib.md5(open(p, \
             'rb').read()).hexdigest() for p in sys.argv[1:]]))",
            &[&picture, &text],
        );
        let deflated = if format == ArchiveFormat::Zip { 8 } else { 0 };
        let expected = json!([
            ["a.png", sums[0], 0],
            ["a_2.png", sums[1], deflated],
            ["ä/t.txt", sums[1], deflated],
            [long, sums[1], deflated]
        ]);
        assert_eq!(listed, expected, "{format:?}");
        let head = fs::read(&archive).unwrap();
        assert!(is_archive(&head[..head.len().min(4096)]));
        let out = folder.path().join(format!("out-{}", format.extension()));
        unpack(&archive, &out, 10, 1 << 20).await.unwrap();
        assert_eq!(fs::read(out.join(&long)).unwrap(), fs::read(&text).unwrap());
    }
}

#[tokio::test]
async fn a_pack_that_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for format in [ArchiveFormat::Zip, ArchiveFormat::Tar, ArchiveFormat::TarGz] {
        let error = pack(
            vec![(folder.path().join("missing"), "m.png".to_owned())],
            folder.path().join("x"),
            format,
        )
        .await
        .unwrap_err();
        assert!(error.to_string().contains("m.png"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

/// Writes archives with Python; `make` fills `add(name, data=b'...', kind=None)`.
fn hostile(folder: &Path, kind: &str, make: &str) -> PathBuf {
    let path = folder.join(format!("in.{kind}"));
    let script = format!(
        r#"
import sys, io, tarfile, zipfile, stat
p = sys.argv[1]
if p.endswith('.zip'):
    z = zipfile.ZipFile(p, 'w', zipfile.ZIP_DEFLATED)
    def add(name, data=b'x', kind=None):
        i = zipfile.ZipInfo(name); i.compress_type = zipfile.ZIP_DEFLATED
        mode = {{None: stat.S_IFREG, 'sym': stat.S_IFLNK, 'dev': stat.S_IFCHR, 'fifo': stat.S_IFIFO, 'hard': stat.S_IFLNK}}[kind]
        i.external_attr = (mode | 0o644) << 16
        z.writestr(i, data)
    done = z.close
else:
    t = tarfile.open(p, 'w:gz' if p.endswith('gz') else 'w')
    def add(name, data=b'x', kind=None):
        i = tarfile.TarInfo(name)
        i.type = {{None: tarfile.REGTYPE, 'sym': tarfile.SYMTYPE, 'dev': tarfile.CHRTYPE, 'fifo': tarfile.FIFOTYPE, 'hard': tarfile.LNKTYPE}}[kind]
        if kind: i.linkname = 'target'; data = b''
        i.size = len(data)
        t.addfile(i, io.BytesIO(data))
    done = t.close
add('good.txt')
{make}
done()
print('0')
"#
    );
    python(&script, &[&path]);
    path
}

#[tokio::test]
async fn hostile_archives_are_refused_without_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["zip", "tar", "tar.gz"] {
        for (make, word) in [
            ("add('/etc/x')", "absolute"),
            ("add('../x')", "\"..\""),
            ("add('a/../../x')", "\"..\""),
            ("add('..\\\\x')", "\"..\""),
            ("add('C:\\\\x')", "absolute"),
            ("add('link', b'/etc/passwd', 'sym')", "regular"),
            ("add('link', b'good.txt', 'hard')", "regular"),
            ("add('dev', b'', 'dev')", "regular"),
            ("add('fifo', b'', 'fifo')", "regular"),
            ("add('good.txt')", "twice"),
            ("[add(f'{i}') for i in range(20)]", "MAX_ARCHIVE_FILES"),
            (
                "[add(f'__MACOSX/{i}') for i in range(1100)]",
                "MAX_ARCHIVE_FILES",
            ),
            ("add('big', bytes(3 << 20))", "MAX_ARCHIVE_SIZE_MB"),
            (
                "[add(f'{i}', bytes(300000)) for i in range(8)]",
                "MAX_ARCHIVE_SIZE_MB",
            ),
            ("add('n' * 300)", "too long"),
            // A03: folders that nobody lists, deep ones, and what entries take on the disk.
            ("add('/'.join('abcdefghij') + '/x')", "MAX_ARCHIVE_FILES"),
            ("add('d/' * 33 + 'x')", "32"),
        ] {
            // The zip reader sees only the last of two entries with one name.
            if (kind, word) == ("zip", "twice") {
                continue;
            }
            let archive = hostile(folder.path(), kind, make);
            let out = folder.path().join("new/out");
            let error = unpack(&archive, &out, 10, 2 << 20).await.expect_err(make);
            assert!(error.to_string().contains(word), "{kind} {make}: {error}");
            assert!(!out.exists(), "{kind} {make} left something");
        }
        assert!(!folder.path().join("x").exists() && !folder.path().join("new/x").exists());
    }
}

/// A03: headers count for nothing, folders as files do.
#[tokio::test]
async fn files_and_folders_count() {
    let folder = tempfile::tempdir().unwrap();
    let zip = folder.path().join("in.zip");
    // Folder entries, and what macOS adds.
    python(
        "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1], 'w'); [z.writestr(n, b'x') for n \
         in ('d/', 'd/a', '__MACOSX/d/._a', 'd/e/', 'd/e/b')]; z.close(); print(0)",
        &[&zip],
    );
    unpack(&zip, &folder.path().join("zip"), 4, 1 << 20)
        .await
        .unwrap();
    assert!(
        unpack(&zip, &folder.path().join("few"), 3, 1 << 20)
            .await
            .is_err()
    );
    // A header of its own for each file, because its time has a fraction.
    let tar = folder.path().join("in.tar");
    let script = "import sys, tarfile, io\nt = tarfile.open(sys.argv[1], 'w', \
                  format=tarfile.PAX_FORMAT)\nfor n in 'abc':\n  i = tarfile.TarInfo(n); i.mtime \
                  = 1.5; i.size = 1; t.addfile(i, io.BytesIO(b'x'))\nt.close(); print(0)";
    python(script, &[&tar]);
    unpack(&tar, &folder.path().join("tar"), 3, 1 << 20)
        .await
        .unwrap();
    assert!(
        unpack(&tar, &folder.path().join("less"), 2, 1 << 20)
            .await
            .is_err()
    );
}

/// A03.
#[tokio::test]
async fn depth_is_limited_and_every_entry_takes_a_block() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["zip", "tar", "tar.gz"] {
        let archive = hostile(folder.path(), kind, "add('d/' * 32 + 'x')");
        let out = folder.path().join(format!("deep-{kind}"));
        unpack(&archive, &out, 100, 1 << 20).await.unwrap();
        assert!(out.join("d/".repeat(32) + "x").is_file());
        let entries = "[add(f'{i}', b'') for i in range(99)]";
        let archive = hostile(folder.path(), kind, entries);
        let out = folder.path().join(format!("many-{kind}"));
        unpack(&archive, &out, 100, 100 * 4096 + 1).await.unwrap();
        let out = folder.path().join(format!("less-{kind}"));
        let error = unpack(&archive, &out, 100, 100 * 4096).await.unwrap_err();
        assert!(error.to_string().contains("MAX_ARCHIVE_SIZE_MB"), "{error}");
        assert!(!out.exists());
    }
}

#[tokio::test]
async fn headers_that_lie_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let archive = hostile(folder.path(), "zip", "add('big', bytes(5 << 20))");
    // The uncompressed size of both headers is changed to 1.
    let mut bytes = fs::read(&archive).unwrap();
    let size = (5_u32 << 20).to_le_bytes();
    let places: Vec<usize> = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, window)| *window == size)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + 4].copy_from_slice(&1_u32.to_le_bytes());
    }
    fs::write(&archive, bytes).unwrap();
    let out = folder.path().join("out");
    unpack(&archive, &out, 10, 1 << 20).await.unwrap_err();
    assert!(!out.exists());
}

#[tokio::test]
async fn good_archives_of_every_kind_unpack() {
    let folder = tempfile::tempdir().unwrap();
    let make =
        "add('sub/dir/b.txt', b'deep'); add('__MACOSX/._b.txt'); add('L' * 120 + '.txt', b'long')";
    for kind in ["zip", "tar", "tar.gz", "tar.zst"] {
        let mut archive = hostile(
            folder.path(),
            if kind == "tar.zst" { "tar" } else { kind },
            make,
        );
        if kind == "tar.zst" {
            let packed = zstd::encode_all(fs::File::open(&archive).unwrap(), 3).unwrap();
            archive = folder.path().join("in.tar.zst");
            fs::write(&archive, packed).unwrap();
        }
        let mut head = Vec::new();
        fs::File::open(&archive)
            .unwrap()
            .take(4096)
            .read_to_end(&mut head)
            .unwrap();
        assert!(is_archive(&head), "{kind}");
        assert_eq!(extension_for(&head), Some(kind));
        let out = folder.path().join(format!("out-{kind}"));
        unpack(&archive, &out, 100, 1 << 20).await.unwrap();
        assert_eq!(
            fs::read_to_string(out.join("sub/dir/b.txt")).unwrap(),
            "deep",
            "{kind}"
        );
        assert_eq!(fs::read_to_string(out.join("good.txt")).unwrap(), "x");
        assert!(out.join("L".repeat(120) + ".txt").exists() && !out.join("__MACOSX").exists());
        assert!(
            unpack(&archive, &out, 100, 1 << 20).await.is_err(),
            "not into a directory in use"
        );
        assert!(out.join("good.txt").exists(), "which is left alone");
    }
}

#[tokio::test]
async fn what_is_no_archive_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    for content in [
        b"hello".as_slice(),
        b"PK\x03\x04broken",
        &[0x1F, 0x8B, 8, 0, 0],
        b"\x28\xB5\x2F\xFDxx",
        b"",
    ] {
        fs::write(&path, content).unwrap();
        unpack(&path, &folder.path().join("out"), 10, 1000)
            .await
            .unwrap_err();
        assert!(!folder.path().join("out").exists());
    }
    assert!(!is_archive(b"hello"));
}

/// What ComfyUI's loaders may be given, made by the real encoders.
#[tokio::test]
async fn inputs_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let pillow = [
        "x.png", "x.jpg", "x.webp", "x.gif", "x.bmp", "x.tif", "x.avif",
    ]
    .map(|name| folder.path().join(name));
    python(
        "import sys\nfrom PIL import Image\nfor p in sys.argv[1:]: Image.new('RGB', (32, 32), \
         'red').save(p)\nprint('0')",
        &pillow.iter().map(PathBuf::as_path).collect::<Vec<_>>(),
    );
    let mut all = pillow.to_vec();
    for name in [
        "v.mp4", "v.webm", "v.mkv", "v.mov", "v.avi", "v.mpg", "v.flv", "v.ts", "v.m4v",
    ] {
        let path = folder.path().join(name);
        super::ffmpeg(
            &[
                "-f",
                "lavfi",
                "-i",
                "testsrc=size=64x48:rate=25:duration=0.2",
            ],
            &path,
        );
        all.push(path);
    }
    for name in [
        "a.mp3", "a.wav", "a.flac", "a.ogg", "a.opus", "a.m4a", "a.aac", "a.aiff",
    ] {
        let path = folder.path().join(name);
        let codec: &[&str] = if name == "a.ogg" {
            &["-c:a", "libvorbis"]
        } else {
            &[]
        };
        super::ffmpeg(
            &[&["-f", "lavfi", "-i", "sine=duration=0.2"], codec].concat(),
            &path,
        );
        all.push(path);
    }
    let bare = folder.path().join("bare.mp3");
    super::ffmpeg(
        &[
            "-f",
            "lavfi",
            "-i",
            "sine=duration=0.2",
            "-id3v2_version",
            "0",
            "-write_xing",
            "0",
        ],
        &bare,
    );
    all.push(bare);
    for path in all {
        let wanted = path.extension().unwrap().to_str().unwrap();
        let head = fs::read(&path).unwrap();
        let head = &head[..head.len().min(4096)];
        assert_eq!(extension_for(head), Some(wanted), "{path:?}");
        let kind = content_type("x", head);
        let class = match path.file_name().unwrap().to_str().unwrap().as_bytes()[0] {
            b'x' => "image/",
            b'v' => "video/",
            _ => "audio/",
        };
        assert!(kind.starts_with(class), "{path:?}: {kind}");
    }
}
