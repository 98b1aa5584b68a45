//! What a file is, by its first bytes, and what it is called towards clients.
//!
//! The bytes are judged by the `infer` crate; what it does not know (models, vector graphics, text)
//! is added here by content where that is certain and by name where it is not.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::archive::is_archive;

/// How much of a file is looked at.
const HEAD: u64 = 8192;

/// What a conversion can do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One that can be decoded here.
    Image,
    /// One for ffmpeg, perhaps with sound.
    Video,
    /// Sound alone.
    Audio,
    /// Anything else.
    Other,
}

/// The first bytes of a file, as many as the functions here need. Blocks.
///
/// # Errors
/// When it cannot be read.
pub fn head(path: &Path) -> io::Result<Vec<u8>> {
    head_of(File::open(path)?, 0)
}

/// The same of a file that is open, and more where that is at hand: at least so many bytes, if it
/// has them. Blocks.
///
/// # Errors
/// When it cannot be read.
pub fn head_of(file: File, at_least: u64) -> io::Result<Vec<u8>> {
    let wanted = at_least.max(HEAD);
    // With room for one byte more the end shows in the first read.
    let mut head = Vec::with_capacity(usize::try_from(wanted).unwrap_or(0) + 1);
    file.take(wanted).read_to_end(&mut head)?;
    Ok(head)
}

/// What a conversion can do with a file that begins like this.
pub(super) fn kind(head: &[u8]) -> Kind {
    match extension_for(head) {
        Some("png" | "jpg" | "webp" | "gif" | "bmp" | "tif") => Kind::Image,
        Some(
            "mp4" | "m4v" | "mkv" | "webm" | "mov" | "avi" | "wmv" | "mpg" | "flv" | "ts" | "3gp",
        ) => Kind::Video,
        Some(
            "mp3" | "m4a" | "opus" | "ogg" | "flac" | "wav" | "amr" | "aac" | "aiff" | "dsf"
            | "ape",
        ) => Kind::Audio,
        _ => Kind::Other,
    }
}

/// Whether deflating would be a waste of time.
pub(super) fn is_compressed(head: &[u8]) -> bool {
    extension_for(head).is_some_and(|extension| {
        !matches!(
            extension,
            "bmp"
                | "tif"
                | "wav"
                | "aiff"
                | "svg"
                | "tar"
                | "safetensors"
                | "gguf"
                | "glb"
                | "midi"
                | "exr"
                | "hdr"
                | "psd"
        )
    })
}

/// The usual extension (no dot) for content that begins with these bytes (a few KiB), if it is
/// recognised as media, archive or model.
pub fn extension_for(head: &[u8]) -> Option<&'static str> {
    own(head).or_else(|| {
        let kind = infer::get(head)?;
        let kept = match kind.matcher_type() {
            infer::MatcherType::Image | infer::MatcherType::Video | infer::MatcherType::Audio => {
                true
            }
            infer::MatcherType::Archive => matches!(
                kind.extension(),
                "zip" | "tar" | "gz" | "bz2" | "xz" | "7z" | "rar" | "zst"
            ),
            _ => false,
        };
        kept.then(|| kind.extension())
    })
}

/// Content that `infer` does not know or is not precise enough about.
fn own(head: &[u8]) -> Option<&'static str> {
    let begins = |magic: &[u8]| head.starts_with(magic);
    if begins(b"glTF") {
        Some("glb")
    } else if begins(b"GGUF") {
        Some("gguf")
    } else if begins(&[0x76, 0x2F, 0x31, 0x01]) {
        Some("exr")
    } else if begins(b"#?RADIANCE") || begins(b"#?RGBE") {
        Some("hdr")
    } else if is_safetensors(head) {
        Some("safetensors")
    } else if is_svg(head) {
        Some("svg")
    } else if begins(b"PK\x03\x04") {
        let first_name = head.get(30..).unwrap_or_default();
        // torch.save writes a zip file whose first member is data.pkl in a folder.
        first_name
            .get(..256.min(first_name.len()))
            .is_some_and(|name| name.windows(9).any(|w| w == b"/data.pkl"))
            .then_some("pt")
    } else if begins(&[0x1F, 0x8B]) {
        is_archive(head).then_some("tar.gz")
    } else if begins(&[0x28, 0xB5, 0x2F, 0xFD]) {
        Some("tar.zst")
    } else if begins(&[0x1A, 0x45, 0xDF, 0xA3]) {
        // EBML says in its DocType which of the two it is.
        let start = head.get(..64.min(head.len())).unwrap_or_default();
        Some(if start.windows(4).any(|window| window == b"webm") {
            "webm"
        } else {
            "mkv"
        })
    } else if is_mpeg_ts(head) {
        Some("ts")
    } else if is_mp3_frame(head) {
        Some("mp3")
    } else {
        iso_brand(head)
    }
}

