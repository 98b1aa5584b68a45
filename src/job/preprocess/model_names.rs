//! The name of a model: by its URL, its extension, its repository.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::storage::{check_file_name, model_extension};

/// A name that no other URL has.
pub(super) fn distinct(name: &str, url: &str) -> String {
    let hash = Sha256::digest(url.as_bytes());
    let digits = hex::encode(&hash[..4]);
    match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}-{digits}.{extension}"),
        None => format!("{name}-{digits}"),
    }
}

/// Without the extension of a model.
pub(super) fn stem(name: &str) -> &str {
    match model_extension(name) {
        Some(extension) => &name[..name.len() - extension.len() - 1],
        None => name,
    }
}

/// The last segment of a URL's path as a file's name.
pub(super) fn url_name(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let last = url.path().rsplit('/').next()?;
    let decoded = percent_encoding::percent_decode_str(last)
        .decode_utf8()
        .ok()?;
    check_file_name(&decoded)
        .ok()
        .filter(|name| !name.contains('/'))
}

/// The name, with an extension that ComfyUI lists even if the origin named none and the contents do
/// not tell.
pub(super) fn listed_name(name: String) -> String {
    if model_extension(&name).is_some() {
        name
    } else {
        format!("{name}.safetensors")
    }
}

/// The last segment of a repository's URL, without `.git`.
pub(super) fn repository_name(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let last = url.path_segments()?.rfind(|segment| !segment.is_empty())?;
    let name = check_file_name(last.strip_suffix(".git").unwrap_or(last)).ok()?;
    (Path::new(&name).components().count() == 1).then_some(name)
}
