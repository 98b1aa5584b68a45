//! Graphs inside media files (ui-format.md, section 9).

use std::io::Cursor;

use comfyui_api::graph::embedded::{Preference, read, recognise_bytes};
use comfyui_api::graph::recognise::Recognised;
use comfyui_api::graph::ui::convert;
use serde_json::{Value, json};

use super::corpus::{CLASSES, difference, dir, moment};

#[test]
fn both_members_of_every_media_file_give_its_graph() {
    let text = std::fs::read_to_string(dir().join("media/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    for (name, graph) in expected.as_object().unwrap() {
        for preference in [Preference::Prompt, Preference::Workflow] {
            let mut file = std::fs::File::open(dir().join("media").join(name)).unwrap();
            let found = match (read(&mut file, preference).unwrap(), preference) {
                (Recognised::Api(graph), Preference::Prompt) => graph,
                (Recognised::Ui(workflow), Preference::Workflow) => {
                    convert(&workflow, &CLASSES, moment()).unwrap().prompt
                }
                (other, _) => panic!("{name}: {other:?}"),
            };
            let case = json!({"expect": {"prompt": graph}});
            assert_eq!(difference(&case, &found), None, "{name}");
        }
    }
}

fn graph() -> String {
    json!({"1": {"class_type": "A", "inputs": {}, "is_changed": [1]}}).to_string()
}

pub fn png(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    file.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    file.extend(kind);
    file.extend(data);
    file.extend([0; 4]);
    file.extend(b"\0\0\0\0IEND\0\0\0\0");
    file
}

fn exif(text: &str) -> Vec<u8> {
    let mut tiff = b"MM\0*\0\0\0\x08\0\x01".to_vec();
    tiff.extend(b"\x01\x0f\0\x02");
    tiff.extend(u32::try_from(text.len() + 1).unwrap().to_be_bytes());
    tiff.extend(26_u32.to_be_bytes());
    tiff.extend([0; 4]);
    tiff.extend(text.as_bytes());
    tiff.push(0);
    tiff
}

fn boxed(kind: &[u8], content: &[u8]) -> Vec<u8> {
    let mut part = u32::try_from(content.len() + 8)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    part.extend(kind);
    part.extend(content);
    part
}

fn zlib(text: &str) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Every place of the table that the corpus has no file for.
#[test]
fn graphs_are_found_where_packs_and_older_versions_put_them() {
    let graph = graph();
    let with = |text: String| move |before: &[u8]| [before, text.as_bytes()].concat();
    let plain = with(graph.clone());
    let jpeg = {
        let exif = [b"Exif\0\0".as_slice(), &exif(&format!("Prompt:{graph}"))].concat();
        let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
        [b"\xff\xd8\xff\xe1".as_slice(), &length, &exif, b"\xff\xd9"].concat()
    };
    let webp = {
        let exif = exif(&format!(
            "workflow:{}",
            json!({"nodes": [], "extra": graph})
        ));
        let chunk = [
            b"EXIF".as_slice(),
            &u32::try_from(exif.len()).unwrap().to_le_bytes(),
            &exif,
        ]
        .concat();
        [b"RIFF\0\0\0\0WEBP".as_slice(), &chunk].concat()
    };
    let avif = {
        let exif = [b"\0\0\0\0".as_slice(), &exif(&format!("prompt:{graph}"))].concat();
        let entry = boxed(b"infe", b"\x02\0\0\0\0\x07\0\0Exif\0");
        let items = boxed(b"iinf", &[b"\0\0\0\0\0\x01".as_slice(), &entry].concat());
        let places = |at: u32| {
            let mut content = b"\x00\0\0\0\x44\0\0\x01\0\x07\0\0\0\x01".to_vec();
            content.extend(at.to_be_bytes());
            content.extend(u32::try_from(exif.len()).unwrap().to_be_bytes());
            boxed(b"iloc", &content)
        };
        let start = boxed(b"ftyp", b"avif\0\0\0\0");
        let meta = |at| {
            boxed(
                b"meta",
                &[b"\0\0\0\0".as_slice(), &items, &places(at)].concat(),
            )
        };
        let at = u32::try_from(start.len() + meta(0).len() + 8).unwrap();
        [start, meta(at), boxed(b"mdat", &exif)].concat()
    };
    let comment = json!({"prompt": graph, "workflow": {"nodes": []}}).to_string();
    let mov = {
        let data = boxed(
            b"data",
            &[b"\0\0\0\x01\0\0\0\0".as_slice(), comment.as_bytes()].concat(),
        );
        let list = boxed(b"ilst", &boxed(b"\xa9cmt", &data));
        let handler = boxed(b"hdlr", &[0; 24]);
        let meta = boxed(b"meta", &[b"\0\0\0\0".as_slice(), &handler, &list].concat());
        [
            boxed(b"ftyp", b"qt  \0\0\0\0"),
            boxed(b"moov", &boxed(b"udta", &meta)),
        ]
        .concat()
    };
    let mkv = {
        let sized = |id: &[u8], content: &[u8]| {
            let mut element = id.to_vec();
            element.extend((0x1000_0000 | u32::try_from(content.len()).unwrap()).to_be_bytes());
            element.extend(content);
            element
        };
        let name = sized(b"\x45\xa3", b"COMMENT");
        let text = sized(b"\x44\x87", comment.as_bytes());
        let tag = sized(b"\x67\xc8", &[name, text].concat());
        let tags = sized(b"\x12\x54\xc3\x67", &sized(b"\x73\x73", &tag));
        [
            b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff".to_vec(),
            tags,
        ]
        .concat()
    };
    let svg =
        format!("<?xml version=\"1.0\"?><svg><metadata><![CDATA[\n{comment}\n]]></metadata></svg>");
    let glb = {
        let scene = json!({"asset": {"version": "2.0", "extras": {"prompt": graph}}}).to_string();
        let length = u32::try_from(scene.len()).unwrap().to_le_bytes();
        [
            b"glTF\x02\0\0\0\0\0\0\0".as_slice(),
            &length,
            b"JSON",
            scene.as_bytes(),
        ]
        .concat()
    };
    let tensors = {
        let header = json!({"__metadata__": {"prompt": graph}}).to_string();
        [
            (header.len() as u64).to_le_bytes().as_slice(),
            header.as_bytes(),
        ]
        .concat()
    };
    let id3 = {
        let text: Vec<u8> = format!("\u{feff}PROMPT\0\u{feff}{graph}")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let frame = [b"\x01".as_slice(), &text].concat();
        let frame = [
            b"TXXX".as_slice(),
            &u32::try_from(frame.len()).unwrap().to_be_bytes(),
            b"\0\0",
            &frame,
        ]
        .concat();
        let size = u32::try_from(frame.len()).unwrap();
        let safe = [
            (size >> 21) & 127,
            (size >> 14) & 127,
            (size >> 7) & 127,
            size & 127,
        ]
        .map(|b| b as u8);
        [b"ID3\x03\0\0".as_slice(), &safe, &frame].concat()
    };
    let latin = {
        let graph = graph.replace("\"A\"", "\"\u{e4}\"");
        let bytes: Vec<u8> = graph.chars().map(|c| c as u8).collect();
        png(b"tEXt", &[b"prompt\0".as_slice(), &bytes].concat())
    };
    for (name, file, is_ui) in [
        ("tEXt", png(b"tEXt", &plain(b"PROMPT\0")), false),
        ("comf", png(b"comf", &plain(b"prompt\0")), false),
        ("iTXt", png(b"iTXt", &plain(b"prompt\0\0\0\0\0")), false),
        (
            "iTXt deflated",
            png(
                b"iTXt",
                &[b"prompt\0\x01\0\0\0".as_slice(), &zlib(&graph)].concat(),
            ),
            false,
        ),
        (
            "zTXt",
            png(b"zTXt", &[b"prompt\0\0".as_slice(), &zlib(&graph)].concat()),
            false,
        ),
        ("Latin-1", latin, false),
        ("JPEG", jpeg, false),
        ("WebP", webp, true),
        ("AVIF", avif, false),
        ("MOV", mov, false),
        ("MKV", mkv, false),
        ("SVG", svg.into_bytes(), false),
        ("GLB", glb, false),
        ("safetensors", tensors, false),
        ("MP3", id3, false),
        ("JSON with a mark", plain(b"\xef\xbb\xbf"), false),
    ] {
        match recognise_bytes(&file, Preference::Prompt) {
            Ok(Recognised::Ui(_)) if is_ui => {}
            Ok(Recognised::Api(graph)) if !is_ui => {
                let is_json = name.starts_with("JSON");
                assert_eq!(
                    graph["1"].get("is_changed").is_some(),
                    is_json,
                    "{name}: {graph:?}"
                );
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn files_without_a_graph_are_told_what_was_looked_for() {
    for (file, says) in [
        (
            png(b"tEXt", b"parameters\0a cat, Steps: 20"),
            "another program",
        ),
        (
            png(b"tEXt", b"Software\0x"),
            "PNG picture holds no workflow",
        ),
        (png(b"tEXt", b"prompt\0[1, 2]"), "a list was found"),
        (b"\x89PNG\r\n\x1a\n".to_vec(), "holds no workflow"),
        (b"GIF89a....".to_vec(), "neither JSON nor a file"),
        (Vec::new(), "neither JSON nor a file"),
        (b"[]".to_vec(), "a list was found"),
        (b"{\"a\": ".to_vec(), "not JSON"),
    ] {
        let sentence = recognise_bytes(&file, Preference::Prompt).unwrap_err();
        assert!(sentence.contains(says), "{sentence}");
    }
}

/// A sparse file that pretends to be a large video is read in no time and no memory.
#[test]
fn only_metadata_is_read() {
    let mut file = tempfile::tempfile().unwrap();
    use std::io::{Seek, SeekFrom, Write};
    let size: u32 = 2_000_000_000;
    file.write_all(&boxed(b"ftyp", b"isom\0\0\0\0")).unwrap();
    file.write_all(&(size + 8).to_be_bytes()).unwrap();
    file.write_all(b"mdat").unwrap();
    file.seek(SeekFrom::Current(i64::from(size))).unwrap();
    let text = graph();
    let keys = [b"\0\0\0\0\0\0\0\x01".as_slice(), &boxed(b"mdta", b"prompt")].concat();
    let data = boxed(
        b"data",
        &[b"\0\0\0\x01\0\0\0\0".as_slice(), text.as_bytes()].concat(),
    );
    let list = boxed(b"ilst", &boxed(&1_u32.to_be_bytes(), &data));
    let meta = [b"\0\0\0\0".to_vec(), boxed(b"keys", &keys), list].concat();
    file.write_all(&boxed(b"moov", &boxed(b"udta", &boxed(b"meta", &meta))))
        .unwrap();
    assert!(matches!(
        read(&mut file, Preference::Prompt),
        Ok(Recognised::Api(_))
    ));
    // Lengths that lie do not become memory.
    let lying = [
        boxed(b"ftyp", b"isom\0\0\0\0"),
        b"\xff\xff\xff\xffmoov".to_vec(),
    ]
    .concat();
    assert!(read(&mut Cursor::new(lying), Preference::Prompt).is_err());
}
