//! `s3://bucket/key` in its two spellings: percent-encoded as a URL should be, and raw as people
//! write keys.

use percent_encoding::percent_decode_str;

use crate::storage::backend::Source;
use crate::storage::{ErrorKind, StorageError};

/// Bytes.
const LONGEST_KEY: usize = 1024;

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Bucket.
    pub bucket: String,
    /// Key, as the service has it.
    pub key: String,
    /// `?versionId=` of the URL.
    pub version: Option<String>,
}

impl Location {
    /// Where an `s3://` URL may lead, the likeliest first: the key as it is written, as it is
    /// percent-encoded (the Node server stored that), and decoded (D21). A query or fragment that
    /// is no `versionId` belongs to the key, because keys may contain `?` and `#`.
    ///
    /// # Errors
    /// When bucket or key is missing or cannot be one.
    pub fn spellings(source: &Source) -> Result<Vec<Self>, StorageError> {
        let url = &source.url;
        let invalid = |what: &str| {
            StorageError::new(
                ErrorKind::Invalid,
                format!(
                    "{}: {what}; write it like s3://bucket/key",
                    crate::config::public(url)
                ),
            )
        };
        let bucket = percent_decode_str(url.host_str().unwrap_or_default())
            .decode_utf8_lossy()
            .into_owned();
        if bucket.is_empty()
            || url.port().is_some()
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return Err(invalid("the URL names no bucket"));
        }
        check_bucket(&bucket)?;
        let version = url
            .query_pairs()
            .find(|(name, _)| name == "versionId")
            .map(|(_, value)| value.into_owned());
        let keys = keys(source, version.is_some());
        let mut found: Vec<Self> = Vec::new();
        for key in keys {
            let fits = !key.is_empty() && key.len() <= LONGEST_KEY;
            if fits && found.iter().all(|known| known.key != key) {
                found.push(Self {
                    bucket: bucket.clone(),
                    key,
                    version: version.clone(),
                });
            }
        }
        if found.is_empty() {
            return Err(invalid("the key must have 1 to 1024 bytes"));
        }
        Ok(found)
    }

    /// For messages.
    pub fn shown(&self) -> String {
        // A key may contain what looks like a query with a token.
        crate::config::public_url(&format!("s3://{}/{}", self.bucket, self.key))
    }
}

/// The spellings of a key: as written, percent-encoded, decoded.
fn keys(source: &Source, versioned: bool) -> Vec<String> {
    let url = &source.url;
    let mut encoded = url.path().strip_prefix('/').unwrap_or_default().to_owned();
    let mut written = source
        .written
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'))
        .map_or_else(|| encoded.clone(), |(_, key)| key.to_owned());
    if versioned {
        let end = written.rfind('?').unwrap_or(written.len());
        written.truncate(end);
    } else {
        for (mark, rest) in [('?', url.query()), ('#', url.fragment())] {
            if let Some(rest) = rest {
                encoded.push(mark);
                encoded.push_str(rest);
            }
        }
    }
    let decoded = percent_decode_str(&written)
        .decode_utf8()
        .ok()
        .map(std::borrow::Cow::into_owned);
    let mut keys = vec![written, encoded];
    keys.extend(decoded);
    keys
}

/// A bucket's name becomes part of a host name or a path: nothing else may hide in it.
pub fn check_bucket(bucket: &str) -> Result<(), StorageError> {
    let fine = (3..=255).contains(&bucket.len())
        && bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
        && bucket
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        && !bucket.contains("..");
    if fine {
        Ok(())
    } else {
        Err(StorageError::new(
            ErrorKind::Invalid,
            format!("\"{bucket}\" cannot be the name of an S3 bucket"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn spellings(url: &str) -> Result<Vec<Location>, StorageError> {
        Location::spellings(&Source::new(Url::parse(url).unwrap(), url))
    }

    /// F07, D21.
    #[test]
    fn keys_survive_every_spelling() {
        let keys = |url: &str| -> Vec<String> {
            let found = spellings(url).unwrap();
            found.into_iter().map(|location| location.key).collect()
        };
        assert_eq!(keys("s3://bucket/a b+c.bin"), ["a b+c.bin", "a%20b+c.bin"]);
        assert_eq!(
            keys("s3://bucket/a%20b%2Bc.bin"),
            ["a%20b%2Bc.bin", "a b+c.bin"]
        );
        assert_eq!(
            keys("s3://bucket/models/ü/x.bin"),
            ["models/ü/x.bin", "models/%C3%BC/x.bin"]
        );
        assert_eq!(keys("s3://bucket/100%sure"), ["100%sure"]);
        assert_eq!(keys("s3://bucket/what?is#this"), ["what?is#this"]);
        assert_eq!(keys("s3://bucket/a/../b"), ["a/../b", "b"]);
        assert_eq!(keys("s3://Bucket_1//double//slash/"), ["/double//slash/"]);
        let versioned = spellings("s3://bucket/k?versionId=7").unwrap();
        assert_eq!(
            (versioned[0].key.as_str(), versioned[0].version.as_deref()),
            ("k", Some("7"))
        );
    }

    #[test]
    fn bad_locations_are_refused() {
        for url in [
            "s3://bucket",
            "s3://bucket/",
            "s3:///key",
            "s3://a/key",
            "s3://me:pw@bucket/key",
            "s3://bu..cket/key",
            "s3://bucket:80/key",
        ] {
            assert_eq!(
                spellings(url).unwrap_err().kind,
                ErrorKind::Invalid,
                "{url}"
            );
        }
    }
}