/// Eight bytes of length, then JSON.
fn is_safetensors(head: &[u8]) -> bool {
    let Some((length, json)) = head.split_first_chunk::<8>() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    (2..100 << 20).contains(&length)
        && json.first() == Some(&b'{')
        && matches!(json.get(1), Some(b'"' | b'}' | b' '))
}

/// XML whose first element is `svg`.
fn is_svg(head: &[u8]) -> bool {
    // Nearly all that comes here is something else; a byte tells.
    if head
        .trim_ascii_start()
        .strip_prefix(b"\xEF\xBB\xBF")
        .unwrap_or(head)
        .trim_ascii_start()
        .first()
        != Some(&b'<')
    {
        return false;
    }
    let text = String::from_utf8_lossy(head.get(..head.len().min(2048)).unwrap_or_default());
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    while rest.starts_with("<?") || rest.starts_with("<!") {
        let end = if rest.starts_with("<!--") {
            rest.find("-->").map(|at| at + 3)
        } else {
            rest.find('>').map(|at| at + 1)
        };
        rest = match end.and_then(|end| rest.get(end..)) {
            Some(rest) => rest.trim_start(),
            None => return false,
        };
    }
    rest.strip_prefix("<svg")
        .is_some_and(|rest| rest.starts_with([' ', '>', '\n', '\r', '\t', '/']))
}

/// Packets of 188 bytes.
fn is_mpeg_ts(head: &[u8]) -> bool {
    head.len() > 376 && [0, 188, 376].iter().all(|at| head.get(*at) == Some(&0x47))
}

/// A frame of MPEG layer 3 without a tag before it, with valid bit rate and frequency.
fn is_mp3_frame(head: &[u8]) -> bool {
    let [0xFF, second, third, ..] = head else {
        return false;
    };
    let (layer3, version) = (second & 0b1110_0110 == 0b1110_0010, second >> 3 & 0b11);
    layer3 && version != 1 && third >> 4 != 0b1111 && third >> 4 != 0 && third >> 2 & 0b11 != 0b11
}

/// Brands of ISO media files that `infer` leaves out or takes for something else.
fn iso_brand(head: &[u8]) -> Option<&'static str> {
    if head.get(4..8) != Some(b"ftyp") {
        return None;
    }
    match head.get(8..12)? {
        b"M4A " | b"M4B " => Some("m4a"),
        b"M4V " => Some("m4v"),
        b"qt  " => Some("mov"),
        b"avif" | b"avis" => Some("avif"),
        b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1" | b"heim" | b"heis" => None,
        b"3gp4" | b"3gp5" | b"3gp6" | b"3gp7" => Some("3gp"),
        b"crx " | b"jp2 " | b"jpx " => None,
        _ => Some("mp4"),
    }
}

/// What a picture is that no conversion here can read, by its first bytes, else by its name; `None`
/// for all other files.
pub(super) fn unreadable_picture(filename: &str, head: &[u8]) -> Option<&'static str> {
    let extension = filename
        .rsplit_once('.')
        .map(|(_, end)| end.to_ascii_lowercase());
    let by_content = extension_for(head).or_else(|| {
        let kind = infer::get(head)?;
        (kind.matcher_type() == infer::MatcherType::Image).then(|| kind.extension())
    });
    let name = by_content.or(extension.as_deref())?;
    Some(match name {
        "avif" => "AVIF",
        "heic" | "heif" => "HEIF",
        "ico" => "ICO",
        "tga" => "TGA",
        "jp2" | "j2k" | "jpx" => "JPEG 2000",
        "jxl" => "JPEG XL",
        "jxr" => "JPEG XR",
        "exr" => "OpenEXR",
        "hdr" => "Radiance HDR",
        "psd" => "PSD",
        "svg" => "SVG",
        "dds" => "DDS",
        "qoi" => "QOI",
        "ppm" | "pgm" | "pbm" | "pnm" | "pam" => "PNM",
        "cr2" | "dng" | "nef" | "arw" => "camera raw",
        _ => return None,
    })
}

