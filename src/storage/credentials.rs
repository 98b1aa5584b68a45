//! The five kinds of credentials, and the patterns that say for which URLs they are.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::HeaderName;
use serde::Deserialize;
use url::Url;
use utoipa::ToSchema;

use super::{ErrorKind, StorageError};
use crate::config::Secret;
use crate::limits::{self, MATCHING_STEPS, MAX_PATTERN, MAX_URL, text};

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
    #[schema(example = "https://files.example.com/**", max_length = 1024)]
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

impl Credential {
    /// Why the pattern cannot be used, if it cannot.
    ///
    /// # Errors
    /// A sentence.
    pub fn check_pattern(&self) -> Result<(), String> {
        let length = self.url_pattern.chars().count();
        if length > MAX_PATTERN {
            return Err(format!(
                "this pattern has {length} characters: at most {MAX_PATTERN} are taken"
            ));
        }
        unsendable(&self.url_pattern, "the pattern", |char| !char.is_control())
    }
}

/// Headers by which a client could take the request apart, or have another file answered (attack.md, A02).
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

impl Auth {
    /// Whether every member can be sent as what it is. Nothing is asked of any origin otherwise (attack.md, A22).
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

    /// Credentials in the query may add to the URL, but not replace or repeat what it says: that could be another file.
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
                "the credentials would replace the parameter \"{}\" of the URL: they may only add one",
                text::shorten(name, 60)
            )),
        }
    }
}

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
            "\"header_name\" must not be {}: that header chooses or frames the answer, it is no credential",
            text::shorten(name, 60)
        ));
    }
    Ok(())
}

/// `allowed` says of each character whether it can be sent.
fn unsendable(text: &str, what: &str, allowed: impl Fn(char) -> bool) -> Result<(), String> {
    match text.chars().position(|char| !allowed(char)) {
        None => Ok(()),
        Some(at) => Err(format!(
            "{what} has a character that cannot be sent: its character {}",
            at + 1
        )),
    }
}

/// The credentials of a request, with their patterns read once. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Credentials(Option<Arc<Chosen>>);

#[derive(Debug)]
struct Chosen {
    list: Vec<(Pattern, Auth)>,
    /// Of [`MATCHING_STEPS`]; all URLs of the request draw on it.
    spent: AtomicU64,
}

impl From<Vec<Credential>> for Credentials {
    fn from(list: Vec<Credential>) -> Self {
        if list.is_empty() {
            return Self::default();
        }
        let list = list
            .into_iter()
            .map(|credential| (Pattern::new(&credential.url_pattern), credential.auth))
            .collect();
        Self(Some(Arc::new(Chosen {
            list,
            spent: AtomicU64::new(0),
        })))
    }
}

impl Credentials {
    /// The credentials for a URL: those of the first pattern that matches.
    ///
    /// # Errors
    /// When the request's patterns and URLs together have taken too much time.
    pub(super) fn choose(&self, url: &str) -> Result<Option<Auth>, StorageError> {
        let Some(chosen) = &self.0 else {
            return Ok(None);
        };
        let large = chosen.list.len() * url.len() > 16 * 1024;
        limits::off_runtime(large, || chosen.choose(url))
    }
}

impl Chosen {
    fn choose(&self, url: &str) -> Result<Option<Auth>, StorageError> {
        for (pattern, auth) in &self.list {
            let (matches, steps) = pattern.matches(url);
            if matches {
                return Ok(Some(auth.clone()));
            }
            if self.spent.fetch_add(steps, Ordering::Relaxed) > MATCHING_STEPS {
                return Err(StorageError::new(
                    ErrorKind::Invalid,
                    "the patterns in \"credentials\" take too long to compare with the URLs of this request: use shorter ones, with fewer *",
                ));
            }
        }
        Ok(None)
    }
}

/// A pattern as an automaton whose states are bits: state n means that the first n characters of the pattern, not counting stars,
/// have been met. A step is one word of such bits for one character of the URL, so there is nothing to go back over.
#[derive(Debug)]
struct Pattern {
    /// What the URL must begin with, before the first star or question mark.
    prefix: String,
    /// Characters after the prefix.
    length: usize,
    /// By character: in which states it leads on. Beside those in which any does.
    known: HashMap<char, Vec<u64>>,
    any: Vec<u64>,
    /// States with a `**` behind them, and with a `*`.
    stays: Vec<u64>,
    stays_in_segment: Vec<u64>,
}

impl Pattern {
    fn new(pattern: &str) -> Self {
        let end = pattern.find(['*', '?']).unwrap_or(pattern.len());
        let (prefix, rest) = pattern.split_at(end);
        let length = rest.chars().filter(|char| *char != '*').count();
        let words = length / 64 + 1;
        let mut made = Self {
            prefix: prefix.to_owned(),
            length,
            known: HashMap::new(),
            any: vec![0; words],
            stays: vec![0; words],
            stays_in_segment: vec![0; words],
        };
        let mut state = 0;
        let mut chars = rest.chars().peekable();
        while let Some(char) = chars.next() {
            let (word, bit) = (state / 64, 1_u64 << (state % 64));
            match char {
                '*' if chars.next_if_eq(&'*').is_some() => made.stays[word] |= bit,
                '*' => made.stays_in_segment[word] |= bit,
                '?' => {
                    made.any[word] |= bit;
                    state += 1;
                }
                other => {
                    made.known.entry(other).or_insert_with(|| vec![0; words])[word] |= bit;
                    state += 1;
                }
            }
        }
        made
    }

