//! `GET /assets/{id}/content`: the bytes, whole or a part; or a small picture of them.

use std::io::SeekFrom;
use std::path::PathBuf;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::V2State;
use super::error::ApiError;
use super::thumbnail;
use crate::net::http_fields::media_type;
use crate::store::blobs::Held;
use crate::store::{AssetRecord, StoreError};
use crate::transport::rest::Uncompressed;

const CHUNK: usize = 64 * 1024;
/// What need not be escaped in `filename*`.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

#[derive(serde::Deserialize)]
pub struct Options {
    download: Option<String>,
    thumbnail: Option<String>,
}

/// What is served: the bytes of an asset, or a small picture of them.
pub(super) struct Content {
    pub source: Source,
    /// Without quotation marks; not known yet for an output that is still hashed.
    pub tag: Option<String>,
    pub content_type: String,
    /// Without folders.
    pub name: String,
}

/// Where the bytes are.
pub(super) enum Source {
    File(PathBuf),
    Memory(Vec<u8>),
}

pub async fn content(
    method: Method,
    State(state): State<V2State>,
    Path(id): Path<String>,
    options: Result<Query<Options>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(options) = options.map_err(|error| ApiError::query(&error))?;
    let pixels = options
        .thumbnail
        .as_deref()
        .map(thumbnail::pixels)
        .transpose()?;
    let store = state.jobs.store();
    let asset = store
        .asset(&id)
        .await?
        .ok_or_else(|| ApiError::not_found("asset", &id))?;
    let held = asset.hash.as_deref().map(|hash| store.hold(hash));
    let path = match store.content(&asset) {
        Ok(path) => path,
        Err(StoreError::Gone) if asset.remote_url.is_some() && pixels.is_none() => {
            return Ok(moved(&asset));
        }
        Err(error) => return Err(error.into()),
    };
    store.used_now(&asset);
    let content = match pixels {
        Some(pixels) => thumbnail::of(&state, &asset, &path, pixels).await?,
        None => Content {
            source: Source::File(path),
            tag: asset.hash.clone(),
            content_type: asset.content_type.clone(),
            name: asset
                .file_path
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .into(),
        },
    };
    let download = options.download.is_some_and(|value| value == "1");
    let mut response = answer(content, &headers, method == Method::HEAD, download, held).await?;
    response.extensions_mut().insert(Uncompressed);
    Ok(response)
}

/// The part of it that was asked for. `held` lives as long as its bytes are sent.
async fn answer(
    content: Content,
    headers: &HeaderMap,
    head: bool,
    download: bool,
    held: Option<Held>,
) -> Result<Response, ApiError> {
    let gone = |_| ApiError::from(StoreError::Gone);
    let mut file = match &content.source {
        Source::File(path) => Some(tokio::fs::File::open(path).await.map_err(gone)?),
        Source::Memory(_) => None,
    };
    let size = match (&file, &content.source) {
        (Some(file), _) => file.metadata().await.map_err(gone)?.len(),
        (None, Source::Memory(bytes)) => bytes.len() as u64,
        (None, Source::File(_)) => 0,
    };
    let etag = content.tag.as_ref().map(|tag| format!("\"{tag}\""));
    if let Some(etag) = &etag
        && is_known(headers, etag)
    {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        describe(response.headers_mut(), &content, Some(etag), download);
        return Ok(response);
    }
    let fresh =
        text(headers, header::IF_RANGE.as_str()).is_none_or(|known| Some(known) == etag.as_deref());
    let range = text(headers, header::RANGE.as_str())
        .filter(|_| fresh)
        .map(|range| part(range, size));
    let (status, first, length) = match range {
        None | Some(Part::Whole) => (StatusCode::OK, 0, size),
        Some(Part::Some(first, last)) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Some(Part::Outside) => return Ok(outside(size)),
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    describe(headers, &content, etag.as_ref(), download);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT {
        insert(
            headers,
            header::CONTENT_RANGE,
            &format!("bytes {first}-{}/{size}", first + length - 1),
        );
    }
    if head {
        return Ok(response);
    }
    *response.body_mut() = match (file.take(), content.source) {
        (Some(mut file), _) => {
            if first > 0 {
                file.seek(SeekFrom::Start(first))
                    .await
                    .map_err(|_| ApiError::upstream())?;
            }
            let stream = ReaderStream::with_capacity(file.take(length), CHUNK);
            Body::from_stream(futures_util::StreamExt::map(stream, move |chunk| {
                let _held = &held;
                chunk
            }))
        }
        (None, Source::Memory(bytes)) => piece(&bytes, first, length),
        (None, Source::File(_)) => Body::empty(),
    };
    Ok(response)
}

/// Whether the client has it already.
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    text(headers, header::IF_NONE_MATCH.as_str()).is_some_and(|known| {
        known
            .split(',')
            .map(|one| one.trim().trim_start_matches("W/"))
            .any(|one| one == etag || one == "*")
    })
}

