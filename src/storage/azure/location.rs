//! Where a blob is: endpoint, container, name, and what the query says of it.

use percent_encoding::percent_decode_str;
use url::{Url, form_urlencoded};

use crate::storage::{ErrorKind, StorageError};

/// A blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The account's endpoint: `https://<account>.blob.core.windows.net`, or
    /// `http://127.0.0.1:10000/devstoreaccount1`.
    pub endpoint: Url,
    /// It is the operator's.
    pub own: bool,
    /// Container.
    pub container: String,
    /// Name, decoded.
    pub blob: String,
    /// The query as it is, decoded.
    pub query: Vec<(String, String)>,
    /// For messages.
    pub shown: String,
}

/// Whether a URL names a blob of the public cloud.
pub fn is_azure(url: &Url) -> bool {
    let account = url.host_str().and_then(|host| {
        host.trim_end_matches('.')
            .strip_suffix(".blob.core.windows.net")
    });
    matches!(url.scheme(), "http" | "https") && account.is_some_and(|account| !account.is_empty())
}

/// Whether a URL is under an endpoint.
pub fn is_below(url: &Url, endpoint: &Url) -> bool {
    let base = endpoint.path().trim_end_matches('/');
    url.origin() == endpoint.origin()
        && url
            .path()
            .strip_prefix(base)
            .is_some_and(|rest| rest.starts_with('/'))
}

impl Location {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// When it names no blob.
    pub fn of(url: &Url, own: Option<&Url>) -> Result<Self, StorageError> {
        let shown = crate::config::public(url);
        let own_endpoint = own.filter(|endpoint| is_below(url, endpoint));
        let mut endpoint = own_endpoint.cloned().unwrap_or_else(|| url.clone());
        let base = own_endpoint.map_or("", |endpoint| endpoint.path().trim_end_matches('/'));
        let path = url
            .path()
            .strip_prefix(base)
            .unwrap_or_default()
            .trim_start_matches('/');
        if own_endpoint.is_none() {
            endpoint.set_path("");
            let _ = endpoint.set_username("");
            let _ = endpoint.set_password(None);
        }
        endpoint.set_query(None);
        endpoint.set_fragment(None);
        let (container, blob) = path.split_once('/').unwrap_or(("$root", path));
        let decode = |text: &str| {
            percent_decode_str(text)
                .decode_utf8()
                .map(std::borrow::Cow::into_owned)
        };
        match (decode(container), decode(blob)) {
            (Ok(container), Ok(blob))
                if !container.is_empty() && !blob.trim_matches('/').is_empty() =>
            {
                let query = url
                    .query_pairs()
                    .map(|(name, value)| (name.into_owned(), value.into_owned()))
                    .collect();
                Ok(Self {
                    endpoint,
                    own: own_endpoint.is_some(),
                    container,
                    blob,
                    query,
                    shown,
                })
            }
            _ => Err(StorageError::new(
                ErrorKind::Invalid,
                format!(
                    "{shown}: the URL names no blob; write it like \
                     https://<account>.blob.core.windows.net/<container>/<blob>"
                ),
            )),
        }
    }

    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The query with one more parameter, encoded. A signature in base64 has no `%`: one that has
    /// is encoded already.
    pub fn query_with(&self, name: &str, value: &str) -> String {
        let value = if value.contains('%') {
            percent_decode_str(value).decode_utf8_lossy()
        } else {
            value.into()
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(
            self.query
                .iter()
                .filter(|(known, _)| !known.eq_ignore_ascii_case(name)),
        );
        query.append_pair(name, &value).finish()
    }
}

/// Names of containers as the service has them.
pub fn check_container(container: &str) -> Result<(), StorageError> {
    let plain = (3..=63).contains(&container.len())
        && container
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if plain || matches!(container, "$root" | "$web") {
        return Ok(());
    }
    Err(StorageError::new(
        ErrorKind::Invalid,
        format!(
            "\"{container}\" cannot be the name of an Azure container: 3 to 63 lower-case \
             letters, digits and hyphens"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str, own: Option<&str>) -> Location {
        Location::of(
            &Url::parse(url).unwrap(),
            own.map(|own| Url::parse(own).unwrap()).as_ref(),
        )
        .unwrap()
    }

    #[test]
    fn urls_are_taken_apart() {
        let blob = at(
            "https://acc.blob.core.windows.net/c/a%20b/%C3%BC.bin?sig=x%2By",
            None,
        );
        assert_eq!(
            (
                blob.endpoint.as_str(),
                blob.container.as_str(),
                blob.blob.as_str()
            ),
            ("https://acc.blob.core.windows.net/", "c", "a b/ü.bin")
        );
        assert_eq!(blob.parameter("sig"), Some("x+y"));
        let blob = at(
            "http://127.0.0.1:10000/devstoreaccount1/c/b",
            Some("http://127.0.0.1:10000/devstoreaccount1"),
        );
        assert_eq!(
            (blob.own, blob.container.as_str(), blob.blob.as_str()),
            (true, "c", "b")
        );
        assert_eq!(
            at("https://acc.blob.core.windows.net/b", None).container,
            "$root"
        );
    }

    #[test]
    fn a_neighbour_is_not_the_own_account() {
        let own = Some("https://mine.blob.core.windows.net/");
        assert!(at("https://mine.blob.core.windows.net/c/b", own).own);
        for other in [
            "https://other.blob.core.windows.net/c/b",
            "http://mine.blob.core.windows.net/c/b",
            "https://mine.blob.core.windows.net:8443/c/b",
        ] {
            assert!(!at(other, own).own, "{other}");
        }
        let azurite = Url::parse("http://127.0.0.1:10000/acc").unwrap();
        assert!(!is_below(
            &Url::parse("http://127.0.0.1:10000/acc2/c/b").unwrap(),
            &azurite
        ));
        assert!(!is_azure(
            &Url::parse("https://evilblob.core.windows.net/c/b").unwrap()
        ));
        assert!(!is_azure(
            &Url::parse("https://a.blob.core.windows.net.evil.example/c/b").unwrap()
        ));
    }

    #[test]
    fn signatures_are_taken_raw_and_encoded() {
        let blob = at("https://acc.blob.core.windows.net/c/b?sv=1&se=2", None);
        assert_eq!(blob.query_with("sig", "a+b/="), "sv=1&se=2&sig=a%2Bb%2F%3D");
        assert_eq!(
            blob.query_with("sig", "a%2Bb%2F%3D"),
            "sv=1&se=2&sig=a%2Bb%2F%3D"
        );
    }
}
