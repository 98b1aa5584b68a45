//! HTTP(S): GET with ranges, PUT. The backend for every web URL that no other backend claims.

mod answer;
mod failure;
mod request;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_compression::tokio::bufread::GzipDecoder;
use async_trait::async_trait;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::Response;
use tokio_util::io::{ReaderStream, StreamReader};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::backend::{Backend, ByteRange, ObjectInfo, ObjectStream, Source};
use super::{ErrorKind, Progress, StorageError, Target, UploadFile};
use crate::config::{HttpAuthHeader, StorageConfig, public, public_url};
use crate::net::Outbound;
use crate::net::redirect::send_guarded;
use crate::telemetry::trace::seen_status;
use failure::{follow_error, network_error, read_error};

/// Bytes read from disk at a time for a PUT.
const UPLOAD_BUFFER: usize = 256 * 1024;

/// Bytes decompressed at a time.
const DECODED: usize = 256 * 1024;

/// An upload of which the server takes nothing for so long, and that it does not answer either, is
/// tried again.
const UPLOAD_STALL: Duration = Duration::from_secs(120);

/// Any web server.
pub(super) struct HttpBackend {
    outbound: Outbound,
    auth: Option<HttpAuthHeader>,
}

impl HttpBackend {
    pub fn new(config: &StorageConfig, outbound: &Outbound) -> Self {
        Self {
            outbound: outbound.clone(),
            auth: config.http_auth.clone(),
        }
    }

    async fn send(
        &self,
        method: Method,
        source: &Source,
        range: Option<ByteRange>,
        if_match: Option<&str>,
    ) -> Result<(Response, Url), StorageError> {
        let prepared = request::prepare(source, self.fallback(&source.url))?;
        let mut open = HeaderMap::new();
        open.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        open.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        if let Some(range) = range {
            open.extend(
                HeaderValue::try_from(range.to_string())
                    .ok()
                    .map(|value| (header::RANGE, value)),
            );
            open.extend(
                if_match
                    .and_then(|etag| HeaderValue::from_str(etag).ok())
                    .map(|value| (header::IF_RANGE, value)),
            );
        }
        send_guarded(
            &self.outbound,
            method,
            &prepared.url,
            &open,
            &prepared.private,
        )
        .await
        .map_err(|error| follow_error(&error, &source.url))
    }

    /// The operator's header, for the origins that may have it (D13).
    fn fallback(&self, url: &Url) -> Option<&HttpAuthHeader> {
        self.auth.as_ref().filter(|auth| {
            auth.origins
                .as_ref()
                .is_none_or(|origins| origins.contains(&url.origin().ascii_serialization()))
        })
    }

    async fn refused(&self, response: Response, source: &Source) -> StorageError {
        let mut secrets = source.secrets();
        secrets.extend(
            self.auth
                .as_ref()
                .map(|auth| auth.value.expose().to_owned()),
        );
        answer::status_error(response, &source.url, &secrets).await
    }

    /// Whether an upload was taken.
    async fn taken(&self, response: Response, source: &Source) -> Result<(), StorageError> {
        seen_status(response.status().as_u16());
        if response.status().is_redirection() {
            let message = format!(
                "{} answered the upload with a redirect, which is not followed: give its final URL",
                public(&source.url)
            );
            return Err(StorageError::new(ErrorKind::Failed, message));
        }
        if response.status().is_success() {
            Ok(())
        } else {
            Err(self.refused(response, source).await)
        }
    }

