//! API keys (http-api.md, "Access control").

use axum::extract::Request;
use axum::http::Method;

use super::Services;
use crate::error::{Code, Failure};
use crate::transport::access::key_fits;
use crate::transport::console;

/// Refuses a request that needs a key and presents none.
pub fn refusal(state: &Services, request: &Request) -> Option<Failure> {
    let server = &state.config.server;
    let open = match request.uri().path() {
        "/health" | "/ready" => true,
        // There is no OAuth, and clients that look for it shall see that rather than ask for a key.
        path if path.starts_with("/.well-known/") => true,
        "/metrics" => !server.metrics_require_key,
        // The address itself is what lets in.
        path if path.starts_with("/uploads/") => true,
        // Its files hold nothing; what it asks for carries the key.
        path if console::is_open(path) => true,
        // A browser asks for permission without credentials.
        _ => request.method() == Method::OPTIONS,
    };
    if server.api_keys.is_empty() || open || key_fits(&server.api_keys, request.headers()) {
        return None;
    }
    Some(Failure::new(
        Code::Unauthorized,
        "an API key is needed: send it as \"Authorization: Bearer <key>\" or \"X-API-Key: <key>\"",
    ))
}
