//! API keys, the same for every protocol over HTTP (http-api.md, "Access control").

use axum::http::{HeaderMap, header};

use crate::config::Secret;

/// Whether one of the presented keys is known. All are looked at, in constant time.
pub fn key_fits(keys: &[Secret], headers: &HeaderMap) -> bool {
    let known = |presented: &str| {
        keys.iter()
            .fold(false, |known, key| key.matches(presented) | known)
    };
    presented(headers).fold(false, |found, key| known(key) | found)
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
