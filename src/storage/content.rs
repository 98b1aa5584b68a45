//! Whether what came is a file at all: a login page, an error document, an empty body or a git-LFS
//! pointer is neither a model nor a picture (F03). Judged by the first bytes, the label (content
//! type), and the names under which the file was asked for.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::de::IgnoredAny;

use super::backend::Source;
use super::cache::Entry;
use super::model_name::MODEL_EXTENSIONS;

/// So much of a file is looked at.
const HEAD: usize = 8 * 1024;

/// Labels of texts: with one of them and a text inside, nobody meant a model or a picture.
const TEXT_LABELS: [&str; 6] = [
    "text/html",
    "text/plain",
    "text/xml",
    "application/json",
    "application/xml",
    "application/xhtml+xml",
];

/// Names that ask for a text.
const TEXT_NAMES: &[&str] = &[
    "yaml", "yml", "json", "jsonl", "ndjson", "txt", "csv", "tsv", "svg", "xml", "md", "toml",
    "ini", "cfg", "conf", "log", "py", "js", "css", "html", "htm", "xhtml", "srt", "vtt", "ass",
    "lrc", "gltf", "obj", "mtl", "ply", "stl", "dae", "x3d", "usda", "off", "xyz", "pts", "cube",
    "3dl", "glsl", "frag", "jinja", "template", "prompt",
];

/// Texts that are never an HTML page.
const NO_PAGES: &[&str] = &[
    "yaml", "yml", "json", "jsonl", "ndjson", "csv", "tsv", "toml", "gltf",
];

/// Extensions beside those of models that ask for something that is no text, whatever else the
/// origin calls it.
const BINARY_NAMES: &[&str] = &[
    "png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif", "mp4", "webm", "mov", "mkv",
    "avi", "mp3", "wav", "flac", "ogg", "m4a", "zip", "gz", "tar", "tgz", "zst",
];

/// The names a file was asked for by, and what its origin calls it.
#[derive(Debug, Clone, Default)]
pub(super) struct Names<'a> {
    /// `filename` of the request, and the last segment of the URL.
    pub asked: [Option<&'a str>; 2],
    /// `Content-Disposition`.
    pub told: Option<&'a str>,
}

impl Names<'_> {
    fn text(&self) -> Option<String> {
        let extension = |name: &&str| {
            Path::new(name)
                .extension()?
                .to_str()
                .map(str::to_ascii_lowercase)
        };
        let asked: Vec<String> = self.asked.iter().flatten().filter_map(extension).collect();
        let is = |list: &[&str], extension: &String| list.contains(&extension.as_str());
        if let Some(text) = asked.iter().find(|extension| is(TEXT_NAMES, extension)) {
            return Some(text.clone());
        }
        // Those of models that are texts have been found above.
        let binary =
            |extension: &String| is(&MODEL_EXTENSIONS, extension) || is(BINARY_NAMES, extension);
        if asked.iter().any(binary) {
            return None;
        }
        let told = self.told.as_ref().and_then(extension);
        told.filter(|extension| is(TEXT_NAMES, extension))
    }
}

/// What a file is instead of a model or a picture: `None` when it may be one.
pub(super) fn verdict(
    head: &[u8],
    size: u64,
    label: Option<&str>,
    names: &Names<'_>,
) -> Option<String> {
    if size == 0 {
        return Some("an empty body".to_owned());
    }
    let text = as_text(head);
    let text = text
        .as_deref()
        .map(|text| text.trim_start_matches('\u{feff}').trim_start());
    if text.is_some_and(|text| text.starts_with("version https://git-lfs.github.com/spec/")) {
        return Some("a git-lfs pointer, not the file it points to".to_owned());
    }
    let whole = size <= head.len() as u64;
    let kind = text.and_then(|text| kind_of(text, whole));
    if let Some(wanted) = names.text() {
        let page = kind == Some("HTML") && NO_PAGES.contains(&wanted.as_str());
        return page.then(|| named(label, kind));
    }
    let labelled = label.is_some_and(is_text_label) && text.is_some();
    (kind.is_some() || labelled).then(|| named(label, kind))
}

/// The content type where it says it, else the kind.
fn named(label: Option<&str>, kind: Option<&str>) -> String {
    match (label, kind) {
        (Some(label), Some(kind)) if is_text_label(label) => format!("{label} ({kind})"),
        (Some(label), None) => label.to_owned(),
        (_, Some(kind)) => format!("{kind} (labelled {})", label.unwrap_or("as nothing")),
        (None, None) => "a text".to_owned(),
    }
}

