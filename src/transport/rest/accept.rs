//! Whether a client wants its answer as a stream (`Accept`, faults.md, U4).

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

/// See [`wants_stream`].
#[derive(Debug, Clone, Copy)]
pub struct WantsStream(pub bool);

impl<S: Sync> FromRequestParts<S> for WantsStream {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(wants_stream(&parts.headers)))
    }
}

/// A stream only where `text/event-stream` is accepted by name, and not less wanted than JSON.
fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted: Vec<(String, f32)> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(weighted)
        .collect();
    let weight = |range: &str| {
        let named = accepted.iter().filter(|(name, _)| name == range);
        named.map(|(_, weight)| *weight).reduce(f32::max)
    };
    let stream = weight("text/event-stream").unwrap_or(0.0);
    let json = ["application/json", "application/*", "*/*"]
        .iter()
        .find_map(|range| weight(range));
    stream > 0.0 && stream >= json.unwrap_or(0.0)
}

/// A media range in lower case, and its `q`.
fn weighted(range: &str) -> (String, f32) {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let q = parts
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .and_then(|(_, value)| value.trim().parse::<f32>().ok());
    (name, q.unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// U4
    #[test]
    fn streams_are_for_those_who_want_them() {
        for (accept, stream) in [
            ("text/event-stream", true),
            ("Text/Event-Stream", true),
            ("text/event-stream, application/json", true),
            ("application/json, text/event-stream", true),
            ("text/event-stream, */*", true),
            (
                "text/event-stream; charset=utf-8; q=0.9, application/json;q=0.8",
                true,
            ),
            ("text/event-stream;q=0.1", true),
            ("text/event-stream;q=0, application/json", false),
            ("text/event-stream;q=0", false),
            ("text/event-stream; Q=0.0", false),
            ("application/json;q=0.9, text/event-stream;q=0.1", false),
            ("text/event-stream;q=0.5, */*", false),
            ("text/event-stream;q=0.5, application/json;q=0.4, */*", true),
            ("*/*", false),
            ("text/*", false),
            ("application/json", false),
            ("text/event-streams", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wants_stream(&headers), stream, "{accept}");
        }
        assert!(!wants_stream(&HeaderMap::new()));
        let mut two = HeaderMap::new();
        two.append(
            header::ACCEPT,
            HeaderValue::from_static("application/json;q=0.5"),
        );
        two.append(
            header::ACCEPT,
            HeaderValue::from_static("text/event-stream"),
        );
        assert!(wants_stream(&two));
    }
}