/// Its bytes from memory.
fn piece(bytes: &[u8], first: u64, length: u64) -> Body {
    let place = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    let part = bytes.get(place(first)..place(first + length));
    Body::from(part.unwrap_or_default().to_vec())
}

fn outside(size: u64) -> Response {
    let mut response = ApiError::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "invalid_request",
        format!("the Range lies outside of the {size} bytes"),
    )
    .into_response();
    insert(
        response.headers_mut(),
        header::CONTENT_RANGE,
        &format!("bytes */{size}"),
    );
    response
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The bytes were evicted here; the bucket has them.
fn moved(asset: &AssetRecord) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    insert(
        response.headers_mut(),
        header::LOCATION,
        asset.remote_url.as_deref().unwrap_or_default(),
    );
    response
}

fn describe(headers: &mut HeaderMap, content: &Content, etag: Option<&String>, download: bool) {
    let active = is_active(&content.content_type);
    let shown = if active {
        "application/octet-stream"
    } else {
        content.content_type.as_str()
    };
    insert(headers, header::CONTENT_TYPE, shown);
    let how = if active || download {
        "attachment"
    } else {
        "inline"
    };
    let disposition = format!(
        "{how}; filename*=UTF-8''{}",
        utf8_percent_encode(&content.name, PLAIN)
    );
    insert(headers, header::CONTENT_DISPOSITION, &disposition);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Some(etag) = etag {
        insert(headers, header::ETAG, etag);
    }
}

/// What a browser would run.
fn is_active(content_type: &str) -> bool {
    let essence = media_type(content_type);
    essence.contains("html")
        || essence.contains("xml")
        || essence.contains("svg")
        || essence.contains("script")
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// No range that we know: all of it.
    Whole,
    /// First and last byte.
    Some(u64, u64),
    Outside,
}

fn part(range: &str, size: u64) -> Part {
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .filter(|list| !list.contains(','))
        .and_then(|one| one.trim().split_once('-'))
    else {
        return Part::Whole;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (first.trim().is_empty(), last.trim().is_empty()) {
        (true, true) => Part::Whole,
        (true, false) => match number(last) {
            Some(0) => Part::Outside,
            Some(_) if size == 0 => Part::Outside,
            Some(suffix) => Part::Some(size.saturating_sub(suffix), size - 1),
            None => Part::Whole,
        },
        (false, open) => match (
            number(first),
            if open { Some(u64::MAX) } else { number(last) },
        ) {
            (Some(first), Some(last)) if first > last => Part::Whole,
            (Some(first), Some(last)) if first < size => Part::Some(first, last.min(size - 1)),
            (Some(_), Some(_)) => Part::Outside,
            _ => Part::Whole,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let cases = [
            ("bytes=0-3", Part::Some(0, 3)),
            ("bytes=4-", Part::Some(4, 9)),
            ("bytes=-3", Part::Some(7, 9)),
            ("bytes=-30", Part::Some(0, 9)),
            ("bytes=0-99", Part::Some(0, 9)),
            ("bytes=10-", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=5-4", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=x-", Part::Whole),
        ];
        for (range, expected) in cases {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        assert_eq!(part("bytes=-1", 0), Part::Outside);
    }
}