fn is_text_label(label: &str) -> bool {
    TEXT_LABELS.contains(&label)
        || label.starts_with("application/")
            && (label.ends_with("+json") || label.ends_with("+xml"))
}

/// The beginning as text, if it is one. A character that is cut off at the end does not matter.
fn as_text(head: &[u8]) -> Option<String> {
    let utf16 = |read: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = head
            .chunks_exact(2)
            .map(|pair| read([pair[0], pair[1]]))
            .collect();
        String::from_utf16(&units).ok()
    };
    let text = match head {
        [0xff, 0xfe, ..] => utf16(u16::from_le_bytes)?,
        [0xfe, 0xff, ..] => utf16(u16::from_be_bytes)?,
        _ => match std::str::from_utf8(head) {
            Ok(text) => text.to_owned(),
            Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
                String::from_utf8_lossy(head.get(..error.valid_up_to())?).into_owned()
            }
            // Old pages in Latin-1 are pages as well.
            Err(_) if head.first() == Some(&b'<') && !head.contains(&0) => {
                head.iter().map(|byte| char::from(*byte)).collect()
            }
            Err(_) => return None,
        },
    };
    let binary = text.chars().any(|char| {
        char.is_control()
            && !matches!(char, '\t' | '\n' | '\r' | '\u{c}' | '\u{1b}')
            && char < '\u{80}'
    });
    (!binary).then_some(text)
}

fn kind_of(text: &str, whole: bool) -> Option<&'static str> {
    if let Some(markup) = markup(text) {
        return Some(markup);
    }
    let document =
        text.starts_with(['{', '[', '"']) || matches!(text.trim(), "null" | "true" | "false");
    let json = document
        && match serde_json::from_str::<IgnoredAny>(text.trim_end()) {
            Ok(_) => true,
            Err(error) => !whole && error.is_eof(),
        };
    json.then_some("JSON")
}

fn markup(text: &str) -> Option<&'static str> {
    /// What browsers take for the beginning of a page.
    const PAGE: [&str; 17] = [
        "!doctype html",
        "html",
        "head",
        "script",
        "iframe",
        "h1",
        "div",
        "font",
        "table",
        "a",
        "style",
        "title",
        "b",
        "body",
        "br",
        "p",
        "meta",
    ];
    let mut rest = text;
    let mut commented = false;
    while let Some(comment) = rest.strip_prefix("<!--") {
        commented = true;
        let Some((_, after)) = comment.split_once("-->") else {
            return Some("HTML");
        };
        rest = after.trim_start();
    }
    let Some(tag) = rest.strip_prefix('<') else {
        return commented.then_some("HTML");
    };
    let lower: String = tag
        .chars()
        .take(1024)
        .collect::<String>()
        .to_ascii_lowercase();
    let page = PAGE.iter().any(|name| {
        lower.strip_prefix(name).is_some_and(|after| {
            after.is_empty() || after.starts_with([' ', '>', '\t', '\n', '\r', '/'])
        })
    });
    if page || lower.contains("<!doctype html") || lower.contains("<html") {
        return Some("HTML");
    }
    let xml = lower.starts_with("?xml")
        || lower.starts_with("!doctype")
        || lower.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_');
    (xml && tag.contains('>')).then_some("XML")
}

/// The last segment of a URL's path, by whose extension a text is asked for.
pub(super) fn segment(source: &Source) -> String {
    let path = match source.url.scheme() {
        // A key may hold anything.
        "s3" if !source.written.is_empty() => source.written.as_str(),
        _ => source.url.path(),
    };
    let last = path.rsplit('/').next().unwrap_or_default();
    percent_encoding::percent_decode_str(last)
        .decode_utf8_lossy()
        .into_owned()
}

/// Whether a cached file is one for who asks. Reads its beginning.
pub(super) fn is_file(entry: &Entry, source: &Source, filename: Option<&str>) -> bool {
    let Ok((head, size)) = head_of(&entry.path) else {
        // Whoever uses it will say what is wrong.
        return true;
    };
    let segment = segment(source);
    let sidecar = entry.sidecar.as_ref();
    let names = Names {
        asked: [filename, Some(&segment)],
        told: sidecar.and_then(|sidecar| sidecar.origin_name.as_deref()),
    };
    let label = sidecar.and_then(|sidecar| sidecar.content_type.as_deref());
    verdict(&head, size, label, &names).is_none()
}