    /// Whether the whole URL matches, and how many steps that took.
    fn matches(&self, url: &str) -> (bool, u64) {
        let Some(rest) = url.strip_prefix(self.prefix.as_str()) else {
            return (false, 1);
        };
        let words = self.any.len();
        let mut states = vec![0_u64; words];
        states[0] = 1;
        let mut steps = 0;
        for char in rest.chars() {
            let known = self.known.get(&char);
            let mut carried = 0;
            let mut alive = false;
            for word in 0..words {
                let now = states[word];
                let leads_on = self.any[word] | known.map_or(0, |known| known[word]);
                let stays = self.stays[word]
                    | if char == '/' {
                        0
                    } else {
                        self.stays_in_segment[word]
                    };
                let moved = now & leads_on;
                states[word] = moved << 1 | carried | now & stays;
                carried = moved >> 63;
                alive |= states[word] != 0;
            }
            steps += words as u64;
            if !alive {
                return (false, steps);
            }
        }
        let last = states[self.length / 64] >> (self.length % 64) & 1;
        (last == 1, steps + 1)
    }
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
            ("*", "", true),
            ("?", "", false),
            ("h**?x", "h/a/x", true),
            ("ä*ü", "äöü", true),
            ("a*/**/*.bin", "a/b/c/d.bin", true),
            ("a*/**/*.bin", "a/d.bin", false),
        ] {
            assert_eq!(
                Pattern::new(pattern).matches(url).0,
                matches,
                "{pattern} {url}"
            );
        }
        for length in [63, 64, 65, 127, 128, 300] {
            let pattern = format!("*{}", "a".repeat(length));
            let matches = |url: String| Pattern::new(&pattern).matches(&url).0;
            assert!(matches("a".repeat(length)) && matches("a".repeat(length + 9)));
            assert!(
                !matches("a".repeat(length - 1)) && !matches(format!("{}b", "a".repeat(length)))
            );
        }
    }

    fn credential(pattern: &str, token: &str) -> Credential {
        Credential {
            url_pattern: pattern.to_owned(),
            auth: Auth::Bearer {
                token: Secret::new(token),
            },
        }
    }

    #[test]
    fn the_first_pattern_that_matches_counts() {
        let credentials: Credentials = vec![
            credential("https://h/a*", "1"),
            credential("https://h/**", "2"),
        ]
        .into();
        let token = |url| match credentials.choose(url).unwrap() {
            Some(Auth::Bearer { token }) => token.expose().to_owned(),
            _ => String::new(),
        };
        assert_eq!(
            ["https://h/ab", "https://h/b", "https://i/"].map(token),
            ["1", "2", ""]
        );
    }

    /// A20: a hundred patterns of a thousand characters and 64 URLs of 7 kB.
    #[test]
    fn choosing_ends_whatever_the_patterns_are() {
        let pattern = format!("{}b", "**a".repeat(340));
        let credentials: Credentials = vec![credential(&pattern, "1"); 100].into();
        let url = "a".repeat(7_000);
        let steps: u64 = (0..64)
            .map_while(|_| credentials.choose(&url).ok())
            .map(|found| u64::from(found.is_some()))
            .sum();
        assert_eq!(steps, 0);
        let failure = credentials.choose(&url).unwrap_err();
        assert!(failure.message.contains("too long"), "{failure}");
        let spent = credentials.0.unwrap().spent.load(Ordering::Relaxed);
        assert!(spent < 2 * MATCHING_STEPS, "{spent}");
    }

    /// A20: what is usual stays far below the limit.
    #[test]
    fn a_hundred_credentials_and_a_thousand_urls_are_fine() {
        let list = (0..100).map(|n| {
            credential(
                &format!("https://host-{n}.example.com/**/*.safetensors"),
                "1",
            )
        });
        let credentials: Credentials = list.collect::<Vec<_>>().into();
        for n in 0..1_000 {
            let url = format!("https://host-99.example.com/models/{n}/a.safetensors?version=7");
            assert!(credentials.choose(&url).unwrap().is_none());
            assert!(
                credentials
                    .choose(&url[..url.len() - 10])
                    .unwrap()
                    .is_some()
            );
        }
    }

    /// A02
    #[test]
    fn a_query_only_adds() {
        let query = |name: &str, value: &str| Auth::Query {
            query_param: name.into(),
            query_value: Secret::new(value),
        };
        let url = Url::parse("https://h/f?file=good&Sig=1&x%79=2").unwrap();
        for auth in [
            query("file", "evil"),
            query("FILE", "evil"),
            query("xy", "3"),
            query("sas", "?sv=1&sig=2"),
            query("SAS", "sv=1&%66ile=2"),
        ] {
            assert!(auth.check_added_to(&url).is_err(), "{auth:?}");
        }
        for auth in [
            query("token", "t"),
            query("sas", "?sv=1&se=2"),
            query("f", "1"),
        ] {
            assert!(auth.check_added_to(&url).is_ok(), "{auth:?}");
        }
    }
}
