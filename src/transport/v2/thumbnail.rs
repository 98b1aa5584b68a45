//! `?thumbnail=256`: a small picture of an asset, made once and kept beside its bytes.

use std::path::{Path, PathBuf};

use axum::http::StatusCode;

use super::V2State;
use super::content::{Content, Source};
use super::error::ApiError;
use crate::media::{ThumbnailSpec, Transparent};
use crate::store::AssetRecord;

const SMALLEST: u32 = 32;
const LARGEST: u32 = 1024;

/// The longer side that was asked for.
pub fn pixels(text: &str) -> Result<u32, ApiError> {
    let pixels = text.parse().ok();
    pixels
        .filter(|pixels| (SMALLEST..=LARGEST).contains(pixels))
        .ok_or_else(|| {
            ApiError::invalid(format!(
                "\"thumbnail\" must be {SMALLEST} to {LARGEST}: the pixels of the longer side"
            ))
        })
}

/// The small picture of an asset whose bytes are at `path`.
pub(super) async fn of(
    state: &V2State,
    asset: &AssetRecord,
    path: &Path,
    pixels: u32,
) -> Result<Content, ApiError> {
    let store = state.jobs.store();
    let Some(hash) = &asset.hash else {
        // Its hash comes in seconds; until then there is no place for it.
        let made = make(state, asset, path, pixels).await?;
        return Ok(shown(asset, None, Source::Memory(made)));
    };
    let tag = Some(format!("{hash}-{pixels}"));
    if let Some(kept) = store.thumbnail(hash, pixels).await {
        return Ok(file(asset, tag, kept).await);
    }
    let _alone = store.making_thumbnail(hash).await;
    if let Some(kept) = store.thumbnail(hash, pixels).await {
        return Ok(file(asset, tag, kept).await);
    }
    let made = make(state, asset, path, pixels).await?;
    if asset.external.is_none() {
        let keeping = store.keep_thumbnail(hash, pixels, made.clone());
        if let Err(error) = keeping.await {
            tracing::warn!(%error, "a thumbnail cannot be kept");
        }
    }
    Ok(shown(asset, tag, Source::Memory(made)))
}

async fn make(
    state: &V2State,
    asset: &AssetRecord,
    path: &Path,
    pixels: u32,
) -> Result<Vec<u8>, ApiError> {
    let spec = ThumbnailSpec {
        longest_side: pixels,
        transparent: Transparent::Webp,
        max_bytes: None,
    };
    let none = |why: String| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is no thumbnail of asset {}: {why}", asset.id),
        )
    };
    match state.media.thumbnail(path, spec).await {
        Ok(Some(thumbnail)) => Ok(thumbnail.bytes),
        Ok(None) => Err(none(
            "it is no picture that can be read here, and no video that ffmpeg could look into"
                .to_owned(),
        )),
        Err(reason) => Err(none(reason)),
    }
}

async fn file(asset: &AssetRecord, tag: Option<String>, path: PathBuf) -> Content {
    // The few bytes that tell its type; it is small as a whole.
    let source = match tokio::fs::read(&path).await {
        Ok(bytes) => Source::Memory(bytes),
        Err(_) => Source::File(path),
    };
    shown(asset, tag, source)
}

fn shown(asset: &AssetRecord, tag: Option<String>, source: Source) -> Content {
    let webp = matches!(&source, Source::Memory(bytes) if bytes.starts_with(b"RIFF"));
    let (content_type, extension) = if webp {
        ("image/webp", "webp")
    } else {
        ("image/jpeg", "jpg")
    };
    let name = asset.file_path.rsplit('/').next().unwrap_or_default();
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    Content {
        source,
        tag,
        content_type: content_type.to_owned(),
        name: format!("{stem}.{extension}"),
    }
}
