//! The hub as a peer: who it is, what it is shown, and which client reaches whom.

use axum::http::header::{AUTHORIZATION, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method};
use reqwest::{Client, RequestBuilder, Response};
use url::Url;

use super::location;
use crate::config::{HfConfig, Secret};
use crate::net::Outbound;
use crate::storage::cloud::from_reqwest;
use crate::storage::{Auth, ErrorKind, StorageError, auth_headers};
use crate::telemetry::trace;

/// As browsers do.
const MAX_REDIRECTS: usize = 10;

/// The configured hub.
pub struct Hub {
    config: HfConfig,
    outbound: Outbound,
}

/// An answer that is no redirect, and what the hub said of the file on the way to it.
pub struct FollowedLink {
    /// The answer.
    pub response: Response,
    /// Where it came from.
    pub url: Url,
    /// `x-linked-*`, the first ones seen at the hub itself.
    pub linked: Linked,
}

/// What the hub promises of a file that lies elsewhere.
#[derive(Debug, Default, Clone)]
pub struct Linked {
    /// `x-linked-size`
    pub size: Option<u64>,
    /// `x-linked-etag` without quotes: for LFS and xet files their SHA-256.
    pub etag: Option<String>,
}

impl Linked {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            size: text("x-linked-size").and_then(|size| size.parse().ok()),
            etag: text("x-linked-etag")
                .map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned())
                .filter(|etag| !etag.is_empty()),
        }
    }
}

/// Where a redirect leads, or what is wrong with it.
fn next_hop(at: &Url, location: &HeaderValue) -> Result<Url, &'static str> {
    let next = location
        .to_str()
        .ok()
        .and_then(|location| at.join(location).ok());
    let Some(mut next) = next.filter(|next| matches!(next.scheme(), "http" | "https")) else {
        return Err("a redirect to something that is not an http(s) URL");
    };
    if at.scheme() == "https" && next.scheme() == "http" {
        return Err("a redirect from https to http, which is not followed");
    }
    // Userinfo in a Location must not turn into an Authorization header.
    let _ = next.set_username("");
    let _ = next.set_password(None);
    Ok(next)
}

