//! `s3://bucket/key` in its two spellings: percent-encoded as a URL should be, and raw as people write keys.

use percent_encoding::percent_decode_str;
use url::Url;

use crate::storage::{ErrorKind, StorageError};

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Bucket.
    pub bucket: String,
    /// Key, decoded.
    pub key: String,
    /// `?versionId=` of the URL.
    pub version: Option<String>,
}

impl Location {
    /// Reads an `s3://` URL. A `%` that does not begin an encoded byte stands for itself; `+` always does; a query or fragment
    /// that is no `versionId` belongs to the key, because keys may contain `?` and `#`.
    ///
    /// # Errors
    /// When bucket or key is missing or cannot be one.
    pub fn of(url: &Url) -> Result<Self, StorageError> {
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
        let mut raw = url.path().strip_prefix('/').unwrap_or_default().to_owned();
        if version.is_none() {
            for (mark, rest) in [('?', url.query()), ('#', url.fragment())] {
                if let Some(rest) = rest {
                    raw.push(mark);
                    raw.push_str(rest);
                }
            }
        }
        let key = percent_decode_str(&raw)
            .decode_utf8()
            .map_err(|_| invalid("the key is not UTF-8"))?
            .into_owned();
        if key.is_empty() || key.len() > 1024 {
            return Err(invalid("the key must have 1 to 1024 bytes"));
        }
        Ok(Self {
            bucket,
            key,
            version,
        })
    }

    /// For messages.
    pub fn shown(&self) -> String {
        // A key may contain what looks like a query with a token.
        crate::config::public_url(&format!("s3://{}/{}", self.bucket, self.key))
    }
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
    use super::*;

    #[test]
    fn keys_survive_every_spelling() {
        let key = |url: &str| Location::of(&Url::parse(url).unwrap()).unwrap().key;
        assert_eq!(key("s3://bucket/a b+c.bin"), "a b+c.bin");
        assert_eq!(key("s3://bucket/a%20b%2Bc.bin"), "a b+c.bin");
        assert_eq!(key("s3://bucket/models/ü/x.bin"), "models/ü/x.bin");
        assert_eq!(key("s3://bucket/100% sure.bin"), "100% sure.bin");
        assert_eq!(key("s3://bucket/what?is#this"), "what?is#this");
        assert_eq!(key("s3://Bucket_1//double//slash/"), "/double//slash/");
        let versioned = Location::of(&Url::parse("s3://bucket/k?versionId=7").unwrap()).unwrap();
        assert_eq!(
            (versioned.key.as_str(), versioned.version.as_deref()),
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
                Location::of(&Url::parse(url).unwrap()).unwrap_err().kind,
                ErrorKind::Invalid,
                "{url}"
            );
        }
    }
}
