//! The answer that a stream of server-sent events is, the same for every protocol over HTTP.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;

use super::rest::Uncompressed;

/// Frames as they come; neither caches nor proxies hold them back, and nothing compresses them.
pub fn event_stream(frames: Body) -> Response {
    let mut response = Response::new(frames);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.extensions_mut().insert(Uncompressed);
    response
}
