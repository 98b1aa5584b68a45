//! One download from the first request to the file in the cache: opened, received, verified,
//! flushed, renamed.

mod begin;
mod room;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aws_smithy_checksums::ChecksumAlgorithm;
use percent_encoding::percent_decode_str;
use serde_json::json;
use url::Url;

use super::super::backend::{Backend, Checksum, ObjectInfo, ObjectStream, Source};
use super::super::cache::{Arrival, Cache, Entry};
use super::super::cloud::digest_of;
use super::super::{ErrorKind, StorageError, TransferSettings, model_extension};
use super::meter::Meter;
use super::partial::Partial;
use super::ranges::{BrokenTransfer, Chunk, receive_parallel};
use crate::config::public;
use crate::events::Events;
use crate::net::retry::retried;
use crate::telemetry::metrics;
use crate::telemetry::trace::Attempts;

/// How often it is looked whether another instance has the file.
const OTHERS_TURN: Duration = Duration::from_millis(100);

/// What a download needs.
pub(in crate::storage) struct Download {
    /// What the file is named by in the cache: its URL as the client wrote it, or that of a
    /// version of it.
    pub key: String,
    pub source: Source,
    /// `filename` of the request: it may ask for a text.
    pub filename: Option<String>,
    /// What is cached under the key is known, and not what is wanted.
    pub replaces: bool,
    pub backend: Arc<dyn Backend>,
    pub cache: Arc<Cache>,
    pub events: Events,
    pub settings: TransferSettings,
    pub connections: usize,
    pub meter: Arc<Meter>,
    /// For the spans of whoever has asked for it.
    pub attempts: Attempts,
    /// How often a part did not prove that it belongs to the file.
    pub unproven: AtomicU32,
}

/// Downloads into the cache. Dropping the future stops everything and removes the partial file.
pub(in crate::storage) async fn run(download: Download) -> Result<Entry, StorageError> {
    let started = Instant::now();
    let url = &download.source.url;
    let downloading = async {
        let mut failures = 0;
        loop {
            let error = match download.version().await {
                // A version that vanished midway, could not be resumed, or of which parts do not
                // fit together: from the beginning, as often as any failure, and in one piece if it
                // happens again (A48).
                Err(BrokenTransfer::Changed(error)) => {
                    download.unproven.fetch_add(1, Ordering::Relaxed);
                    error
                }
                Err(BrokenTransfer::There(entry)) => return Ok((*entry, false)),
                Err(BrokenTransfer::Final(error)) => return Err(error),
                Err(BrokenTransfer::Disk) => {
                    return Err(download.error(ErrorKind::Local, "the cache cannot be written"));
                }
                Ok(entry) => return Ok((entry, true)),
            };
            failures += 1;
            let Some(delay) = download.settings.retry.delay(failures, error.retry_after) else {
                return Err(error);
            };
            tracing::debug!(%error, "a download begins anew");
            tokio::time::sleep(delay).await;
        }
    };
    let result = tokio::select! {
        result = downloading => result,
        () = download.meter.log(url, download.settings.log_interval) => Err(
            download.error(ErrorKind::Failed, "given up")
        ),
    };
    let (mut entry, ours) = match result {
        Ok(brought) => brought,
        Err(error) => {
            metrics::download(download.backend.name(), false, download.meter.read().0);
            return Err(error);
        }
    };
    if ours {
        metrics::download(download.backend.name(), true, entry.size);
        let duration = started.elapsed().as_secs_f64();
        tracing::info!(
            url = %public(url),
            size = entry.size,
            duration_s = duration,
            backend = download.backend.name(),
            "downloaded"
        );
        let data = json!({"url": public(url), "size": entry.size, "duration": duration});
        let arrival = Arrival::new(download.events.clone(), data, entry.path.clone());
        entry.arrival = Some(Arc::new(arrival));
    }
    Ok(entry)
}

impl Download {
    /// The first answer, tried for as often as the policy says.
    async fn first(&self) -> Result<ObjectStream, StorageError> {
        retried(&self.settings.retry, StorageError::asked, || {
            self.attempts.run(self.open(None, None))
        })
        .await
    }

    async fn receive(
        &self,
        info: &ObjectInfo,
        first: ObjectStream,
        partial: &Partial,
    ) -> Result<u64, BrokenTransfer> {
        let Some(sink) = partial.sink() else {
            return Err(BrokenTransfer::Disk);
        };
        match info.size {
            Some(size)
                if self.connections > 1
                    && self.unproven.load(Ordering::Relaxed) == 0
                    && size >= self.settings.parallel_from
                    && info.ranges
                    && info.etag.is_some() =>
            {
                receive_parallel(self, info, size, first, &sink).await
            }
            end => {
                Chunk {
                    download: self,
                    info,
                    sink,
                    at: 0,
                    end,
                }
                .receive(Some(first))
                .await
            }
        }
    }

    /// Checks length and checksum; a file that fails is fetched anew.
    async fn verify(
        &self,
        info: &ObjectInfo,
        size: u64,
        partial: &Partial,
    ) -> Result<Option<String>, BrokenTransfer> {
        let changed =
            |what: String| BrokenTransfer::Changed(self.error(ErrorKind::Transient, &what));
        if let Some(expected) = info.size.filter(|expected| *expected != size) {
            return Err(changed(format!("{size} bytes came instead of {expected}")));
        }
        let (algorithm, name, expected) = match (&info.sha256, &info.checksum) {
            (Some(sha256), _) => (
                ChecksumAlgorithm::Sha256,
                "SHA-256".to_owned(),
                sha256.clone(),
            ),
            (None, Some(Checksum { algorithm, digest })) => (
                *algorithm,
                format!("{} checksum", algorithm.as_str()),
                hex::encode(digest),
            ),
            (None, None) => return Ok(None),
        };
        let digest = digest_of(partial.path().to_owned(), algorithm)
            .await
            .map_err(|error| BrokenTransfer::Final(self.disk_error(info, &error)))?;
        let actual = hex::encode(&digest);
        if actual != expected {
            return Err(changed(format!(
                "its {name} is {actual}, but the origin promised {expected}"
            )));
        }
        Ok(info.sha256.clone())
    }
}

/// The name that the origin gives the file: in its `Content-Disposition`, else by the URL after
/// redirects, where only that one ends like a model and the first one ends in something else, which
/// the cached file has then.
fn origin_name(url: &Url, info: &ObjectInfo) -> Option<String> {
    let redirected = || {
        let segment = |url: &Url| url.path().rsplit('/').next().unwrap_or_default().to_owned();
        let (first, last) = (segment(url), segment(info.final_url.as_ref()?));
        let helps = model_extension(&last).is_some()
            && model_extension(&first).is_none()
            && first.contains('.');
        helps.then(|| percent_decode_str(&last).decode_utf8_lossy().into_owned())
    };
    info.disposition_name.clone().or_else(redirected)
}
