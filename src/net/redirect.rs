//! Following redirects by our own rules: credentials stay at the origin they were given for, https
//! never becomes http, and every hop passes the address guard (literal addresses and names alike,
//! see [`super::guard`]).

use axum::http::{HeaderMap, Method, StatusCode, header};
use reqwest::{Client, Response};
use url::Url;

use super::{Outbound, Refused};

/// As browsers do.
const MAX_REDIRECTS: usize = 10;

/// Why a request did not end in an answer that is no redirect.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The network, or the address guard.
    #[error(transparent)]
    Request(#[from] reqwest::Error),
    /// A hop may not be reached.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// The redirects themselves are at fault.
    #[error("{0}")]
    Redirect(String),
}

/// Sends a request without body and follows redirects. `open` headers go everywhere, `private` ones
/// only to the first origin. Returns the answer and where it came from.
///
/// # Errors
/// When a hop cannot be reached, leads from https to http, or there are too many.
pub async fn send(
    client: &Client,
    method: Method,
    url: &Url,
    open: &HeaderMap,
    private: &HeaderMap,
) -> Result<(Response, Url), FollowError> {
    follow(client, None, method, url, open, private).await
}

/// [`send`] with the guarded client, for a URL that came from a client of ours. Behind a proxy,
/// where the connection is not ours to check, every hop is resolved and checked beforehand.
///
/// # Errors
/// As [`send`], and when a hop may not be reached.
pub async fn send_guarded(
    outbound: &Outbound,
    method: Method,
    url: &Url,
    open: &HeaderMap,
    private: &HeaderMap,
) -> Result<(Response, Url), FollowError> {
    follow(
        outbound.guarded(),
        Some(outbound),
        method,
        url,
        open,
        private,
    )
    .await
}

async fn follow(
    client: &Client,
    guard: Option<&Outbound>,
    method: Method,
    url: &Url,
    open: &HeaderMap,
    private: &HeaderMap,
) -> Result<(Response, Url), FollowError> {
    let mut at = url.clone();
    // Once away, credentials do not come back: the way home was chosen by somebody else.
    let mut home = true;
    for _ in 0..=MAX_REDIRECTS {
        if let Some(outbound) = guard {
            outbound.check_hop(&at).await?;
        }
        home = home && at.origin() == url.origin();
        let mut request = client
            .request(method.clone(), at.clone())
            .headers(open.clone());
        if home {
            request = request.headers(private.clone());
        }
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        let Some(next) = next_hop(&at, &response)? else {
            return Ok((response, at));
        };
        at = next;
    }
    Err(FollowError::Redirect(format!(
        "more than {MAX_REDIRECTS} redirects"
    )))
}

fn next_hop(at: &Url, response: &Response) -> Result<Option<Url>, FollowError> {
    use StatusCode as S;
    if !matches!(
        response.status(),
        S::MOVED_PERMANENTLY
            | S::FOUND
            | S::SEE_OTHER
            | S::TEMPORARY_REDIRECT
            | S::PERMANENT_REDIRECT
    ) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(header::LOCATION) else {
        return Ok(None);
    };
    // Some servers send raw UTF-8; the URL parser encodes it.
    let next = std::str::from_utf8(location.as_bytes())
        .ok()
        .and_then(|location| at.join(location).ok());
    let Some(mut next) = next else {
        return Err(FollowError::Redirect(
            "a redirect to something that is not a URL".to_owned(),
        ));
    };
    if !matches!(next.scheme(), "http" | "https") {
        return Err(FollowError::Redirect(format!(
            "a redirect to {}://, which is not followed",
            next.scheme()
        )));
    }
    if at.scheme() == "https" && next.scheme() == "http" {
        return Err(FollowError::Redirect(
            "a redirect from https to http, which is not followed".to_owned(),
        ));
    }
    // Userinfo in a Location is the server's doing, not the client's: it must not turn into an
    // Authorization header.
    let _ = next.set_username("");
    let _ = next.set_password(None);
    Ok(Some(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(from: &str, location: &str) -> Result<Option<String>, String> {
        let answer = axum::http::Response::builder()
            .status(302)
            .header(header::LOCATION, location)
            .body("")
            .unwrap();
        next_hop(&Url::parse(from).unwrap(), &Response::from(answer))
            .map(|next| next.map(String::from))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn https_never_becomes_http() {
        assert_eq!(
            hop("https://a/x", "https://b/y"),
            Ok(Some("https://b/y".into()))
        );
        assert_eq!(hop("https://a/x", "//b/y"), Ok(Some("https://b/y".into())));
        assert_eq!(
            hop("http://a/x", "https://b/y"),
            Ok(Some("https://b/y".into()))
        );
        assert!(
            hop("https://a/x", "http://a/x")
                .unwrap_err()
                .contains("https to http")
        );
        assert!(
            hop("https://a/x", "HTTP://b/y")
                .unwrap_err()
                .contains("https to http")
        );
    }

    #[test]
    fn userinfo_of_a_redirect_is_dropped() {
        assert_eq!(
            hop("http://a/x", "http://me:pw@b/y?z"),
            Ok(Some("http://b/y?z".into()))
        );
        assert!(
            hop("http://a/x", "ftp://b/y")
                .unwrap_err()
                .contains("ftp://")
        );
    }
}
