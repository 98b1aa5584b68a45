//! What a media value is: a URL, bytes in base64, the name of a file that is there, or an allowed path (prompt.md, section 1).

use std::path::{Component, Path, PathBuf};

use crate::config::{ComfyConfig, PromptConfig, public_url};
use crate::paths::is_inside;
use crate::storage::Storage;

/// Shortest base64 that can be a file; shorter words are names.
const MIN_BASE64: usize = 16;

/// What a media value turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum MediaValue {
    /// To be fetched.
    Url,
    /// Decoded bytes and the extension for them.
    Bytes(Vec<u8>, String),
    /// There already, at this path; ComfyUI takes it as it is.
    Present(PathBuf),
    /// None of these, in a sentence.
    Unusable(String),
}

/// The directories whose files graphs may name.
#[derive(Debug)]
pub struct Directories {
    home: PathBuf,
    input: PathBuf,
    output: PathBuf,
    allowed: Vec<PathBuf>,
}

impl Directories {
    /// The directories of a configuration.
    pub fn new(comfy: &ComfyConfig, prompt: &PromptConfig) -> Self {
        Self {
            home: comfy.home.clone(),
            input: comfy.input_dir.clone(),
            output: comfy.output_dir.clone(),
            allowed: prompt.allowed_input_paths.clone(),
        }
    }
}

/// Finds out, in the order of the specification. Decodes megabytes and looks into directories: for a blocking thread.
pub fn classify(text: &str, directories: &Directories) -> MediaValue {
    if Storage::is_url(text) {
        return MediaValue::Url;
    }
    if let Some(found) = from_text(text) {
        return found;
    }
    if let Some(path) = present(text, directories) {
        return MediaValue::Present(path);
    }
    let shown: String = public_url(text).chars().take(60).collect();
    MediaValue::Unusable(format!(
        "\"{shown}\" is none of what a media input can be: a URL (http, https, s3), base64 or a data: URI, the name of a file in ComfyUI's input directory, or a path below COMFY_HOME, INPUT_DIR, OUTPUT_DIR or ALLOWED_INPUT_PATHS"
    ))
}

/// A data URI or bare base64. `None` when it is neither.
fn from_text(text: &str) -> Option<MediaValue> {
    let (payload, declared) = match text.get(..5) {
        Some(scheme) if scheme.eq_ignore_ascii_case("data:") => {
            let Some((header, payload)) = text[5..].split_once(',') else {
                return Some(MediaValue::Unusable(
                    "the data: URI has no comma between its type and its contents".to_owned(),
                ));
            };
            if !header
                .split(';')
                .any(|part| part.trim().eq_ignore_ascii_case("base64"))
            {
                let bytes: Vec<u8> = percent_encoding::percent_decode_str(payload).collect();
                return Some(recognised(bytes, header));
            }
            (payload, Some(header))
        }
        _ => (text, None),
    };
    if declared.is_none() && !looks_like_base64(payload) {
        return None;
    }
    match decode(payload) {
        Some(bytes) => match (recognised(bytes, declared.unwrap_or_default()), declared) {
            // A bare word may be a file's name that happens to be base64 of nothing in particular.
            (MediaValue::Unusable(_), None) => None,
            (found, _) => Some(found),
        },
        None => declared.map(|_| {
            MediaValue::Unusable("the contents of the data: URI are not base64".to_owned())
        }),
    }
}

fn recognised(bytes: Vec<u8>, header: &str) -> MediaValue {
    let declared = || {
        let subtype = header
            .split(';')
            .next()?
            .split_once('/')?
            .1
            .split('+')
            .next()?
            .trim()
            .to_ascii_lowercase();
        let known = [
            "png",
            "jpeg",
            "jpg",
            "webp",
            "gif",
            "bmp",
            "tiff",
            "svg",
            "mp4",
            "webm",
            "quicktime",
            "mpeg",
            "wav",
            "x-wav",
            "ogg",
            "flac",
            "zip",
            "gltf-binary",
        ];
        known.contains(&subtype.as_str()).then_some(subtype)
    };
    match crate::media::extension_for(&bytes[..bytes.len().min(8192)]).map(str::to_owned).or_else(declared) {
        Some(extension) if !bytes.is_empty() => MediaValue::Bytes(bytes, extension),
        _ => MediaValue::Unusable("the contents are not a kind of file that is recognised as image, video, audio or archive".to_owned()),
    }
}

/// Cheap test of the beginning, so that a file name is not decoded and a text of megabytes is not scanned for nothing.
fn looks_like_base64(text: &str) -> bool {
    let head: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .take(64)
        .collect();
    head.len() >= MIN_BASE64 && head.iter().all(|byte| is_base64(*byte))
}

const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

/// Decodes leniently: white space, either alphabet, padding or not.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut clean: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        })
        .collect();
    while clean.last() == Some(&b'=') {
        clean.pop();
    }
    let decoded = base64_simd::STANDARD_NO_PAD
        .decode_inplace(&mut clean)
        .ok()?
        .len();
    clean.truncate(decoded);
    Some(clean)
}

/// Where ComfyUI finds a file by this name or path, if it may be asked for it.
fn present(text: &str, directories: &Directories) -> Option<PathBuf> {
    let (name, base) = match text.rsplit_once(" [") {
        Some((name, "input]")) => (name, &directories.input),
        Some((name, "output]")) => (name, &directories.output),
        Some((name, "temp]")) => (name, &directories.home.join("temp")),
        _ => (text, &directories.input),
    };
    let path = Path::new(name);
    if path.is_absolute() || name.starts_with("./") {
        let roots = [&directories.home, &directories.input, &directories.output]
            .into_iter()
            .chain(&directories.allowed);
        let full = directories.home.join(path);
        return roots
            .into_iter()
            .any(|root| is_inside(&full, root))
            .then_some(full);
    }
    let named = !name.is_empty()
        && path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    let full = base.join(path);
    (named && full.exists() && is_inside(&full, base)).then_some(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0";

    #[test]
    fn base64_in_its_many_forms() {
        let standard = crate::document::base64(PNG);
        let url_safe = standard
            .replace('+', "-")
            .replace('/', "_")
            .trim_end_matches('=')
            .to_owned();
        let wrapped = format!("{}\n {}", &standard[..20], &standard[20..]);
        for text in [
            standard.clone(),
            url_safe,
            wrapped,
            format!("data:image/png;base64,{standard}"),
            format!("DATA:;base64,{standard}"),
        ] {
            match from_text(&text) {
                Some(MediaValue::Bytes(bytes, extension)) => assert_eq!(
                    (bytes.as_slice(), extension.as_str()),
                    (PNG, "png"),
                    "{text}"
                ),
                other => panic!("{text}: {other:?}"),
            }
        }
        // A JPEG's base64 begins with a slash, so it looks like a path.
        let jpeg =
            crate::document::base64(b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
        assert!(
            jpeg.starts_with("/9j/")
                && matches!(from_text(&jpeg), Some(MediaValue::Bytes(_, extension)) if extension == "jpg")
        );
    }

    #[test]
    fn what_is_not_base64() {
        assert_eq!(from_text("photo.png"), None);
        assert_eq!(from_text("aFileNameWithoutExtension"), None);
        assert!(matches!(
            from_text("data:image/png;base64,!!!"),
            Some(MediaValue::Unusable(_))
        ));
        assert!(matches!(
            from_text("data:image/png;base64"),
            Some(MediaValue::Unusable(_))
        ));
    }
}
