//! The way of a fetch: credentials chosen, cache asked, permission checked, download joined or begun.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use percent_encoding::percent_decode_str;
use url::Url;

use super::backend::{Backend, Source};
use super::cache::Entry;
use super::credentials::choose;
use super::download::{Download, JoinedDownload, SingleFlight, run};
use super::{Auth, ErrorKind, Fetch, Fetched, Inner, StorageError};
use crate::config::public;
use crate::telemetry::metrics;

pub(super) async fn fetch(inner: &Arc<Inner>, fetch: Fetch) -> Result<Fetched, StorageError> {
    let started = Instant::now();
    let (url, backend) = inner.resolve(&fetch.url)?;
    let auth = fetch
        .auth
        .clone()
        .or_else(|| choose(&fetch.credentials, &fetch.url));
    let key = key(&fetch.url, auth.as_ref());
    let asked = Asked {
        inner,
        backend,
        url_text: &key,
        source: Source { url, auth },
        fetch: &fetch,
    };
    let (entry, cached) = tokio::select! {
        biased;
        () = fetch.cancel.cancelled() => return Err(StorageError::new(ErrorKind::Cancelled, "the download was cancelled")),
        found = asked.find() => found?,
    };
    Ok(Fetched {
        origin_name: origin_name(&asked.source.url, &entry),
        path: entry.path.clone(),
        size: entry.size,
        duration: started.elapsed(),
        cached,
        lease: entry.lease,
    })
}

/// What stands for the file in the cache: its URL as the client wrote it (as with the Node server), and the service that the request names,
/// if it names one. The same bucket and key elsewhere is another file.
fn key<'a>(url: &'a str, auth: Option<&Auth>) -> Cow<'a, str> {
    match auth {
        Some(Auth::S3 {
            endpoint: Some(endpoint),
            ..
        }) => format!("{url}#{}", endpoint.trim_end_matches('/')).into(),
        _ => url.into(),
    }
}

/// The file's own name: from `Content-Disposition`, else the URL's last segment, else `file`. Never a path, never hidden.
fn origin_name(url: &Url, entry: &Entry) -> String {
    let disposition = entry
        .sidecar
        .as_ref()
        .and_then(|sidecar| sidecar.origin_name.clone());
    let segment = || {
        url.path()
            .rsplit('/')
            .next()
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
    };
    let name = disposition.or_else(segment).unwrap_or_default();
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let usable: String = name
        .chars()
        .map(|char| {
            if char.is_control() || ":*?\"<>|".contains(char) {
                '_'
            } else {
                char
            }
        })
        .collect();
    let usable = usable
        .trim()
        .trim_start_matches(['.', '~'])
        .trim_end_matches(['.', ' ']);
    let extension = || {
        entry
            .path
            .extension()
            .and_then(|extension| extension.to_str())
            .map(|extension| format!(".{extension}"))
    };
    super::check_file_name(usable)
        .unwrap_or_else(|_| format!("file{}", extension().unwrap_or_default()))
}

struct Asked<'a> {
    inner: &'a Arc<Inner>,
    backend: &'a Arc<dyn Backend>,
    url_text: &'a str,
    source: Source,
    fetch: &'a Fetch,
}