/// The first bytes of a file, and its size.
pub(super) fn head_of(path: &Path) -> io::Result<(Vec<u8>, u64)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut head = Vec::with_capacity(HEAD);
    file.take(HEAD as u64).read_to_end(&mut head)?;
    Ok((head, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(body: &[u8], label: Option<&str>, asked: &str, told: Option<&str>) -> Option<String> {
        let names = Names {
            asked: [None, Some(asked)],
            told,
        };
        verdict(body, body.len() as u64, label, &names)
    }

    /// F03.
    #[test]
    fn what_is_no_file_is_told_by_its_bytes_and_its_label() {
        let octets = Some("application/octet-stream");
        for (body, label, name, said) in [
            ("<!DOCTYPE html><p>", octets, "m.safetensors", "HTML"),
            ("\u{feff}  <html lang=x>", None, "m", "HTML"),
            ("<!-- hi -->\n<HTML>", Some("image/png"), "a.png", "HTML"),
            ("<html>", Some("text/html"), "a.png", "text/html"),
            ("{\"error\": 1}", octets, "m.ckpt", "JSON"),
            ("[]", None, "m.ckpt", "JSON"),
            ("\"no\"", None, "m.ckpt", "JSON"),
            ("<?xml version=\"1.0\"?><Error/>", octets, "m.pt", "XML"),
            ("<Error><Code>x</Code></Error>", None, "m.pt", "XML"),
            ("<svg></svg>", Some("image/svg+xml"), "picture", "XML"),
            ("quota exceeded", Some("text/plain"), "m.pt", "text/plain"),
            ("nope", Some("application/json"), "m.pt", "application/json"),
            ("", octets, "m.pt", "empty"),
            ("", Some("text/plain"), "a.txt", "empty"),
            (
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
                Some("text/plain"),
                "m.pt",
                "git-lfs",
            ),
            (
                "version https://git-lfs.github.com/spec/v1\n",
                None,
                "m.yaml",
                "git-lfs",
            ),
            ("<html>", Some("text/html"), "m.yaml", "text/html"),
        ] {
            let verdict = judge(body.as_bytes(), label, name, None);
            assert!(
                verdict
                    .as_ref()
                    .is_some_and(|verdict| verdict.contains(said)),
                "{body}: {verdict:?}"
            );
        }
        let utf16: Vec<u8> = [0xfeff]
            .into_iter()
            .chain("<html>".encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        assert!(judge(&utf16, None, "m.pt", None).is_some());
        let names = Names {
            asked: [None, Some("m.pt")],
            told: None,
        };
        let long = format!("{{\"error\": \"{}", "x".repeat(9000));
        assert!(verdict(&long.as_bytes()[..8192], 9010, None, &names).is_some());
    }

    #[test]
    fn files_are_files_whatever_their_label() {
        for (body, label, name, told) in [
            (
                &b"\x89PNG\r\n\x1a\n\0\0"[..],
                Some("text/html"),
                "a.png",
                None,
            ),
            (
                b"\x08\0\0\0\0\0\0\0{\"a\":1}",
                Some("text/plain"),
                "m.safetensors",
                None,
            ),
            (
                b"odd header of a model",
                Some("application/octet-stream"),
                "m.bin",
                None,
            ),
            (b"x", None, "m.bin", None),
            (b"a: 1", Some("text/plain"), "c.yaml", None),
            (b"{\"a\": 1}", Some("application/json"), "c.json", None),
            (
                b"{\"a\": 1}",
                Some("application/json"),
                "get?id=1",
                Some("c.json"),
            ),
            (b"<svg></svg>", Some("image/svg+xml"), "a.SVG", None),
            (b"{not json at all", None, "m.bin", None),
            (b"<\x01\x02", None, "m.bin", None),
            (b"GGUF\x03\0\0\0", Some("text/plain"), "m.gguf", None),
            (b"12345", None, "m.bin", None),
        ] {
            assert_eq!(
                judge(body, label, name, told),
                None,
                "{}",
                String::from_utf8_lossy(body)
            );
        }
        // What the origin calls it does not make a text of what was asked for as a model.
        assert!(judge(b"{}", None, "m.safetensors", Some("error.json")).is_some());
        let names = Names {
            asked: [Some("c.json"), Some("download")],
            told: None,
        };
        assert_eq!(verdict(b"{}", 2, Some("application/json"), &names), None);
    }
}
