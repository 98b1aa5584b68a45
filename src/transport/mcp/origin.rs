//! Pages in browsers: only our own, and those that may.

use axum::http::{HeaderMap, header};

use crate::error::{Code, Failure};

/// Checks who sent a request, if a browser says so. The scheme does not matter: a proxy in front
/// may speak TLS.
///
/// # Errors
/// 403 for a page of another site.
pub fn check(
    headers: &HeaderMap,
    authority: Option<&str>,
    allowed: &[String],
) -> Result<(), Failure> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or("?");
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .or(authority)
        .unwrap_or_default();
    let own = origin.split_once("://").is_some_and(|(scheme, from)| {
        let default = if scheme == "https" { ":443" } else { ":80" };
        let plain = |name: &str| {
            let name = name.to_ascii_lowercase();
            name.strip_suffix(default)
                .map(str::to_owned)
                .unwrap_or(name)
        };
        plain(from) == plain(host)
    });
    let may = allowed.iter().any(|one| one == "*" || one == origin);
    if (own || may) && origins.next().is_none() {
        return Ok(());
    }
    Err(Failure::new(
        Code::ForbiddenOrigin,
        "a page of another site sent this request: name its origin in CORS_ALLOWED_ORIGINS if it \
         may",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_pages_and_those_that_may() {
        let allowed = ["https://app.example".to_owned()];
        for (host, origin, good) in [
            ("localhost:3000", None, true),
            ("localhost:3000", Some("http://localhost:3000"), true),
            ("localhost:3000", Some("https://LOCALHOST:3000"), true),
            ("api.example", Some("https://api.example"), true),
            ("api.example:443", Some("https://api.example"), true),
            ("localhost:3000", Some("http://localhost:5173"), false),
            ("localhost:3000", Some("http://127.0.0.1:3000"), false),
            ("localhost:3000", Some("null"), false),
            ("localhost:3000", Some("https://evil.example"), false),
            ("localhost:3000", Some("https://app.example"), true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert("origin", origin.parse().unwrap());
            }
            assert_eq!(
                check(&headers, None, &allowed).is_ok(),
                good,
                "{host} {origin:?}"
            );
        }
    }
}
