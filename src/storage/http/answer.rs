//! What an answer's status and headers say of a file.

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use reqwest::Response;
use url::Url;

use super::super::backend::{ByteRange, ObjectInfo};
use super::super::{ErrorKind, StorageError, error};
use crate::config::public;
use crate::net::http_fields::{content_range, disposition_name, media_type, retry_after};
use crate::net::retry;

/// The file behind an answer to HEAD or GET, ranged or not.
pub(super) fn info(response: &Response, at: &Url, asked: &Url) -> ObjectInfo {
    let headers = response.headers();
    let partial = matches!(
        response.status(),
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
    );
    let encoded = encoding(headers).is_some();
    let size = if is_gzip(response) {
        None
    } else if partial {
        total(headers)
    } else {
        text(headers, &header::CONTENT_LENGTH).and_then(|length| length.trim().parse().ok())
    };
    let etag = text(headers, &header::ETAG).map(str::trim);
    ObjectInfo {
        size,
        etag: etag.filter(|etag| etag.starts_with('"')).map(str::to_owned),
        weak_etag: etag
            .filter(|etag| etag.starts_with("W/"))
            .map(str::to_owned),
        last_modified: text(headers, &header::LAST_MODIFIED).map(|date| date.trim().to_owned()),
        ranges: !encoded
            && (response.status() == StatusCode::PARTIAL_CONTENT
                || text(headers, &header::ACCEPT_RANGES).is_some_and(accepts_bytes)),
        sha256: promised_sha256(headers).filter(|_| !encoded),
        checksum: None,
        content_type: text(headers, &header::CONTENT_TYPE).map(media_type),
        disposition_name: text(headers, &header::CONTENT_DISPOSITION).and_then(disposition_name),
        final_url: (at.as_str() != asked.as_str()).then(|| at.clone()),
    }
}

/// Whether the body is compressed although nobody asked for that: object stores send what was
/// stored so.
pub(super) fn is_gzip(response: &Response) -> bool {
    response.status() != StatusCode::PARTIAL_CONTENT
        && matches!(
            encoding(response.headers()).as_deref(),
            Some("gzip" | "x-gzip")
        )
}

/// How the body differs from the file, in lower case.
fn encoding(headers: &HeaderMap) -> Option<String> {
    text(headers, &header::CONTENT_ENCODING)
        .map(|encoding| encoding.trim().to_ascii_lowercase())
        .filter(|encoding| encoding != "identity")
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // Names in raw UTF-8 are common; `to_str` would refuse them.
    headers
        .get(name)
        .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
}

fn accepts_bytes(value: &str) -> bool {
    value
        .split(',')
        .any(|unit| unit.trim().eq_ignore_ascii_case("bytes"))
}

fn total(headers: &HeaderMap) -> Option<u64> {
    content_range(text(headers, &header::CONTENT_RANGE)?)?.total
}

/// Where a partial answer begins, which must be where it was asked to begin.
pub(super) fn offset(
    response: &Response,
    range: Option<ByteRange>,
    url: &Url,
) -> Result<u64, StorageError> {
    let start = text(response.headers(), &header::CONTENT_RANGE)
        .and_then(content_range)
        .and_then(|range| range.start);
    match (start, range) {
        (Some(start), Some(range)) if start == range.start => Ok(start),
        _ => Err(StorageError::new(
            ErrorKind::Transient,
            format!(
                "{} answered with another range than was asked for",
                public(url)
            ),
        )),
    }
}

/// `x-linked-etag` of Hugging Face's LFS files, or `Repr-Digest`/`Digest`, when it is a SHA-256 of
/// the whole file.
fn promised_sha256(headers: &HeaderMap) -> Option<String> {
    use base64::Engine;
    let linked = headers
        .get("x-linked-etag")
        .and_then(|value| value.to_str().ok())
        .map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
    if let Some(linked) =
        linked.filter(|etag| etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return Some(linked.to_ascii_lowercase());
    }
    let digest = ["repr-digest", "digest"]
        .into_iter()
        .find_map(|name| headers.get(name)?.to_str().ok())?;
    let encoded = digest.split(',').find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        name.eq_ignore_ascii_case("sha-256")
            .then(|| value.trim_matches(':').to_owned())
    })?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .ok()
        .filter(|bytes| bytes.len() == 32)?;
    Some(hex::encode(&bytes))
}

/// What an answer that is no success means, and the origin's own words (F22).
pub(super) async fn status_error(
    response: Response,
    url: &Url,
    secrets: &[String],
) -> StorageError {
    let status = response.status();
    let shown = public(url);
    let (kind, meaning) = match status.as_u16() {
        401 | 403 => (ErrorKind::Unauthorized, "it wants credentials, or others"),
        404 | 410 => (ErrorKind::NotFound, "it is not there"),
        // The file has shrunk under a resumed download: from the beginning, then.
        412 | 416 => (ErrorKind::Transient, "the file has changed meanwhile"),
        _ if retry::is_transient_status(status) => {
            (ErrorKind::Transient, "the server cannot answer now")
        }
        _ => (ErrorKind::Failed, "the server refuses"),
    };
    let retry_after = retry_after(response.headers());
    let headers = response.headers().clone();
    let body = error::read_refusal(response).await;
    let mut message = format!("{shown} answered {status}: {meaning}");
    if let Some(words) = error::origin_words(&headers, &body, secrets) {
        message.push_str(": ");
        message.push_str(&words);
    }
    StorageError {
        kind,
        message,
        retry_after,
    }
}
