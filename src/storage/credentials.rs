//! The five kinds of credentials, and the patterns that say for which URLs they are.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::config::Secret;

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

/// Credentials with the URLs that they are for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct Credential {
    /// `*` any characters but `/`, `**` any characters, `?` exactly one; the whole URL must match.
    #[schema(example = "https://files.example.com/**")]
    pub url_pattern: String,
    /// What to present.
    pub auth: Auth,
}

impl Auth {
    /// Everything in it that must not be shown.
    pub(super) fn secrets(&self) -> Vec<String> {
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

/// The credentials for a URL: those of the first pattern that matches.
pub(super) fn choose(credentials: &[Credential], url: &str) -> Option<Auth> {
    credentials
        .iter()
        .find(|credential| matches_pattern(&credential.url_pattern, url))
        .map(|credential| credential.auth.clone())
}

/// Whether the whole URL matches. Takes time in proportion to the lengths multiplied, whatever the pattern: it comes from a client.
pub fn matches_pattern(pattern: &str, url: &str) -> bool {
    enum Step {
        One(char),
        Any,
        WithinSegment,
        Anything,
    }
    let mut steps = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(char) = chars.next() {
        steps.push(match char {
            '*' if chars.next_if_eq(&'*').is_some() => Step::Anything,
            '*' => Step::WithinSegment,
            '?' => Step::Any,
            other => Step::One(other),
        });
    }
    // reached[n]: the URL so far can be the first n steps.
    let mut reached = vec![false; steps.len() + 1];
    reached[0] = true;
    let spread = |reached: &mut [bool]| {
        for (n, step) in steps.iter().enumerate() {
            if reached[n] && matches!(step, Step::WithinSegment | Step::Anything) {
                reached[n + 1] = true;
            }
        }
    };
    spread(&mut reached);
    for char in url.chars() {
        let mut next = vec![false; steps.len() + 1];
        for (n, step) in steps.iter().enumerate().filter(|(n, _)| reached[*n]) {
            match step {
                Step::One(wanted) => next[n + 1] |= *wanted == char,
                Step::Any => next[n + 1] = true,
                Step::WithinSegment => next[n] |= char != '/',
                Step::Anything => next[n] = true,
            }
        }
        spread(&mut next);
        reached = next;
    }
    reached.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_the_whole_url() {
        for (pattern, url, matches) in [
            ("https://h/a", "https://h/a", true),
            ("https://h/a", "https://h/ab", false),
            ("https://h/*", "https://h/a.bin", true),
            ("https://h/*", "https://h/d/a.bin", false),
            ("https://h/*", "https://h/", true),
            ("https://h/**", "https://h/d/a.bin?x=1", true),
            ("https://*.h/**", "https://evil/x.h/y", false),
            ("https://h/?.bin", "https://h/a.bin", true),
            ("https://h/?.bin", "https://h/.bin", false),
            ("https://h/?.bin", "https://h/ab.bin", false),
            ("**", "s3://anything/at/all", true),
            ("https://h/***x", "https://h/a/b/x", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches_pattern(pattern, url), matches, "{pattern} {url}");
        }
        let long = "a".repeat(5000);
        assert!(!matches_pattern(&"*a".repeat(200), &format!("{long}b")));
    }
}