impl Hub {
    /// Keeps the configuration.
    pub fn new(config: HfConfig, outbound: Outbound) -> Self {
        Self { config, outbound }
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Url {
        &self.config.endpoint
    }

    /// The token, which uploads cannot do without.
    pub fn token(&self) -> Result<&Secret, StorageError> {
        self.config.token.as_ref().ok_or_else(|| {
            StorageError::new(
                ErrorKind::Invalid,
                "Hugging Face uploads are not configured: set HF_TOKEN to a token with write \
                 permission",
            )
        })
    }

    /// What must not be quoted: a request's secrets, and the operator's token.
    pub fn secrets(&self, of_request: &[String]) -> Vec<String> {
        let token = self
            .config
            .token
            .iter()
            .map(|token| token.expose().to_owned());
        of_request.iter().cloned().chain(token).collect()
    }

    /// Whether a URL is one that the operator has chosen: the hub, and by setting HF_ENDPOINT also
    /// whom it sends us to. Where the public hub sends us to is checked like every address that
    /// came from outside.
    fn is_chosen(&self, url: &Url) -> bool {
        url.origin() == self.endpoint().origin() || !location::is_public_hub(self.endpoint())
    }

    /// The client for a request with a body to a URL that the hub gave.
    pub async fn sending(&self, url: &Url) -> Result<&Client, StorageError> {
        self.check(url).await?;
        Ok(self.outbound.client(!self.is_chosen(url)))
    }

    /// Behind a proxy the connection is not ours to check.
    async fn check(&self, url: &Url) -> Result<(), StorageError> {
        if self.is_chosen(url) {
            return Ok(());
        }
        self.outbound
            .check(url)
            .await
            .map_err(|refused| StorageError::new(ErrorKind::Invalid, refused.to_string()))
    }

    /// A URL that the hub gave. Behind a mirror it may still name the public hub itself.
    pub fn moved(&self, url: &Url) -> Url {
        if location::is_public_hub(url) {
            location::to_ask(url, self.endpoint()).0
        } else {
            url.clone()
        }
    }

    /// A request for a path of the API, with the token.
    pub fn api(&self, method: Method, path: &str) -> Result<RequestBuilder, StorageError> {
        let url = format!("{}/{path}", self.endpoint().as_str().trim_end_matches('/'));
        Ok(self
            .outbound
            .client(false)
            .request(method, url)
            .bearer_auth(self.token()?.expose()))
    }

    /// The headers and query that a download's credentials become; they go to the hub's origin
    /// only.
    pub fn credentials(
        &self,
        auth: Option<&Auth>,
        url: &mut Url,
    ) -> Result<HeaderMap, StorageError> {
        let mut headers = HeaderMap::new();
        let (name, text) = match auth {
            None => match &self.config.token {
                Some(token) => (AUTHORIZATION, format!("Bearer {}", token.expose())),
                None => return Ok(headers),
            },
            Some(Auth::Bearer { token }) => (AUTHORIZATION, format!("Bearer {}", token.expose())),
            Some(Auth::Basic { username, password }) => {
                let pair = auth_headers::basic(username, password.expose());
                (AUTHORIZATION, pair)
            }
            Some(Auth::Header {
                header_name,
                header_value,
            }) => {
                let name = auth_headers::name(header_name)?;
                (name, header_value.expose().to_owned())
            }
            Some(Auth::Query {
                query_param,
                query_value,
            }) => {
                url.query_pairs_mut()
                    .append_pair(query_param, query_value.expose());
                return Ok(headers);
            }
            Some(Auth::S3 { .. }) => {
                return Err(StorageError::new(
                    ErrorKind::Invalid,
                    "credentials of type \"s3\" are for s3:// URLs",
                ));
            }
        };
        headers.insert(name, auth_headers::value(&text)?);
        Ok(headers)
    }

    /// Sends a request without body and follows redirects: `private` headers go to the hub's origin
    /// only, https never becomes http. `open` headers are made for every hop anew from what is
    /// known of the file by then. With HEAD, the first answer that tells the size is enough.
    pub async fn follow(
        &self,
        method: Method,
        url: &Url,
        private: &HeaderMap,
        open: impl Fn(&Linked) -> HeaderMap,
    ) -> Result<FollowedLink, StorageError> {
        let shown = crate::config::public(url);
        let broken = |what: &str| StorageError::new(ErrorKind::Failed, format!("{shown}: {what}"));
        let mut at = url.clone();
        let mut linked = Linked::default();
        // Once away, credentials do not come back: the way home was chosen by somebody else.
        let mut home = true;
        for _ in 0..=MAX_REDIRECTS {
            home = home && at.origin() == self.endpoint().origin();
            self.check(&at).await?;
            let client = if self.is_chosen(&at) {
                self.outbound.operator()
            } else {
                self.outbound.guarded()
            };
            let mut request = client
                .request(method.clone(), at.clone())
                .headers(open(&linked));
            if home {
                request = request.headers(private.clone());
            }
            let response = request
                .send()
                .await
                .map_err(|error| from_reqwest(&shown, &error))?;
            trace::seen_status(response.status().as_u16());
            if home && linked.etag.is_none() && linked.size.is_none() {
                linked = Linked::of(response.headers());
            }
            let location = response
                .headers()
                .get(LOCATION)
                .filter(|_| response.status().is_redirection());
            let Some(location) = location else {
                return Ok(FollowedLink {
                    response,
                    url: at,
                    linked,
                });
            };
            if method == Method::HEAD && linked.size.is_some() {
                return Ok(FollowedLink {
                    response,
                    url: at,
                    linked,
                });
            }
            at = next_hop(&at, location).map_err(broken)?;
        }
        Err(broken("too many redirects"))
    }
}
