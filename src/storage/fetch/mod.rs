//! The way of a fetch: credentials chosen, cache asked, permission checked, download joined or
//! begun.

mod launch;
mod look;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use launch::defect;
use look::Look;
use percent_encoding::percent_decode_str;
use url::Url;

use super::backend::{Backend, Source};
use super::cache::Entry;
use super::download::{JoinedDownload, Permit};
use super::{Arrived, Auth, ErrorKind, Fetch, Fetched, Inner, Progress, StorageError};
use crate::config::public;
use crate::telemetry::trace::Attempts;
use crate::telemetry::{metrics, trace};

pub(super) async fn fetch(
    inner: &Arc<Inner>,
    fetch: Fetch,
    filename: Option<&str>,
) -> Result<Fetched, StorageError> {
    let started = Instant::now();
    let (began, attempts) = (trace::now(), Attempts::wanted());
    let (url, backend) = inner.resolve(&fetch.url)?;
    let auth = match &fetch.auth {
        Some(auth) => Some(auth.clone()),
        None => fetch.credentials.choose(&fetch.url)?,
    };
    if let Some(auth) = &auth {
        auth.check_added_to(&url)
            .map_err(|reason| StorageError::new(ErrorKind::Invalid, reason))?;
    }
    let key = key(&fetch.url, auth.as_ref());
    let asked = Asked {
        inner,
        backend,
        key: &key,
        source: Source {
            auth,
            ..Source::new(url, fetch.url.trim())
        },
        filename,
        fetch: &fetch,
        attempts,
    };
    let found = tokio::select! {
        biased;
        () = fetch.cancel.cancelled() => Err(
            StorageError::new(ErrorKind::Cancelled, "the download was cancelled")
        ),
        found = asked.find() => found,
    };
    let outcome = found
        .as_ref()
        .map(|(entry, cached)| (entry.size, *cached))
        .map_err(|error| error.kind.as_str());
    let per_attempt = asked.backend.name() == "http";
    let url = &asked.source.url;
    asked.attempts.finish(url, began, per_attempt, outcome);
    let (entry, cached) = found?;
    Ok(Fetched {
        origin_name: origin_name(&asked.source.url, &entry),
        path: entry.path.clone(),
        size: entry.size,
        duration: started.elapsed(),
        cached,
        lease: entry.lease,
        arrival: entry.arrival.map(Arrived),
    })
}

/// What stands for the file in the cache: its URL as the client wrote it (as with the Node server),
/// and the service that the request names, if it names one. The same bucket and key elsewhere is
/// another file.
fn key<'a>(url: &'a str, auth: Option<&Auth>) -> Cow<'a, str> {
    match auth {
        Some(Auth::S3 {
            endpoint: Some(endpoint),
            ..
        }) => format!("{url}#{}", endpoint.trim_end_matches('/')).into(),
        _ => url.into(),
    }
}

/// The file's own name: from `Content-Disposition`, else the URL's last segment, else `file`. Never
/// a path, never hidden.
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
    key: &'a str,
    source: Source,
    filename: Option<&'a str>,
    fetch: &'a Fetch,
    /// Of the download, for its spans.
    attempts: Attempts,
}

impl Asked<'_> {
    /// The file, and whether it was there already.
    async fn find(&self) -> Result<(Entry, bool), StorageError> {
        let (key, replaces) = match self.look().await? {
            Look::Use(entry) => {
                metrics::cache_lookup(true);
                self.use_now(&entry).await?;
                return Ok((*entry, true));
            }
            Look::Fetch { key, replaces } => (key, replaces),
        };
        let joined = self.inner.flights.join(&key, self.source.auth.as_ref());
        let permit = match joined {
            JoinedDownload::First(permit) => {
                metrics::cache_lookup(false);
                self.launch(Arc::clone(permit.flight()), key, replaces);
                permit
            }
            JoinedDownload::Waiting(permit) => permit,
        };
        Ok((self.wait_for(permit).await?, false))
    }

    /// Waits for a download, which is listed meanwhile.
    async fn wait_for(&self, permit: Permit) -> Result<Entry, StorageError> {
        let interval = self.inner.settings.progress_interval;
        let Some(purpose) = self.fetch.purpose.clone() else {
            return permit.result(self.fetch.progress.as_ref(), interval).await;
        };
        let listed = self.inner.downloads.begin(&self.fetch.url, purpose);
        let (own, asked) = (listed.progress(), self.fetch.progress.clone());
        let both: Progress = Arc::new(move |so_far, total| {
            own(so_far, total);
            if let Some(asked) = &asked {
                asked(so_far, total);
            }
        });
        let result = tokio::select! {
            result = permit.result(Some(&both), interval) => result,
            () = listed.cancel().cancelled() => Err(StorageError::new(
                ErrorKind::Cancelled,
                format!(
                    "the download of {} was cancelled by a request (DELETE /downloads/{})",
                    public(&self.source.url),
                    listed.id()
                ),
            )),
        };
        match &result {
            Ok(entry) => listed.completed(entry.size, false, None),
            Err(error) => listed.failed(error),
        }
        result
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        if error.is_panic() {
            return defect();
        }
        StorageError::new(ErrorKind::Local, format!("the cache failed: {error}"))
    })
}
