//! Names in the cache directory, shared with the Node server: 32 characters of the URL's hash, then
//! an extension.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use url::Url;

use super::super::backend::{ObjectInfo, Source};

/// Characters of the hash in a name.
pub(in crate::storage) const BASE_LENGTH: usize = 32;
/// Ending of the description beside a file.
pub(in crate::storage) const META: &str = ".meta";
/// Ending of a file that is not complete.
pub(in crate::storage) const PARTIAL: &str = ".partial";

/// The part of the name that comes from the URL as the client wrote it.
pub(in crate::storage) fn base(url: &str) -> String {
    let mut text = URL_SAFE_NO_PAD.encode(Sha256::digest(url.as_bytes()));
    text.truncate(BASE_LENGTH);
    text
}

/// What stands in the cache for another version of a file than the first that came: what its origin
/// calls it, else who asks for it.
pub(in crate::storage) fn version_key(key: &str, info: &ObjectInfo, source: &Source) -> String {
    let mut hash = Sha256::new();
    match (&info.etag, &info.weak_etag, &info.last_modified) {
        (None, None, None) => {
            for secret in source.secrets() {
                hash.update(secret.as_bytes());
                hash.update([0]);
            }
        }
        named => hash.update(format!("{named:?} {:?}", info.size)),
    }
    format!("{key}\n{}", URL_SAFE_NO_PAD.encode(hash.finalize()))
}

/// The base of a cached file's name, or nothing if it is not one: a description, a partial file,
/// something of the user's.
pub(in crate::storage) fn base_of(name: &str) -> Option<&str> {
    let base = name.get(..BASE_LENGTH)?;
    let rest = &name[BASE_LENGTH..];
    let ours = base
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && (rest.is_empty() || rest.starts_with('.'))
        && !rest.ends_with(META)
        && !rest.ends_with(PARTIAL);
    ours.then_some(base)
}

/// The extension that the URL's own path gives, with its dot.
pub(in crate::storage) fn url_extension(url: &Url) -> Option<String> {
    extension(
        url.path_segments()
            .and_then(|mut segments| segments.next_back())
            .unwrap_or_else(|| url.path()),
    )
}

/// The extension of a fetched file: from the URL's path, else `Content-Disposition`, else the URL
/// after redirects, else the type.
pub(in crate::storage) fn extension_of(url: &Url, info: &ObjectInfo) -> String {
    url_extension(url)
        .or_else(|| info.disposition_name.as_deref().and_then(extension))
        .or_else(|| info.final_url.as_ref().and_then(url_extension))
        .or_else(|| {
            info.content_type
                .as_deref()
                .and_then(type_extension)
                .map(str::to_owned)
        })
        .unwrap_or_default()
}

/// What follows the last dot of a name that does not begin with it. Anything unusual for an
/// extension is none, so that a name can always be made of it.
fn extension(name: &str) -> Option<String> {
    let extension = Path::new(name).extension()?.to_str()?;
    let usual = !extension.is_empty()
        && extension.len() <= 32
        && extension
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    (usual && !matches!(extension, "meta" | "partial")).then(|| format!(".{extension}"))
}

/// Types whose files ComfyUI or its users know by an extension. `application/octet-stream` says
/// nothing.
fn type_extension(content_type: &str) -> Option<&'static str> {
    Some(match content_type {
        "image/png" => ".png",
        "image/jpeg" | "image/jpg" => ".jpg",
        "image/webp" => ".webp",
        "image/gif" => ".gif",
        "image/bmp" => ".bmp",
        "image/tiff" => ".tiff",
        "image/avif" => ".avif",
        "image/svg+xml" => ".svg",
        "video/mp4" => ".mp4",
        "video/webm" => ".webm",
        "video/quicktime" => ".mov",
        "video/x-matroska" => ".mkv",
        "video/x-msvideo" => ".avi",
        "audio/mpeg" | "audio/mp3" => ".mp3",
        "audio/wav" | "audio/x-wav" | "audio/wave" => ".wav",
        "audio/flac" | "audio/x-flac" => ".flac",
        "audio/ogg" => ".ogg",
        "audio/mp4" | "audio/x-m4a" => ".m4a",
        "audio/aac" => ".aac",
        "application/json" => ".json",
        "application/zip" => ".zip",
        "application/gzip" | "application/x-gzip" => ".gz",
        "application/x-tar" => ".tar",
        "application/zstd" => ".zst",
        "application/x-safetensors" => ".safetensors",
        "application/yaml" | "application/x-yaml" | "text/yaml" => ".yaml",
        "text/plain" => ".txt",
        "text/html" => ".html",
        "model/gltf-binary" => ".glb",
        "model/obj" => ".obj",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_specification() {
        let url = "https://civitai.com/api/download/models/128713?type=Model&format=SafeTensor&size=pruned&fp=fp16";
        let info = ObjectInfo {
            disposition_name: Some("dreamshaper_8.safetensors".into()),
            content_type: Some("image/png".into()),
            ..Default::default()
        };
        assert_eq!(
            base(url) + &extension_of(&Url::parse(url).unwrap(), &info),
            "Pk6VSKLStckZydwGhX0bM8TqaqHEW9yt.safetensors"
        );
    }

    #[test]
    fn extensions_come_in_their_order() {
        let url = |text: &str| Url::parse(text).unwrap();
        let info = ObjectInfo {
            disposition_name: Some("d.pt".into()),
            final_url: Some(url("https://cdn/f.bin")),
            content_type: Some("image/png".into()),
            ..Default::default()
        };
        assert_eq!(extension_of(&url("https://h/a.ckpt?x=.y"), &info), ".ckpt");
        assert_eq!(
            extension_of(&url("s3://bucket/dir.d/a.tar.gz"), &info),
            ".gz"
        );
        assert_eq!(extension_of(&url("https://h/a"), &info), ".pt");
        assert_eq!(
            extension_of(
                &url("https://h/a"),
                &ObjectInfo {
                    disposition_name: None,
                    ..info.clone()
                }
            ),
            ".bin"
        );
        assert_eq!(
            extension_of(
                &url("https://h/a"),
                &ObjectInfo {
                    disposition_name: None,
                    final_url: None,
                    ..info.clone()
                }
            ),
            ".png"
        );
        assert_eq!(
            extension_of(&url("https://h/.hidden"), &ObjectInfo::default()),
            ""
        );
        assert_eq!(
            extension_of(&url("https://h/a.p%2Fng"), &ObjectInfo::default()),
            ""
        );
    }

    #[test]
    fn only_cached_files_have_a_base() {
        let base = "Pk6VSKLStckZydwGhX0bM8TqaqHEW9yt";
        assert_eq!(base_of(&format!("{base}.safetensors")), Some(base));
        assert_eq!(base_of(base), Some(base));
        for other in [
            format!("{base}.png.meta"),
            format!("{base}.partial"),
            format!("{base}x.png"),
            "short.png".into(),
            "ä".repeat(20),
        ] {
            assert_eq!(base_of(&other), None, "{other}");
        }
    }
}