/// The content type of a file from its name and its first bytes; `application/octet-stream` when
/// unknown.
pub fn content_type(filename: &str, head: &[u8]) -> String {
    let by_name = filename
        .rsplit_once('.')
        .and_then(|(_, extension)| mime(&extension.to_ascii_lowercase()));
    let by_content = extension_for(head)
        .and_then(mime)
        .or_else(|| infer::get(head).map(|kind| kind.mime_type()));
    match (by_content, by_name) {
        // These containers say little; a name may know better (epub, model, compressed anything).
        (
            Some("application/zip" | "application/gzip" | "application/zstd" | "text/xml"),
            Some(name),
        ) => name,
        // Both ends of a container's usual ambiguity: sound alone in a video container.
        (Some("video/mp4"), Some(name @ "audio/mp4"))
        | (Some("video/webm"), Some(name @ "audio/webm"))
        | (Some("audio/ogg"), Some(name @ "video/ogg")) => name,
        (Some(content), _) => content,
        (None, Some(name)) => name,
        (None, None) => "application/octet-stream",
    }
    .to_owned()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn mime(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "jpg" | "jpeg" | "jpe" | "jfif" => "image/jpeg",
        "png" | "apng" => "image/png",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "heic" | "heif" => "image/heif",
        "jxl" => "image/jxl",
        "bmp" => "image/bmp",
        "tif" | "tiff" => "image/tiff",
        "svg" => "image/svg+xml",
        "ico" => "image/vnd.microsoft.icon",
        "exr" => "image/x-exr",
        "hdr" => "image/vnd.radiance",
        "psd" => "image/vnd.adobe.photoshop",
        "tga" => "image/x-tga",
        "dds" => "image/vnd-ms.dds",
        "qoi" => "image/qoi",
        "ppm" => "image/x-portable-pixmap",
        "pgm" => "image/x-portable-graymap",
        "pbm" => "image/x-portable-bitmap",
        "pnm" => "image/x-portable-anymap",
        "jp2" => "image/jp2",
        "mp4" | "m4v" => "video/mp4",
        "webm" => "video/webm",
        "mkv" => "video/x-matroska",
        "mov" => "video/quicktime",
        "avi" => "video/x-msvideo",
        "wmv" => "video/x-ms-wmv",
        "mpg" | "mpeg" => "video/mpeg",
        "flv" => "video/x-flv",
        "ts" => "video/mp2t",
        "3gp" => "video/3gpp",
        "ogv" => "video/ogg",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "flac" => "audio/flac",
        "ogg" | "oga" | "opus" => "audio/ogg",
        "m4a" => "audio/mp4",
        "weba" => "audio/webm",
        "aac" => "audio/aac",
        "aiff" | "aif" => "audio/aiff",
        "mid" | "midi" => "audio/midi",
        "amr" => "audio/amr",
        "glb" => "model/gltf-binary",
        "gltf" => "model/gltf+json",
        "obj" => "model/obj",
        "stl" => "model/stl",
        "zip" => "application/zip",
        "tar" => "application/x-tar",
        "gz" | "tgz" | "tar.gz" => "application/gzip",
        "zst" | "tar.zst" => "application/zstd",
        "bz2" => "application/x-bzip2",
        "xz" => "application/x-xz",
        "7z" => "application/x-7z-compressed",
        "rar" => "application/vnd.rar",
        "pdf" => "application/pdf",
        "json" => "application/json",
        "txt" | "log" => "text/plain; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "srt" => "application/x-subrip",
        "vtt" => "text/vtt; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "xml" => "application/xml",
        "yaml" | "yml" => "application/yaml",
        "ply" | "fbx" | "usdz" | "npy" | "npz" | "latent" | "safetensors" | "gguf" | "pt"
        | "pth" | "ckpt" | "bin" => "application/octet-stream",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{content_type, extension_for};

    #[test]
    fn content_counts_before_the_name() {
        assert_eq!(
            content_type("x.png", b"\xFF\xD8\xFF\xE0rest of a jpeg"),
            "image/jpeg"
        );
        assert_eq!(content_type("x.json", b"{}"), "application/json");
        assert_eq!(
            content_type("a.weird", b"hello"),
            "application/octet-stream"
        );
        assert_eq!(
            content_type("a.m4a", b"\0\0\0\x20ftypisom\0\0\0\0"),
            "audio/mp4"
        );
        assert_eq!(
            content_type("noname", b"glTF\x02\0\0\0"),
            "model/gltf-binary"
        );
    }

    #[test]
    fn what_infer_does_not_know() {
        let svg = b"\xEF\xBB\xBF<?xml version=\"1.0\"?>\n<!-- a > b -->\n<!DOCTYPE svg>\n<svg \
                    xmlns=\"http://www.w3.org/2000/svg\"/>";
        for (head, wanted) in [
            (svg.as_slice(), Some("svg")),
            (b"\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\"", Some("safetensors")),
            (b"GGUF\x03\0\0\0", Some("gguf")),
            (b"\xFF\xFB\x90\x64\0\0\0", Some("mp3")),
            (b"\xFF\xF1\x50\x80\0\0\0", Some("aac")),
            (b"\0\0\0\x18ftypiso6\0\0\0\0", Some("mp4")),
            (b"\0\0\0\x18ftypM4A \0\0\0\0", Some("m4a")),
            (
                b"OggS\0\x02\0\0\0\0\0\0\0\0aaaabbbbcccc\x01\x13OpusHead",
                Some("opus"),
            ),
            (b"fLaC\0\0\0\x22", Some("flac")),
            (b"\x7FELF\x02\x01\x01", None),
            (b"just text", None),
            (b"", None),
        ] {
            assert_eq!(
                extension_for(head),
                wanted,
                "{}",
                String::from_utf8_lossy(head)
            );
        }
    }
}
