//! One download from the first request to the file in the cache: opened, received, verified, flushed, renamed.

use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use aws_smithy_checksums::ChecksumAlgorithm;
use serde_json::json;

use super::super::backend::{Backend, Checksum, ObjectInfo, ObjectStream, Source};
use super::super::cache::sidecar::{Sidecar, rfc3339};
use super::super::cache::{Cache, Entry, naming};
use super::super::cloud::{digest_of, hex};
use super::super::{ErrorKind, StorageError, TransferSettings};
use super::meter::Meter;
use super::partial::Partial;
use super::ranges::{BrokenTransfer, Chunk, receive_parallel};
use crate::config::public;
use crate::events::Events;
use crate::telemetry::metrics;

/// Left free on the disk, for everybody else on it.
const SPARE_BYTES: u64 = 16 * 1024 * 1024;

/// What a download needs.
pub(in crate::storage) struct Download {
    /// The URL as the client wrote it: it names the file.
    pub url_text: String,
    pub source: Source,
    pub backend: Arc<dyn Backend>,
    pub cache: Arc<Cache>,
    pub events: Events,
    pub settings: TransferSettings,
    pub connections: usize,
    pub meter: Arc<Meter>,
}

/// Downloads into the cache. Dropping the future stops everything and removes the partial file.
pub(in crate::storage) async fn run(download: Download) -> Result<Entry, StorageError> {
    let started = Instant::now();
    let url = &download.source.url;
    let downloading = async {
        let mut failures = 0;
        loop {
            match download.version().await {
                // A version that vanished midway, or could not be resumed: from the beginning, as often as any failure.
                Err(BrokenTransfer::Changed(error)) => {
                    failures += 1;
                    let Some(delay) = download.settings.retry.delay(failures, error.retry_after)
                    else {
                        return Err(error);
                    };
                    tracing::debug!(%error, "a download begins anew");
                    tokio::time::sleep(delay).await;
                }
                Err(BrokenTransfer::Final(error)) => return Err(error),
                Err(BrokenTransfer::Disk) => {
                    return Err(download.error(ErrorKind::Local, "the cache cannot be written"));
                }
                Ok(entry) => return Ok(entry),
            }
        }
    };
    let result = tokio::select! {
        result = downloading => result,
        () = download.meter.log(url, download.settings.log_interval) => Err(download.error(ErrorKind::Failed, "given up")),
    };
    let (done, _) = download.meter.read();
    metrics::download(download.backend.name(), result.is_ok(), done);
    if let Ok(entry) = &result {
        let duration = started.elapsed().as_secs_f64();
        tracing::info!(url = %public(url), size = entry.size, duration_s = duration, backend = download.backend.name(), "downloaded");
        let data = json!({"url": public(url), "local_path": entry.path, "size": entry.size, "duration": duration});
        download.events.storage("file_downloaded", data);
    }
    result
}

impl Download {
    /// Downloads the version of the file that is there now.
    async fn version(&self) -> Result<Entry, BrokenTransfer> {
        let first = self.first().await.map_err(BrokenTransfer::Final)?;
        let info = first.info.clone();
        self.meter.restart(0, info.size);
        self.make_room(&info).await.map_err(BrokenTransfer::Final)?;
        let name = naming::base(&self.url_text) + &naming::extension_of(&self.source.url, &info);
        let mut partial = Partial::create(self.cache.dir.join(&name))
            .await
            .map_err(BrokenTransfer::Final)?;
        let received = self.receive(&info, first, &partial).await;
        let written = partial.finish().await;
        if let Err(error) = written {
            return Err(BrokenTransfer::Final(self.disk_error(&info, &error)));
        }
        let size = received?;
        let sha256 = self.verify(&info, size, &partial).await?;
        let sidecar = Sidecar {
            auth_required: self.source.auth.is_some(),
            url: Some(public(&self.source.url)),
            cached_at: rfc3339(SystemTime::now()),
            etag: info.etag.clone(),
            size: Some(size),
            sha256,
            origin_name: info.disposition_name.clone(),
        };
        let (cache, url_text) = (Arc::clone(&self.cache), self.url_text.clone());
        // Moved into the thread: when this future is dropped meanwhile, the file is kept or removed all the same.
        let admitted = tokio::task::spawn_blocking(move || {
            let entry = cache.admit(partial.path(), &url_text, &name, sidecar)?;
            partial.keep();
            Ok(entry)
        });
        admitted
            .await
            .map_err(io::Error::other)
            .and_then(|entry| entry)
            .map_err(|error| BrokenTransfer::Final(self.disk_error(&info, &error)))
    }

    /// The first answer, tried for as often as the policy says.
    async fn first(&self) -> Result<ObjectStream, StorageError> {
        let mut failures = 0;
        loop {
            let error = match self.open(None, None).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            failures += 1;
            let delay = self
                .settings
                .retry
                .delay(failures, error.retry_after)
                .filter(|_| error.kind == ErrorKind::Transient);
            let Some(delay) = delay else {
                return Err(error);
            };
            tracing::debug!(%error, delay_ms = delay.as_millis() as u64, "a download is tried again");
            tokio::time::sleep(delay).await;
        }
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
                hex(digest),
            ),
            (None, None) => return Ok(None),
        };
        let digest = digest_of(partial.path().to_owned(), algorithm)
            .await
            .map_err(|error| BrokenTransfer::Final(self.disk_error(info, &error)))?;
        let actual = hex(&digest);
        if actual != expected {
            return Err(changed(format!(
                "its {name} is {actual}, but the origin promised {expected}"
            )));
        }
        Ok(info.sha256.clone())
    }

    /// Refuses what cannot fit, after evicting what may go.
    async fn make_room(&self, info: &ObjectInfo) -> Result<(), StorageError> {
        let Some(size) = info.size else { return Ok(()) };
        let cache = Arc::clone(&self.cache);
        let free = tokio::task::spawn_blocking(move || {
            let needed = size.saturating_add(SPARE_BYTES);
            if let Some(free) = cache.free_bytes().filter(|free| *free < needed) {
                cache.make_room(needed - free);
            }
            cache.free_bytes()
        });
        match free.await.ok().flatten() {
            Some(free) if free < size.saturating_add(SPARE_BYTES) => {
                Err(self.disk_full(size, free))
            }
            _ => Ok(()),
        }
    }

    fn disk_full(&self, needed: u64, free: u64) -> StorageError {
        let dir = self.cache.dir.display();
        self.error(ErrorKind::Local, &format!("the disk is full: {needed} bytes needed, {free} bytes free in {dir}. Make room there, or set LRU_CACHE_SIZE_GB"))
    }

    fn disk_error(&self, info: &ObjectInfo, error: &io::Error) -> StorageError {
        if matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        ) {
            return self.disk_full(
                info.size.unwrap_or(self.meter.read().0),
                self.cache.free_bytes().unwrap_or_default(),
            );
        }
        self.error(
            ErrorKind::Local,
            &format!(
                "the cache {} cannot be written: {error}",
                self.cache.dir.display()
            ),
        )
    }
}
