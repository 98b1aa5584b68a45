//! What a backend has to offer. The engine above (cache, single flight, retries, resume, parallel
//! ranges, verification) is the same for all of them; a backend makes single attempts and says
//! precisely how they failed.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use aws_smithy_checksums::ChecksumAlgorithm;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Auth, Progress, StorageError, Target, UploadFile};

/// A file at an origin, with the credentials to present.
#[derive(Debug, Clone)]
pub struct Source {
    /// The whole URL as the client gave it (userinfo and query included).
    pub url: Url,
    /// The same as it was written: keys of S3 may hold what a parser takes for syntax.
    pub written: String,
    /// The credentials that apply after all rules of precedence; `None` means the backend's own
    /// configuration.
    pub auth: Option<Auth>,
}

impl Source {
    /// A URL without credentials of its own.
    pub fn new(url: Url, written: impl Into<String>) -> Self {
        Self {
            url,
            written: written.into(),
            auth: None,
        }
    }

    /// What its requests carry and nobody may be shown: credentials, userinfo, signatures in the
    /// query.
    pub(in crate::storage) fn secrets(&self) -> Vec<String> {
        let mut secrets = self.auth.as_ref().map(Auth::secrets).unwrap_or_default();
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(text)
                .decode_utf8_lossy()
                .into_owned()
        };
        secrets.extend(self.url.password().map(decoded));
        let public = crate::config::public(&self.url);
        let values = self.url.query_pairs().map(|(_, value)| value.into_owned());
        secrets.extend(values.filter(|value| value.len() > 7 && !public.contains(value.as_str())));
        secrets
    }
}

/// A checksum as an origin states it.
#[derive(Debug, Clone)]
pub struct Checksum {
    /// CRC-32, CRC-32C, CRC-64/NVME or SHA-1.
    pub algorithm: ChecksumAlgorithm,
    /// Its bytes, most significant first.
    pub digest: Vec<u8>,
}

/// What an origin says of a file.
#[derive(Debug, Clone, Default)]
pub struct ObjectInfo {
    /// Bytes of the whole file, if it says so.
    pub size: Option<u64>,
    /// A strong validator for `If-Range` / `If-Match`, quotes included. Weak ones are left out.
    pub etag: Option<String>,
    /// A weak validator: good for comparing what is cached, not for putting parts together.
    pub weak_etag: Option<String>,
    /// `Last-Modified` as it was sent.
    pub last_modified: Option<String>,
    /// Byte ranges are served.
    pub ranges: bool,
    /// SHA-256 of the whole file in lower-case hex, if the origin promises one.
    pub sha256: Option<String>,
    /// Another checksum of the whole file, if the origin promises one.
    pub checksum: Option<Checksum>,
    /// Content type without parameters.
    pub content_type: Option<String>,
    /// File name of `Content-Disposition`, if any.
    pub disposition_name: Option<String>,
    /// Where redirects ended, if elsewhere.
    pub final_url: Option<Url>,
}

/// Bytes on their way.
pub struct ObjectStream {
    /// What the answer said of the whole file.
    pub info: ObjectInfo,
    /// Which byte of the file the body begins with: 0 when the origin ignored the range.
    pub offset: u64,
    /// The body. An error in the middle is a [`StorageError`] whose kind says whether a retry
    /// makes sense.
    pub body: BoxStream<'static, Result<Bytes, StorageError>>,
}

/// A range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive; `None` means to the end.
    pub end: Option<u64>,
}

/// As the header `Range` says it.
impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes={}-", self.start)?;
        self.end.map_or(Ok(()), |end| write!(f, "{end}"))
    }
}

/// One kind of storage. Methods make one attempt; the engine retries.
#[async_trait]
pub trait Backend: Send + Sync {
    /// `http`, `s3`, `azure` or `huggingface`: for metrics and logs.
    fn name(&self) -> &'static str;

    /// Whether a URL is this backend's. The first backend in the list that claims a URL gets it.
    fn claims(&self, url: &Url) -> bool;

    /// Whether an upload target is this backend's.
    fn takes(&self, target: &Target) -> bool;

    /// Asks about a file without fetching it. Only a success proves anything: the engine asks for
    /// one byte where it fails (F01).
    async fn head(&self, source: &Source) -> Result<ObjectInfo, StorageError>;

    /// Begins to fetch a file, or a range of it; `if_match` is an etag that must still hold, else
    /// the whole file comes (offset 0), as it is now.
    async fn open(
        &self,
        source: &Source,
        range: Option<ByteRange>,
        if_match: Option<&str>,
    ) -> Result<ObjectStream, StorageError>;

    /// Checks a target before anything runs: configured, well-formed, reachable by rule, able to
    /// sign if `signed`.
    async fn check(&self, target: &Target, signed: bool) -> Result<(), StorageError>;

    /// The stable URL of a file at a target (storage.md, "Uploads").
    fn url_of(&self, target: &Target, filename: &str) -> String;

    /// Uploads one file, streaming from disk.
    async fn upload(
        &self,
        target: &Target,
        file: &UploadFile,
        progress: Option<&Progress>,
        cancel: &CancellationToken,
    ) -> Result<(), StorageError>;

    /// Whether the files of one prompt go up together, in one act (a commit), by
    /// [`Backend::upload_together`].
    fn uploads_together(&self) -> bool {
        false
    }

    /// Uploads the files of one prompt in one act.
    async fn upload_together(
        &self,
        target: &Target,
        files: &[UploadFile],
        progress: Option<&Progress>,
        cancel: &CancellationToken,
    ) -> Result<(), StorageError> {
        for file in files {
            self.upload(target, file, progress, cancel).await?;
        }
        Ok(())
    }

    /// A GET URL that carries its own permission.
    async fn sign(
        &self,
        target: &Target,
        filename: &str,
        expiry: Duration,
    ) -> Result<String, StorageError>;
}
