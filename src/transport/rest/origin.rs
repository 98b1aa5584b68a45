//! Pages in a browser that are not ours (attack.md, A21; v2.md, `forbidden_origin`).
//!
//! A page of a stranger can send requests to a server on the same machine. It either comes from
//! another site, and the browser says so; or its name was made to resolve to this machine (DNS
//! rebinding), and then the name is what gives it away.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, header};

use super::Services;
use super::serve::Peer;
use crate::config::ServerConfig;
use crate::error::{Code, Failure};

const SITE: &str = "sec-fetch-site";
/// A proxy in front is what is reached from this machine then, not we. The names, or what they
/// begin with.
const PROXIED: [&str; 2] = ["forwarded", "via"];
const PROXIED_PREFIX: &str = "x-forwarded-";

/// Refuses a request that a browser sent for a page of a stranger.
pub fn refusal(state: &Services, request: &Request) -> Option<Failure> {
    check(request, &state.config.server).err()
}

fn check(request: &Request, server: &ServerConfig) -> Result<(), Failure> {
    let headers = request.headers();
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err(Failure::invalid(
            "headers.host",
            "there are two Host lines: send one",
        ));
    }
    let host = host(request);
    let changes = !matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    // The v2 API has the same rule, and exceptions from it, and answers in its own form.
    let own_rule = request.uri().path().starts_with("/api/v2/");
    if changes && !own_rule && is_cross_site(headers, &host, server) {
        return Err(Failure::new(
            Code::ForbiddenOrigin,
            "a page of another site sent this request: name its origin in CORS_ALLOWED_ORIGINS if \
             it may",
        ));
    }
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    if server.api_keys.is_empty() && is_rebound(headers, &host, peer, server) {
        return Err(Failure::new(
            Code::ForbiddenOrigin,
            "a browser on this machine asked for a name that is not this machine's: add the name \
             to ALLOWED_HOSTS if it is",
        ));
    }
    Ok(())
}

/// The name that was asked for, without the port.
fn host(request: &Request) -> String {
    let named = text(request.headers(), header::HOST.as_str())
        .and_then(|host| host.parse::<Authority>().ok());
    named
        .as_ref()
        .or(request.uri().authority())
        .map(|authority| authority.host().to_ascii_lowercase())
        .unwrap_or_default()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn is_cross_site(headers: &HeaderMap, host: &str, server: &ServerConfig) -> bool {
    let origin = text(headers, header::ORIGIN.as_str());
    let allowed = origin.is_some_and(|origin| {
        let allowed = &server.cors_allowed_origins;
        allowed.iter().any(|one| one == "*" || one == origin)
    });
    if allowed {
        return false;
    }
    let foreign = is_loopback(host) && headers.contains_key(header::ORIGIN) && {
        let from = origin
            .and_then(|origin| url::Url::parse(origin).ok())
            .and_then(|origin| origin.host_str().map(str::to_ascii_lowercase));
        // `null` and what is no URL is nobody we know.
        !from.is_some_and(|from| from == host || is_loopback(&from))
    };
    foreign || text(headers, SITE) == Some("cross-site")
}

/// Only a browser can have sent it, it comes from this machine, and the name is not this machine's.
fn is_rebound(
    headers: &HeaderMap,
    host: &str,
    peer: Option<IpAddr>,
    server: &ServerConfig,
) -> bool {
    let by_browser = headers.contains_key(header::ORIGIN) || headers.contains_key(SITE);
    by_browser
        && peer.is_some_and(|peer| peer.to_canonical().is_loopback())
        && !is_proxied(headers)
        && !is_loopback(host)
        && !server.allowed_hosts.iter().any(|allowed| allowed == host)
}

fn is_proxied(headers: &HeaderMap) -> bool {
    let mut names = headers.keys().map(header::HeaderName::as_str);
    names.any(|name| PROXIED.contains(&name) || name.starts_with(PROXIED_PREFIX))
}

fn is_loopback(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Config;

    fn code(method: &str, lines: &[(&str, &str)], variables: &[(&str, &str)]) -> Option<Code> {
        let env: BTreeMap<String, String> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let server = Config::from_env(&env).unwrap().server;
        let mut request = axum::http::Request::builder().method(method).uri("/prompt");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let mut request = request.body(axum::body::Body::empty()).unwrap();
        request
            .extensions_mut()
            .insert(Peer("::ffff:127.0.0.1".parse().unwrap()));
        check(&request, &server).err().map(|failure| failure.code)
    }

    /// A21
    #[test]
    fn pages_of_strangers_change_nothing() {
        let here = ("host", "127.0.0.1:3000");
        let forbidden = Some(Code::ForbiddenOrigin);
        let evil = ("origin", "https://evil.example");
        for (lines, expected) in [
            (vec![here], None),
            (vec![here, evil], forbidden),
            (vec![here, ("origin", "null")], forbidden),
            (vec![here, ("origin", "http://localhost:5173")], None),
            (vec![here, ("sec-fetch-site", "same-origin")], None),
            (vec![here, ("sec-fetch-site", "cross-site")], forbidden),
            (vec![("host", "api.example"), evil, ("via", "proxy")], None),
            (
                vec![
                    ("host", "api.example"),
                    ("via", "proxy"),
                    ("sec-fetch-site", "cross-site"),
                ],
                forbidden,
            ),
        ] {
            assert_eq!(code("POST", &lines, &[]), expected, "{lines:?}");
            let allowed = [("CORS_ALLOWED_ORIGINS", "https://evil.example")];
            if lines.contains(&evil) {
                assert_eq!(code("DELETE", &lines, &allowed), None, "{lines:?}");
            }
            if lines[0] == here {
                assert_eq!(code("GET", &lines, &[]), None, "{lines:?}");
            }
        }
    }

    /// A21
    #[test]
    fn a_name_that_was_made_to_resolve_to_this_machine_is_not_served() {
        let rebound = [
            ("host", "rebound.evil:3000"),
            ("origin", "http://rebound.evil:3000"),
        ];
        let forbidden = Some(Code::ForbiddenOrigin);
        assert_eq!(code("GET", &rebound, &[]), forbidden);
        assert_eq!(code("POST", &rebound, &[]), forbidden);
        let navigated = [("host", "rebound.evil"), ("sec-fetch-site", "none")];
        assert_eq!(code("GET", &navigated, &[]), forbidden);
        assert_eq!(
            code("GET", &navigated, &[("ALLOWED_HOSTS", "a.b, Rebound.evil")]),
            None
        );
        assert_eq!(code("GET", &navigated, &[("API_KEYS", "k")]), None);
        let by_proxy = [navigated[0], navigated[1], ("x-forwarded-for", "1.2.3.4")];
        assert_eq!(code("GET", &by_proxy, &[]), None);
        assert_eq!(
            code("GET", &[("host", "rebound.evil")], &[]),
            None,
            "no browser"
        );
        for own in [
            "localhost:3000",
            "127.9.9.9",
            "[::1]:3000",
            "app.localhost",
            "LOCALHOST",
        ] {
            let lines = [("host", own), ("sec-fetch-site", "same-origin")];
            assert_eq!(code("POST", &lines, &[]), None, "{own}");
        }
        let twice = [("host", "localhost"), ("host", "rebound.evil")];
        assert_eq!(code("GET", &twice, &[]), Some(Code::InvalidRequest));
    }
}
