//! What a media value is: a URL, bytes in base64, the name of a file that is there, or an allowed
//! path (prompt.md, section 1).

use std::path::{Component, Path, PathBuf};

use super::base64;
use crate::config::{ComfyConfig, PromptConfig, public_url};
use crate::limits::text;
use crate::paths::is_inside;
use crate::storage::Storage;

/// What a media value turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum MediaValue {
    /// To be fetched.
    Url,
    /// Decoded bytes and the extension for them.
    Bytes(Vec<u8>, String),
    /// There already, at this path; ComfyUI takes it as it is.
    Present(PathBuf),
    /// Meant as one of these, but broken or not allowed, in a sentence.
    Unusable(String),
    /// None of these, in a sentence. Where ComfyUI describes no upload it may be any text.
    Unknown(String),
}

/// The directories whose files graphs may name.
#[derive(Debug)]
pub struct Directories {
    home: PathBuf,
    input: PathBuf,
    output: PathBuf,
    /// Of several ComfyUI each has its own temporary files: which has one is found out when it is
    /// known where the job can run.
    several: bool,
    allowed: Vec<PathBuf>,
}

impl Directories {
    /// The directories of a configuration.
    pub fn new(comfy: &ComfyConfig, prompt: &PromptConfig) -> Self {
        Self {
            home: comfy.home.clone(),
            input: comfy.input_dir.clone(),
            output: comfy.output_dir.clone(),
            several: comfy.several(),
            allowed: prompt.allowed_input_paths.clone(),
        }
    }
}

/// Finds out, in the order of the specification. Decodes megabytes and looks into directories: for
/// a blocking thread.
pub fn classify(text: &str, directories: &Directories) -> MediaValue {
    if Storage::is_url(text) {
        return MediaValue::Url;
    }
    let bare = unquoted(text);
    if let Some(found) = from_text(bare) {
        return found;
    }
    if let Some(path) = present(text, directories) {
        return MediaValue::Present(path);
    }
    if base64::begins_like_a_file(bare)
        && let Err(fault) = base64::decode(bare)
    {
        return MediaValue::Unusable(broken(bare, fault));
    }
    // A URL is cut before it is looked at: only its beginning is shown.
    let shown: String = public_url(&text::shorten(text, 200))
        .chars()
        .take(60)
        .collect();
    let sentence = format!(
        "\"{shown}\" is none of what a media input can be: a URL (http, https, s3), base64 or a \
         data: URI, the name of a file in ComfyUI's input directory, or a path below COMFY_HOME, \
         INPUT_DIR, OUTPUT_DIR or ALLOWED_INPUT_PATHS"
    );
    if is_path(text) {
        MediaValue::Unusable(sentence)
    } else {
        MediaValue::Unknown(sentence)
    }
}

/// A path is checked wherever it stands: nodes open what they get.
pub fn is_path(text: &str) -> bool {
    let path = Path::new(text.trim());
    path.is_absolute()
        || text.trim().starts_with("./")
        || path.components().any(|part| part == Component::ParentDir)
}

/// The file that a text is, if it is one.
pub fn decoded(text: &str) -> Option<MediaValue> {
    from_text(unquoted(text))
}

/// Without white space and quotation marks around the whole, which come from copying.
fn unquoted(text: &str) -> &str {
    let text = text.trim();
    ['"', '\'']
        .iter()
        .find_map(|mark| text.strip_prefix(*mark)?.strip_suffix(*mark))
        .map_or(text, str::trim)
}

fn broken(text: &str, fault: base64::Fault) -> String {
    format!(
        "the base64 text {fault}; it has {} characters and begins with \"{}\"",
        text.len(),
        text::shorten(text, 20)
    )
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
    if declared.is_none() && !base64::looks_like_it(payload) {
        return None;
    }
    match (base64::decode(payload), declared) {
        (Ok(bytes), Some(header)) => Some(recognised(bytes, header)),
        // A bare word may be a file's name that happens to be base64 of nothing in particular.
        (Ok(bytes), None) => match recognised(bytes, "") {
            MediaValue::Unusable(_) => None,
            found => Some(found),
        },
        (Err(fault), Some(_)) => Some(MediaValue::Unusable(format!(
            "the contents of the data: URI cannot be decoded: {}",
            broken(payload, fault)
        ))),
        (Err(_), None) => None,
    }
}