impl Asked<'_> {
    /// The file, and whether it was there already.
    async fn find(&self) -> Result<(Entry, bool), StorageError> {
        loop {
            if let Some(entry) = self.cached().await? {
                metrics::cache_lookup(true);
                return Ok((entry, true));
            }
            let seat = match self
                .inner
                .flights
                .join(self.url_text, self.source.auth.as_ref())
            {
                JoinedDownload::First(seat) => {
                    metrics::cache_lookup(false);
                    self.launch(Arc::clone(seat.flight()));
                    seat
                }
                JoinedDownload::Waiting(seat) => seat,
                // Downloading it a second time would be waste, and handing it out unasked a leak.
                JoinedDownload::Stranger(flight) => {
                    flight.ended().await;
                    continue;
                }
            };
            let entry = seat
                .result(
                    self.fetch.progress.as_ref(),
                    self.inner.settings.progress_interval,
                )
                .await?;
            return Ok((entry, false));
        }
    }

    /// The cached file, if it is there and may be used.
    async fn cached(&self) -> Result<Option<Entry>, StorageError> {
        let (cache, url_text, url) = (
            Arc::clone(&self.inner.cache),
            self.url_text.to_owned(),
            self.source.url.clone(),
        );
        let Some(entry) = blocking(move || cache.find(&url_text, &url)).await? else {
            return Ok(None);
        };
        if entry
            .sidecar
            .as_ref()
            .is_some_and(|sidecar| sidecar.auth_required)
        {
            self.authorize().await?;
        }
        let (cache, url_text, used) = (
            Arc::clone(&self.inner.cache),
            self.url_text.to_owned(),
            entry.clone(),
        );
        blocking(move || cache.used(&used, &url_text)).await?;
        Ok(Some(entry))
    }

    /// Asks the origin whether these credentials open the file.
    async fn authorize(&self) -> Result<(), StorageError> {
        let url = &self.source.url;
        let refused = || {
            StorageError::new(
                ErrorKind::Unauthorized,
                format!(
                    "Authentication required to access cached file for URL: {}",
                    public(url)
                ),
            )
        };
        if self.source.auth.is_none() && url.username().is_empty() && url.password().is_none() {
            return Err(refused());
        }
        let mut failures = 0;
        loop {
            let error = match tokio::time::timeout(
                self.inner.settings.stall * 2,
                self.backend.head(&self.source),
            )
            .await
            {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) if error.kind == ErrorKind::Unauthorized => return Err(refused()),
                Ok(Err(error)) => error,
                Err(_) => StorageError::new(
                    ErrorKind::Transient,
                    format!("{}: the server does not answer", public(url)),
                ),
            };
            failures += 1;
            let delay = self
                .inner
                .settings
                .retry
                .delay(failures, error.retry_after)
                .filter(|_| error.kind == ErrorKind::Transient);
            tokio::time::sleep(delay.ok_or(error)?).await;
        }
    }

    /// Begins the download that everybody waits for.
    fn launch(&self, flight: Arc<SingleFlight>) {
        let inner = Arc::clone(self.inner);
        let url_text = self.url_text.to_owned();
        let download = Download {
            url_text: url_text.clone(),
            source: self.source.clone(),
            backend: Arc::clone(self.backend),
            cache: Arc::clone(&inner.cache),
            events: inner.events.clone(),
            settings: inner.settings,
            connections: inner.config.download_connections,
            meter: Arc::clone(&flight.meter),
        };
        // Lands whatever happens, also when the download panics: nobody waits for ever.
        let landing = Landing {
            inner,
            url_text,
            flight,
        };
        tokio::spawn(async move {
            let flown = async {
                // Somebody may have brought it between our look into the cache and our start.
                if let Some(entry) = unprotected(&download).await {
                    return Ok(entry);
                }
                let _slot = landing.inner.download_slots.acquire().await;
                run(download).await
            };
            let result = tokio::select! {
                biased;
                () = landing.flight.stop.cancelled() => Err(StorageError::new(ErrorKind::Cancelled, "the download was cancelled")),
                result = flown => result,
            };
            landing
                .inner
                .flights
                .land(&landing.url_text, &landing.flight, result);
        });
    }
}

async fn unprotected(download: &Download) -> Option<Entry> {
    let (cache, url_text, url) = (
        Arc::clone(&download.cache),
        download.url_text.clone(),
        download.source.url.clone(),
    );
    let entry = blocking(move || cache.find(&url_text, &url)).await.ok()??;
    entry
        .sidecar
        .as_ref()
        .is_none_or(|sidecar| !sidecar.auth_required)
        .then_some(entry)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StorageError::new(ErrorKind::Local, format!("the cache failed: {error}")))
}

struct Landing {
    inner: Arc<Inner>,
    url_text: String,
    flight: Arc<SingleFlight>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.inner.flights.crash(&self.url_text, &self.flight, || {
            StorageError::new(ErrorKind::Transient, "the download was given up")
        });
    }
}
