//! The second origin, where large files are.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::{State, refusal, sha256};

pub(super) fn cdn(
    state: &mut State,
    method: &Method,
    segments: &[&str],
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    let sized = headers.contains_key(header::CONTENT_LENGTH)
        && !headers.contains_key(header::TRANSFER_ENCODING);
    match (method.as_str(), segments) {
        ("PUT", _) if !sized => (StatusCode::NOT_IMPLEMENTED, "Transfer-Encoding").into_response(),
        ("PUT", ["upload", oid]) if sha256(&body) == *oid => {
            state.lfs.insert((*oid).to_owned(), body.to_vec());
            StatusCode::OK.into_response()
        }
        ("PUT", ["part", oid, part]) => {
            state
                .parts
                .entry((*oid).to_owned())
                .or_default()
                .insert(part.parse().unwrap(), body.to_vec());
            (StatusCode::OK, [(header::ETAG, format!("\"part-{part}\""))]).into_response()
        }
        // The CDN's own etag is another one than the hub's.
        ("GET" | "HEAD", [oid]) if state.lfs.contains_key(*oid) => {
            ranged(&state.lfs[*oid], "\"cdn-etag\"", headers)
        }
        _ => StatusCode::FORBIDDEN.into_response(),
    }
}

pub(super) fn complete(state: &mut State, oid: &str, body: &[u8]) -> Response {
    let asked: Value = serde_json::from_slice(body).unwrap();
    let parts = state.parts.remove(oid).unwrap_or_default();
    let named: Vec<_> = asked["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["partNumber"].as_u64().unwrap() as usize)
        .collect();
    let etags = asked["parts"].as_array().unwrap().iter().all(|part| {
        part["etag"]
            .as_str()
            .is_some_and(|etag| etag.contains("part-"))
    });
    let bytes: Vec<u8> = parts.values().flatten().copied().collect();
    if !etags || !named.iter().copied().eq(parts.keys().copied()) || sha256(&bytes) != oid {
        return refusal(400, "", "the parts do not fit");
    }
    state.lfs.insert(oid.to_owned(), bytes);
    StatusCode::OK.into_response()
}

pub(super) fn ranged(bytes: &[u8], etag: &str, headers: &HeaderMap) -> Response {
    let other = headers
        .get(header::IF_RANGE)
        .is_some_and(|wanted| wanted != etag);
    let range = headers
        .get(header::RANGE)
        .filter(|_| !other)
        .and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let common = [
        (header::ETAG, etag.to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ];
    let Some((start, end)) = range else {
        return (StatusCode::OK, common, Body::from(bytes.to_vec())).into_response();
    };
    let start: usize = start.parse().unwrap();
    let end = end
        .parse()
        .map_or(bytes.len(), |end: usize| (end + 1).min(bytes.len()));
    if start >= end {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let content = [(
        header::CONTENT_RANGE,
        format!("bytes {start}-{}/{}", end - 1, bytes.len()),
    )];
    (
        StatusCode::PARTIAL_CONTENT,
        common,
        content,
        Body::from(bytes[start..end].to_vec()),
    )
        .into_response()
}
