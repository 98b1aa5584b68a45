//! Properties of a blob, and its bytes as one continuous stream.

use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use futures_util::StreamExt;

use super::failure::accepted;
use super::location::Location;
use super::request::Resource;
use crate::net::http_fields::{content_range, disposition_name, media_type};
use crate::storage::backend::{ByteRange, ObjectInfo, ObjectStream};
use crate::storage::{ErrorKind, StorageError, auth_headers, cloud};

/// The service's own name of `Range`, which a proxy leaves alone.
const RANGE: HeaderName = HeaderName::from_static("x-ms-range");

/// Asks about a blob.
pub async fn head(blob: &Resource, location: &Location) -> Result<ObjectInfo, StorageError> {
    let answer = blob
        .ask(Method::HEAD, &version(location), HeaderMap::new(), None)
        .await?;
    let answer = accepted(&blob.shown, answer).await?;
    let headers = answer.headers();
    Ok(info(headers, length(headers)))
}

/// Begins to fetch a blob.
pub async fn open(
    blob: &Resource,
    location: &Location,
    range: Option<ByteRange>,
    if_match: Option<&str>,
) -> Result<ObjectStream, StorageError> {
    let mut headers = HeaderMap::new();
    if let Some(range) = range {
        headers.insert(RANGE, auth_headers::value(&range.to_string())?);
    }
    if let Some(etag) = if_match {
        let etag = HeaderValue::from_str(etag).map_err(|_| {
            let sentence = format!("{}: an etag that is no header", blob.shown);
            StorageError::new(ErrorKind::Failed, sentence)
        })?;
        headers.insert(header::IF_MATCH, etag);
    }
    let answer = blob
        .ask(Method::GET, &version(location), headers, None)
        .await?;
    // The whole of it shows the engine that the blob has changed. It also serves an empty blob, of
    // which every range is out of range.
    if range.is_some()
        && matches!(
            answer.status(),
            StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE
        )
    {
        return Box::pin(open(blob, location, None, None)).await;
    }
    let answer = accepted(&blob.shown, answer).await?;
    let headers = answer.headers();
    let (offset, size) = if answer.status() == StatusCode::PARTIAL_CONTENT {
        let sent = text(headers, &header::CONTENT_RANGE).and_then(content_range);
        let Some(start) = sent.and_then(|sent| sent.start) else {
            return Err(StorageError::new(
                ErrorKind::Failed,
                format!("{}: Azure did not say which part it sent", blob.shown),
            ));
        };
        (start, sent.and_then(|sent| sent.total))
    } else {
        (0, length(headers))
    };
    let info = info(headers, size);
    let shown = blob.shown.clone();
    let body = answer.bytes_stream().map(move |bytes| {
        bytes.map_err(|error| {
            StorageError::new(
                ErrorKind::Transient,
                format!("{shown}: the transfer broke off: {}", cloud::words(&error)),
            )
        })
    });
    Ok(ObjectStream {
        info,
        offset,
        body: body.boxed(),
    })
}

/// The version or the snapshot that a URL names.
fn version(location: &Location) -> Vec<(&'static str, &str)> {
    // With a signature in it, the whole query goes out as it is.
    if location.parameter("sig").is_some() {
        return Vec::new();
    }
    ["snapshot", "versionid"]
        .into_iter()
        .find_map(|name| location.parameter(name).map(|value| (name, value)))
        .into_iter()
        .collect()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers, &header::CONTENT_LENGTH)?.trim().parse().ok()
}

fn info(headers: &HeaderMap, size: Option<u64>) -> ObjectInfo {
    // Older services leave the quotes out.
    let etag = text(headers, &header::ETAG).map(|etag| {
        if etag.starts_with('"') || etag.starts_with("W/") {
            etag.to_owned()
        } else {
            format!("\"{etag}\"")
        }
    });
    let weak = etag.as_ref().is_some_and(|etag| etag.starts_with("W/"));
    let modified = text(headers, &header::LAST_MODIFIED)
        .and_then(|date| httpdate::parse_http_date(date).ok())
        .and_then(|date| date.duration_since(SystemTime::UNIX_EPOCH).ok());
    let content_type = text(headers, &header::CONTENT_TYPE).unwrap_or("application/octet-stream");
    ObjectInfo {
        size,
        weak_etag: etag.clone().filter(|_| weak),
        etag: etag.filter(|_| !weak),
        last_modified: modified.map(|since| since.as_secs().to_string()),
        ranges: true,
        sha256: None,
        checksum: None,
        content_type: Some(media_type(content_type)),
        disposition_name: text(headers, &header::CONTENT_DISPOSITION).and_then(disposition_name),
        final_url: None,
    }
}
