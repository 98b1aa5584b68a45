//! From a source to a request: the URL without userinfo, and the headers that carry its
//! credentials.
//!
//! Exactly one kind of credentials is sent: per-request ones, else userinfo, else
//! `HTTP_AUTH_HEADER_NAME/VALUE` (storage.md).

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::super::auth_headers::basic;
use super::super::backend::Source;
use super::super::{Auth, ErrorKind, StorageError};
use crate::config::{HttpAuthHeader, public};

/// What is sent to the first origin.
pub(super) struct Prepared {
    /// Without userinfo; with the query parameter of [`Auth::Query`].
    pub url: Url,
    /// Headers for the first origin only.
    pub private: HeaderMap,
}

pub(super) fn prepare(
    source: &Source,
    fallback: Option<&HttpAuthHeader>,
) -> Result<Prepared, StorageError> {
    let mut url = source.url.clone();
    let userinfo = (!url.username().is_empty() || url.password().is_some()).then(|| {
        (
            decoded(url.username()),
            decoded(url.password().unwrap_or_default()),
        )
    });
    // Cannot fail: web URLs can have userinfo.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    let private = HeaderMap::new();
    let mut prepared = Prepared { url, private };
    authorize(&mut prepared, source, userinfo, fallback)?;
    Ok(prepared)
}

/// Adds the one kind of credentials that counts.
fn authorize(
    prepared: &mut Prepared,
    source: &Source,
    userinfo: Option<(String, String)>,
    fallback: Option<&HttpAuthHeader>,
) -> Result<(), StorageError> {
    let mut set = |name, text, what| set(&mut prepared.private, &source.url, name, text, what);
    match (&source.auth, userinfo, fallback) {
        (Some(Auth::Bearer { token }), _, _) => set(
            header::AUTHORIZATION,
            format!("Bearer {}", token.expose()),
            "token",
        )?,
        (Some(Auth::Basic { username, password }), _, _) => set(
            header::AUTHORIZATION,
            basic(username, password.expose()),
            "password",
        )?,
        (
            Some(Auth::Header {
                header_name,
                header_value,
            }),
            _,
            _,
        ) => {
            let name = credential_name(header_name, &source.url)?;
            set(name, header_value.expose().to_owned(), "header value")?;
        }
        (
            Some(Auth::Query {
                query_param,
                query_value,
            }),
            _,
            _,
        ) => add_parameter(&mut prepared.url, query_param, query_value.expose()),
        (Some(Auth::S3 { .. }), _, _) => {
            return Err(StorageError::new(
                ErrorKind::Invalid,
                format!(
                    "credentials of type s3 do not fit {}: they are for s3:// URLs",
                    public(&source.url)
                ),
            ));
        }
        (None, Some((username, password)), _) => set(
            header::AUTHORIZATION,
            basic(&username, &password),
            "password",
        )?,
        (None, None, Some(configured)) => {
            if let Ok(name) = HeaderName::from_bytes(configured.name.as_bytes()) {
                set(name, configured.value.expose().to_owned(), "header value")?;
            }
        }
        (None, None, None) => {}
    }
    Ok(())
}

fn set(
    headers: &mut HeaderMap,
    url: &Url,
    name: HeaderName,
    text: String,
    what: &str,
) -> Result<(), StorageError> {
    let Ok(mut value) = HeaderValue::from_str(&text) else {
        let message = format!(
            "the {what} for {} has characters that an HTTP header cannot carry",
            public(url)
        );
        return Err(StorageError::new(ErrorKind::Invalid, message));
    };
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// The header that a request names for its credentials.
fn credential_name(header_name: &str, url: &Url) -> Result<HeaderName, StorageError> {
    let name = HeaderName::from_bytes(header_name.as_bytes()).map_err(|_| {
        StorageError::new(
            ErrorKind::Invalid,
            format!(
                "auth.header_name for {} is not a valid HTTP header name",
                public(url)
            ),
        )
    })?;
    if FRAMING.contains(&name) {
        return Err(StorageError::new(
            ErrorKind::Invalid,
            format!("auth.header_name must not be {name}: it is no credential"),
        ));
    }
    Ok(name)
}

/// Headers by which a client could take the request apart.
const FRAMING: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::RANGE,
    header::TE,
];

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// `sas` is a whole query string. That nothing is replaced has been checked
/// ([`Auth::check_added_to`]).
fn add_parameter(url: &mut Url, name: &str, value: &str) {
    if name == "sas" {
        let added = value.trim_start_matches('?');
        let query = url
            .query()
            .filter(|query| !query.is_empty())
            .map_or_else(|| added.to_owned(), |query| format!("{query}&{added}"));
        url.set_query(Some(&query));
        return;
    }
    url.query_pairs_mut().append_pair(name, value);
}

/// What would end a path, and what no URL holds.
const NOT_IN_PATHS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'%')
    .add(b'\\');

/// A file name as part of a URL's path; slashes stay.
pub(super) fn encode_path(name: &str) -> String {
    utf8_percent_encode(name, NOT_IN_PATHS).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn prepared(url: &str, auth: Option<Auth>) -> (String, Option<String>, Option<String>) {
        let fallback = HttpAuthHeader {
            name: "x-key".into(),
            value: Secret::new("configured"),
            origins: None,
        };
        let prepared = prepare(
            &Source {
                auth,
                ..Source::new(Url::parse(url).unwrap(), url)
            },
            Some(&fallback),
        )
        .unwrap();
        let text = |name: &str| {
            prepared
                .private
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        (
            prepared.url.to_string(),
            text("authorization"),
            text("x-key"),
        )
    }

    #[test]
    fn one_kind_of_credentials_replaces_the_next() {
        let bearer = || {
            Some(Auth::Bearer {
                token: Secret::new("t"),
            })
        };
        assert_eq!(
            prepared("http://h/", None),
            ("http://h/".into(), None, Some("configured".into()))
        );
        assert_eq!(
            prepared("http://u:p%40@h/", None),
            ("http://h/".into(), Some("Basic dTpwQA==".into()), None)
        );
        assert_eq!(
            prepared("http://u:p@h/", bearer()),
            ("http://h/".into(), Some("Bearer t".into()), None)
        );
        let query = Some(Auth::Query {
            query_param: "sig".into(),
            query_value: Secret::new("a b&c"),
        });
        assert_eq!(
            prepared("http://u:p@h/?x=1", query),
            ("http://h/?x=1&sig=a+b%26c".into(), None, None)
        );
        let sas = Some(Auth::Query {
            query_param: "sas".into(),
            query_value: Secret::new("?sv=1&sig=2%3D"),
        });
        assert_eq!(
            prepared("http://h/f?x=1", sas),
            ("http://h/f?x=1&sv=1&sig=2%3D".into(), None, None)
        );
    }

    #[test]
    fn framing_headers_are_no_credentials() {
        let auth = Some(Auth::Header {
            header_name: "Host".into(),
            header_value: Secret::new("metadata"),
        });
        assert!(
            prepare(
                &Source {
                    auth,
                    ..Source::new(Url::parse("http://h/").unwrap(), "http://h/")
                },
                None
            )
            .is_err()
        );
    }
}
