//! How a request proves who sends it.

use std::collections::HashSet;

use axum::http::HeaderName;
use serde::Deserialize;
use url::Url;
use utoipa::ToSchema;

use crate::config::Secret;
use crate::limits::{MAX_URL, text};

/// Credentials for one download.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Auth {
    /// `Authorization: Bearer`
    Bearer {
        /// The token.
        #[schema(value_type = String, format = Password)]
        token: Secret,
    },
    /// `Authorization: Basic`
    Basic {
        /// User name.
        username: String,
        /// Password.
        #[schema(value_type = String, format = Password)]
        password: Secret,
    },
    /// Any header.
    Header {
        /// Its name.
        header_name: String,
        /// Its value.
        #[schema(value_type = String, format = Password)]
        header_value: Secret,
    },
    /// A query parameter.
    Query {
        /// Its name; `sas` means that the value is a whole SAS string.
        query_param: String,
        /// Its value.
        #[schema(value_type = String, format = Password)]
        query_value: Secret,
    },
    /// Keys for S3.
    S3 {
        /// Key.
        #[schema(value_type = String, format = Password)]
        access_key_id: Secret,
        /// Secret.
        #[schema(value_type = String, format = Password)]
        secret_access_key: Secret,
        /// Session token.
        #[serde(default)]
        #[schema(value_type = Option<String>, format = Password)]
        session_token: Option<Secret>,
        /// Region.
        #[serde(default)]
        region: Option<String>,
        /// Another S3 service; obeys the address guard.
        #[serde(default)]
        endpoint: Option<String>,
    },
}

impl Auth {
    /// Everything in it that must not be shown.
    pub(in crate::storage) fn secrets(&self) -> Vec<String> {
        use base64::Engine;
        let texts: Vec<&str> = match self {
            Self::Bearer { token } => vec![token.expose()],
            Self::Basic { username, password } => {
                let pair = format!("{username}:{}", password.expose());
                let encoded = base64::engine::general_purpose::STANDARD.encode(&pair);
                return vec![encoded, pair, password.expose().to_owned()];
            }
            Self::Header { header_value, .. } => {
                let value = header_value.expose();
                // "Bearer x" is quoted as x.
                let word = value.rsplit(' ').next().unwrap_or(value);
                vec![value, word]
            }
            Self::Query { query_value, .. } => {
                let value = query_value.expose();
                let encoded: String =
                    url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
                return vec![value.to_owned(), encoded];
            }
            Self::S3 {
                access_key_id,
                secret_access_key,
                session_token,
                ..
            } => {
                let mut texts = vec![access_key_id.expose(), secret_access_key.expose()];
                texts.extend(session_token.as_ref().map(Secret::expose));
                texts
            }
        };
        texts.into_iter().map(str::to_owned).collect()
    }
}

impl Auth {
    /// Whether every member can be sent as what it is. Nothing is asked of any origin otherwise
    /// (attack.md, A22).
    ///
    /// # Errors
    /// The member, and a sentence without its value.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let header = |text: &str, member: &'static str| {
            let sent = |char: char| char.is_ascii() && !char.is_ascii_control() || char == '\t';
            unsendable(text, member, sent).map_err(|reason| (member, reason))
        };
        let text = |text: &str, member: &'static str| {
            unsendable(text, member, |char| !char.is_control()).map_err(|reason| (member, reason))
        };
        match self {
            Self::Bearer { token } => header(token.expose(), "token"),
            Self::Basic { username, password } => {
                text(username, "username")?;
                text(password.expose(), "password")
            }
            Self::Header {
                header_name,
                header_value,
            } => {
                check_header_name(header_name).map_err(|reason| ("header_name", reason))?;
                header(header_value.expose(), "header_value")
            }
            Self::Query {
                query_param,
                query_value,
            } => {
                text(query_param, "query_param")?;
                text(query_value.expose(), "query_value")
            }
            Self::S3 {
                access_key_id,
                secret_access_key,
                session_token,
                region,
                endpoint,
            } => {
                header(access_key_id.expose(), "access_key_id")?;
                text(secret_access_key.expose(), "secret_access_key")?;
                if let Some(session_token) = session_token {
                    header(session_token.expose(), "session_token")?;
                }
                if let Some(region) = region {
                    header(region, "region")?;
                }
                endpoint.as_deref().map_or(Ok(()), |endpoint| {
                    if endpoint.len() > MAX_URL {
                        let message = format!(
                            "this URL has {} bytes: at most {MAX_URL} are taken",
                            endpoint.len()
                        );
                        return Err(("endpoint", message));
                    }
                    text(endpoint, "endpoint")
                })
            }
        }
    }

    /// Credentials in the query may add to the URL, but not replace or repeat what it says: that
    /// could be another file.
    ///
    /// # Errors
    /// A sentence.
    pub fn check_added_to(&self, url: &Url) -> Result<(), String> {
        let Self::Query {
            query_param,
            query_value,
        } = self
        else {
            return Ok(());
        };
        let whole = query_value.expose().trim().trim_start_matches('?');
        let added: Vec<String> = if query_param.eq_ignore_ascii_case("sas") {
            url::form_urlencoded::parse(whole.as_bytes())
                .map(|(name, _)| name.into_owned())
                .collect()
        } else {
            vec![query_param.clone()]
        };
        let known: HashSet<String> = url
            .query_pairs()
            .map(|(name, _)| name.to_lowercase())
            .collect();
        match added
            .iter()
            .find(|name| known.contains(&name.to_lowercase()))
        {
            None => Ok(()),
            Some(name) => Err(format!(
                "the credentials would replace the parameter \"{}\" of the URL: they may only add \
                 one",
                text::shorten(name, 60)
            )),
        }
    }
}

/// Headers by which a client could take the request apart, or have another file answered
/// (attack.md, A02).
const NO_CREDENTIALS: &[&str] = &[
    "host",
    "range",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "forwarded",
    "via",
    "x-original-url",
    "x-rewrite-url",
    "x-original-host",
    "x-host",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "http2-settings",
    "proxy-connection",
];

const NO_CREDENTIALS_BEGIN: &[&str] = &["content-", "accept", "if-", "x-forwarded-"];

fn check_header_name(name: &str) -> Result<(), String> {
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err("\"header_name\" is not a valid HTTP header name".to_owned());
    };
    let name = parsed.as_str();
    let refused = NO_CREDENTIALS.contains(&name)
        || NO_CREDENTIALS_BEGIN
            .iter()
            .any(|begin| name.starts_with(begin));
    if refused {
        return Err(format!(
            "\"header_name\" must not be {}: that header chooses or frames the answer, it is no \
             credential",
            text::shorten(name, 60)
        ));
    }
    Ok(())
}

/// `allowed` says of each character whether it can be sent.
pub(super) fn unsendable(
    text: &str,
    what: &str,
    allowed: impl Fn(char) -> bool,
) -> Result<(), String> {
    match text.chars().position(|char| !allowed(char)) {
        None => Ok(()),
        Some(at) => Err(format!(
            "{what} has a character that cannot be sent: its character {}",
            at + 1
        )),
    }
}