    /// The file's name goes to the end of the path; a query stays behind it (F06).
    fn put_url(target: &Target, filename: &str) -> Result<Url, StorageError> {
        let Target::Http { url_prefix } = target else {
            return Err(StorageError::new(ErrorKind::Invalid, "not an HTTP target"));
        };
        let mut url = match Url::parse(url_prefix.trim()) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
            _ => {
                return Err(StorageError::new(
                    ErrorKind::Invalid,
                    format!(
                        "url_prefix must be a whole http or https URL like https://host/folder, \
                         not \"{}\"",
                        public_url(url_prefix).chars().take(200).collect::<String>()
                    ),
                ));
            }
        };
        if url.fragment().is_some() {
            return Err(StorageError::new(
                ErrorKind::Invalid,
                "url_prefix has a fragment (#), which no server gets: write %23 for a # in a name",
            ));
        }
        let path = format!(
            "{}/{}",
            url.path().trim_end_matches('/'),
            request::encode_path(filename)
        );
        url.set_path(&path);
        Ok(url)
    }
}

type Chunks = BoxStream<'static, Result<Bytes, StorageError>>;

/// The file in a body that was sent compressed.
fn decoded(body: Chunks, url: Url) -> Chunks {
    let compressed = StreamReader::new(body.map_err(io::Error::other));
    let mut decoder = GzipDecoder::new(compressed);
    // As `gzip -d` does it: files that were put one behind the other are one.
    decoder.multiple_members(true);
    let file = ReaderStream::with_capacity(decoder, DECODED);
    file.map_err(move |error| match error.downcast::<StorageError>() {
        Ok(error) => error,
        Err(error) => StorageError::new(
            ErrorKind::Transient,
            format!(
                "{}: the compressed answer is damaged: {error}",
                public(&url)
            ),
        ),
    })
    .boxed()
}

