//! Who may ask: keys, and browsers that come from other sites. And the number that every answer
//! bears.

use axum::body::HttpBody;
use axum::extract::{OriginalUri, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::Services;
use super::error::ApiError;
use crate::transport::access::key_fits;
use crate::transport::rest::Uncompressed;

const REQUEST_ID: &str = "x-comfy-request-id";
/// Below this length (bytes) an answer goes out as it is: HTTP libraries ask for compression each
/// time, and the few packets of a single job are not worth a compressor.
const WORTH_PACKING: u64 = 8 * 1024;

/// Gives every answer its number; the log line of what went wrong has it too.
pub async fn number(request: Request, next: Next) -> Response {
    let id = uuid::Uuid::new_v4().to_string();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    let status = response.status();
    if status.is_server_error() {
        tracing::error!(
            request_id = id,
            %method,
            path,
            status = status.as_u16(),
            "v2 request failed"
        );
    } else {
        tracing::debug!(request_id = id, %method, path, status = status.as_u16(), "v2 request");
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if response
        .body()
        .size_hint()
        .exact()
        .is_some_and(|length| length < WORTH_PACKING)
    {
        response.extensions_mut().insert(Uncompressed);
    }
    response
}

/// Refuses a request that needs a key and presents none, or that another site has made a browser
/// send.
pub fn refusal(state: &Services, request: &Request) -> Option<ApiError> {
    let path = request.extensions().get::<OriginalUri>().map_or_else(
        || request.uri().path().to_owned(),
        |uri| uri.0.path().to_owned(),
    );
    let path = path.trim_start_matches("/api/v2");
    // A signature opens the content for reading, and nothing else.
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads && let Some(good) = signed(state, path, request.uri().query()) {
        // Any page may show what has a signature.
        return (!good).then(late);
    }
    let open = path == "/health" || request.method() == Method::OPTIONS;
    let server = &state.config.server;
    if foreign(request.headers(), &server.cors_allowed_origins) {
        return Some(ApiError::new(
            StatusCode::FORBIDDEN,
            "forbidden_origin",
            "another site's page may not ask this server: add its origin to CORS_ALLOWED_ORIGINS",
        ));
    }
    if !open && !server.api_keys.is_empty() && !key_fits(&server.api_keys, request.headers()) {
        return Some(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "an API key is needed: send it as \"Authorization: Bearer <key>\" or \"X-API-Key: \
             <key>\"",
        ));
    }
    None
}

fn late() -> ApiError {
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "the signature of this address is wrong or too old: ask for the asset again to get a new \
         one",
    )
}

/// Whether an address of an asset's content is signed, and rightly so.
fn signed(state: &Services, path: &str, query: Option<&str>) -> Option<bool> {
    let id = path.strip_prefix("/assets/")?.strip_suffix("/content")?;
    let mut until = None;
    let mut signature = None;
    for (name, value) in url::form_urlencoded::parse(query?.as_bytes()) {
        match &*name {
            "expires" => until = value.parse::<i64>().ok().or(Some(0)),
            "signature" => signature = Some(value.into_owned()),
            _ => {}
        }
    }
    let signature = signature?;
    Some(
        state
            .jobs
            .store()
            .signature_is_good(id, until.unwrap_or(0), &signature),
    )
}

/// A browser sends this for a page of another site, which was not allowed to.
fn foreign(headers: &HeaderMap, allowed: &[String]) -> bool {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let origin = text(header::ORIGIN.as_str());
    if allowed.iter().any(|one| one == "*" || one == origin) {
        return false;
    }
    if text("sec-fetch-site") == "cross-site" {
        return true;
    }
    // A page that found our port by its name (DNS rebinding): the host is loopback, the page is
    // not.
    let host = text(header::HOST.as_str());
    !origin.is_empty() && is_loopback(host) && authority(origin) != Some(host)
}

fn authority(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, authority)| authority)
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_told_from_programs_and_our_own() {
        let headers = |list: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in list {
                headers.insert(*name, HeaderValue::from_str(value).unwrap());
            }
            headers
        };
        let cases: [(&[(&str, &str)], bool); 6] = [
            (&[("host", "localhost:3000")], false),
            (
                &[("host", "a.example"), ("sec-fetch-site", "cross-site")],
                true,
            ),
            (
                &[
                    ("host", "a.example"),
                    ("sec-fetch-site", "same-origin"),
                    ("origin", "https://a.example"),
                ],
                false,
            ),
            (
                &[
                    ("host", "127.0.0.1:3000"),
                    ("origin", "http://evil.example"),
                ],
                true,
            ),
            (
                &[("host", "[::1]:3000"), ("origin", "http://[::1]:3000")],
                false,
            ),
            (
                &[("host", "a.example"), ("origin", "https://b.example")],
                false,
            ),
        ];
        for (list, expected) in cases {
            assert_eq!(foreign(&headers(list), &[]), expected, "{list:?}");
        }
        let evil = headers(&[
            ("host", "127.0.0.1:3000"),
            ("origin", "http://evil.example"),
        ]);
        assert!(!foreign(&evil, &["http://evil.example".into()]));
    }
}
