//! API keys (http-api.md, "Access control").

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::RouterState;
use crate::error::{Code, Failure};

/// Lets a request through if it needs no key or presents one.
pub async fn require_key(
    State(state): State<RouterState>,
    request: Request,
    next: Next,
) -> Response {
    let server = &state.config.server;
    let open = match request.uri().path() {
        "/health" | "/ready" => true,
        "/metrics" => !server.metrics_require_key,
        // A browser asks for permission without credentials.
        _ => request.method() == Method::OPTIONS,
    };
    let known = |presented: &str| {
        server
            .api_keys
            .iter()
            .fold(false, |known, key| key.matches(presented) | known)
    };
    if server.api_keys.is_empty()
        || open
        || presented(request.headers()).fold(false, |found, key| known(key) | found)
    {
        return next.run(request).await;
    }
    Failure::new(
        Code::Unauthorized,
        "an API key is needed: send it as \"Authorization: Bearer <key>\" or \"X-API-Key: <key>\"",
    )
    .into_response()
}

/// Both headers count: a proxy in front may use `Authorization` for itself.
fn presented(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
    let own = headers
        .get("x-api-key")
        .and_then(|value| value.to_str().ok())
        .map(str::trim);
    [bearer, own].into_iter().flatten()
}
