//! Values that must never be printed, and URLs that hide the secret part of themselves.

use std::fmt;

use subtle::ConstantTimeEq;
use url::Url;

/// A secret string. `Debug` and `Display` print `***`; the text is reached only through
/// [`Secret::expose`].
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends or signs with it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares without telling by its duration how much of the text agreed.
    pub fn matches(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// The form of a URL that may be logged, answered and stored: no userinfo, no fragment, and of the
/// query only those parameters whose names say that they carry no secret.
///
/// A text that is not a URL is returned up to its first `?`, because it may be a mistyped URL with
/// a token in it.
pub fn public_url(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if !url.cannot_be_a_base() => public(&url),
        parsed => {
            let head = text.split(['?', '#']).next().unwrap_or_default();
            // A mistyped URL may still carry userinfo: `htps//user:pass@host`, `user:pass@host`.
            match head.rsplit_once('@') {
                Some((_, tail)) if parsed.is_ok() || head.contains("//") => format!("***@{tail}"),
                _ => head.to_owned(),
            }
        }
    }
}

/// [`public_url`] of a URL that is parsed already.
pub fn public(url: &Url) -> String {
    let mut shown = url.clone();
    // Both setters only fail for URLs that cannot have userinfo, which then have nothing to hide.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    if url.query().is_some() {
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| is_public_parameter(name))
            .map(|(n, v)| (n.into_owned(), v.into_owned()))
            .collect();
        if kept.is_empty() {
            shown.set_query(None);
        } else {
            shown.query_pairs_mut().clear().extend_pairs(kept);
        }
    }
    shown.into()
}

/// Query parameters that are known to describe a file, not to open it. An allow-list: an unknown
/// name may be a token.
fn is_public_parameter(name: &str) -> bool {
    const PUBLIC: &[&str] = &[
        "type",
        "format",
        "size",
        "fp",
        "download",
        "filename",
        "file",
        "name",
        "path",
        "ref",
        "revision",
        "version",
        "versionid",
        "subfolder",
        "id",
        "v",
    ];
    PUBLIC.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_everything_that_may_open_them() {
        assert_eq!(
            public_url("https://me:pw@h.example/a/b.bin?sig=abc&type=Model#frag"),
            "https://h.example/a/b.bin?type=Model"
        );
        assert_eq!(
            public_url("https://h.example/a?X-Amz-Signature=1&X-Amz-Credential=2"),
            "https://h.example/a"
        );
        assert_eq!(public_url("s3://bucket/key"), "s3://bucket/key");
        assert_eq!(public_url("htps//me:pw@host/x?token=1"), "***@host/x");
        assert_eq!(
            (public_url("me:pw@host"), public_url("a@b.png")),
            ("***@host".to_owned(), "a@b.png".to_owned())
        );
    }

    #[test]
    fn secrets_do_not_print_themselves() {
        let secret = Secret::new("marked");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert!(secret.matches("marked") && !secret.matches("marke") && !secret.matches("other!"));
    }
}