#[async_trait]
impl Backend for HttpBackend {
    fn name(&self) -> &'static str {
        "http"
    }

    fn claims(&self, url: &Url) -> bool {
        matches!(url.scheme(), "http" | "https")
    }

    fn takes(&self, target: &Target) -> bool {
        matches!(target, Target::Http { .. })
    }

    async fn head(&self, source: &Source) -> Result<ObjectInfo, StorageError> {
        let (response, at) = self.send(Method::HEAD, source, None, None).await?;
        if response.status().is_success() {
            return Ok(answer::info(&response, &at, &source.url));
        }
        Err(self.refused(response, source).await)
    }

    async fn open(
        &self,
        source: &Source,
        range: Option<ByteRange>,
        if_match: Option<&str>,
    ) -> Result<ObjectStream, StorageError> {
        let (mut response, mut at) = self.send(Method::GET, source, range, if_match).await?;
        // The file has become shorter than what we have of it: the whole of it shows the engine
        // that it changed.
        if range.is_some_and(|range| range.start > 0)
            && matches!(
                response.status(),
                StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PRECONDITION_FAILED
            )
        {
            (response, at) = self.send(Method::GET, source, None, None).await?;
        }
        let status = response.status();
        seen_status(status.as_u16());
        // An empty file has no first byte: 416 comes from one who was let in.
        if status == StatusCode::RANGE_NOT_SATISFIABLE && range.is_some() {
            return Ok(ObjectStream {
                info: answer::info(&response, &at, &source.url),
                offset: 0,
                body: futures_util::stream::empty().boxed(),
            });
        }
        if !status.is_success() {
            return Err(self.refused(response, source).await);
        }
        if status == StatusCode::NO_CONTENT || status == StatusCode::RESET_CONTENT {
            return Err(StorageError::new(
                ErrorKind::Failed,
                format!(
                    "{} answered {status}: there is no file",
                    public(&source.url)
                ),
            ));
        }
        let info = answer::info(&response, &at, &source.url);
        let offset = if status == StatusCode::PARTIAL_CONTENT {
            answer::offset(&response, range, &source.url)?
        } else {
            0
        };
        let (url, gzip) = (source.url.clone(), answer::is_gzip(&response));
        let body = response
            .bytes_stream()
            .map(move |chunk| chunk.map_err(|error| network_error(&error.without_url(), &url)))
            .boxed();
        let body = if gzip {
            decoded(body, source.url.clone())
        } else {
            body
        };
        Ok(ObjectStream { info, offset, body })
    }

    async fn check(&self, target: &Target, signed: bool) -> Result<(), StorageError> {
        let url = Self::put_url(target, "name")?;
        if signed {
            let message = "signed_url needs an S3 or Azure target: an HTTP target cannot sign URLs";
            return Err(StorageError::new(ErrorKind::Invalid, message));
        }
        self.outbound.check(&url).await.map_err(|refused| {
            StorageError::new(ErrorKind::Invalid, format!("http_upload: {refused}"))
        })
    }

    fn url_of(&self, target: &Target, filename: &str) -> String {
        match target {
            Target::Http { .. } => {
                Self::put_url(target, filename).map_or_else(|_| String::new(), String::from)
            }
            _ => String::new(),
        }
    }

    async fn upload(
        &self,
        target: &Target,
        file: &UploadFile,
        progress: Option<&Progress>,
        cancel: &CancellationToken,
    ) -> Result<(), StorageError> {
        let source = Source::new(Self::put_url(target, &file.filename)?, "");
        let prepared = request::prepare(&source, self.fallback(&source.url))?;
        // Behind a proxy the connection is not ours to check.
        self.outbound
            .check(&prepared.url)
            .await
            .map_err(|refused| StorageError::new(ErrorKind::Invalid, refused.to_string()))?;
        let opened = tokio::fs::File::open(&file.path)
            .await
            .map_err(|error| read_error(file, &error))?;
        let size = opened
            .metadata()
            .await
            .map_err(|error| read_error(file, &error))?
            .len();
        let sent = Arc::new(AtomicU64::new(0));
        let body = counted(opened, size, progress, &sent);
        let mut headers = prepared.private;
        headers.extend(
            HeaderValue::from_str(&file.content_type)
                .ok()
                .map(|value| (header::CONTENT_TYPE, value)),
        );
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        let request = self
            .outbound
            .guarded()
            .put(prepared.url.clone())
            .headers(headers)
            .body(body)
            .send();
        let response = tokio::select! {
            () = cancel.cancelled() => return Err(
                StorageError::new(ErrorKind::Cancelled, "the upload was cancelled")
            ),
            () = stalled(&sent) => {
                let message = format!(
                    "{} took nothing more and did not answer for {} s",
                    public(&source.url),
                    UPLOAD_STALL.as_secs()
                );
                return Err(StorageError::new(ErrorKind::Transient, message));
            }
            response = request => response.map_err(
                |error| network_error(&error.without_url(), &source.url)
            )?,
        };
        self.taken(response, &source).await
    }

    async fn sign(
        &self,
        _target: &Target,
        _filename: &str,
        _expiry: Duration,
    ) -> Result<String, StorageError> {
        Err(StorageError::new(
            ErrorKind::Invalid,
            "an HTTP target cannot sign URLs",
        ))
    }
}

/// A file as a body; what is sent of it is counted and told.
fn counted(
    file: tokio::fs::File,
    size: u64,
    progress: Option<&Progress>,
    sent: &Arc<AtomicU64>,
) -> reqwest::Body {
    let (progress, counter) = (progress.map(Arc::clone), Arc::clone(sent));
    let chunks = ReaderStream::with_capacity(file, UPLOAD_BUFFER).inspect(move |chunk| {
        if let Ok(chunk) = chunk {
            let sent =
                counter.fetch_add(chunk.len() as u64, Ordering::Relaxed) + chunk.len() as u64;
            if let Some(progress) = &progress {
                progress(sent, Some(size));
            }
        }
    });
    reqwest::Body::wrap_stream(chunks)
}

/// Ends when a count has not changed for too long.
async fn stalled(count: &AtomicU64) {
    let mut before = None;
    while before != Some(count.load(Ordering::Relaxed)) {
        before = Some(count.load(Ordering::Relaxed));
        tokio::time::sleep(UPLOAD_STALL).await;
    }
}