/// Types that are accepted by the word of a data: URI alone, where the contents do not tell.
const BY_WORD: &[&str] = &[
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

fn recognised(bytes: Vec<u8>, header: &str) -> MediaValue {
    let head = &bytes[..bytes.len().min(8192)];
    let declared = || {
        let subtype = header.split(';').next()?.split_once('/')?.1;
        let subtype = subtype.split('+').next()?.trim().to_ascii_lowercase();
        BY_WORD.contains(&subtype.as_str()).then_some(subtype)
    };
    if let Some(known) = crate::media::extension_for(head) {
        let extension = known.to_owned();
        return MediaValue::Bytes(bytes, extension);
    }
    match declared() {
        Some(subtype) if subtype != "svg" && is_text(head) => MediaValue::Unusable(format!(
            "the data: URI says {}, but its contents are text: \"{}\"",
            text::shorten(header.split(';').next().unwrap_or_default(), 40),
            text::shorten(&String::from_utf8_lossy(head), 40).replace(char::is_control, " ")
        )),
        Some(extension) if !bytes.is_empty() => MediaValue::Bytes(bytes, extension),
        _ => MediaValue::Unusable(
            "the contents are not a kind of file that is recognised as image, video, audio or \
             archive"
                .to_owned(),
        ),
    }
}

/// Whether contents that no kind of file begins with are text: an error page, say.
fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The head may end within a character.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !valid.is_empty()
        && !valid
            .chars()
            .any(|char| char.is_control() && !char.is_whitespace())
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
    if named && directories.several && text.ends_with(" [temp]") {
        return Some(full);
    }
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
                && matches!(
                    from_text(&jpeg),
                    Some(MediaValue::Bytes(_, extension)) if extension == "jpg"
                )
        );
    }

    fn nowhere() -> Directories {
        let nowhere = PathBuf::from("/nonexistent");
        Directories {
            home: nowhere.clone(),
            input: nowhere.clone(),
            output: nowhere,
            several: false,
            allowed: Vec::new(),
        }
    }

    /// F13
    #[test]
    fn data_uris_from_browsers_and_forms() {
        let standard = crate::document::base64(PNG);
        let encoded = standard
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D");
        for text in [
            format!("data:image/png;base64,{encoded}"),
            format!("  \n data:image/png;base64,{standard}%0A"),
            format!("\"data:image/png;base64,{standard}\""),
            format!(" 'data:image/png;base64,{standard}' "),
            format!("data:image/png;base64,{}", standard.replace('+', " ")),
            format!("\"{standard}\""),
            encoded,
        ] {
            let found = classify(&text, &nowhere());
            assert_eq!(
                found,
                MediaValue::Bytes(PNG.to_vec(), "png".into()),
                "{text}"
            );
        }
    }

    /// F20, D03
    #[test]
    fn what_cannot_be_used_is_told_apart_from_other_texts() {
        let png = crate::document::base64(&[PNG, &[7; 300]].concat());
        let wrong = format!("{}!{}", &png[..50], &png[50..]);
        let html = crate::document::base64(b"<!DOCTYPE html><html><body>Log in</body></html>");
        for (text, word) in [
            (wrong.clone(), "character 51, '!'"),
            (
                format!("data:image/png;base64,{wrong}"),
                "character 51, '!'",
            ),
            (png[..101].to_owned(), "cut off"),
            (format!("data:image/png;base64,{html}"), "text"),
            (
                format!(
                    "data:image/jpeg;base64,{}",
                    crate::document::base64(b"not found")
                ),
                "text",
            ),
            ("data:image/png;base64,".to_owned(), "recognised"),
            ("/etc/passwd".to_owned(), "none of what"),
            ("../x.png".to_owned(), "none of what"),
        ] {
            match classify(&text, &nowhere()) {
                MediaValue::Unusable(sentence) => {
                    assert!(sentence.contains(word), "{sentence}");
                    assert!(!sentence.contains(&png[..81]), "{sentence}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        for text in [
            "a cat",
            "photo.png",
            "sub/photo.png",
            "aFileNameWithoutExtension",
            &"a cat ".repeat(100_000),
        ] {
            assert!(
                matches!(classify(text, &nowhere()), MediaValue::Unknown(_)),
                "{text}"
            );
        }
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
