//! One download from the first request to the file in the cache: opened, received, verified, flushed, renamed.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_smithy_checksums::ChecksumAlgorithm;
use percent_encoding::percent_decode_str;
use serde_json::json;
use url::Url;

use super::super::backend::{Backend, Checksum, ObjectInfo, ObjectStream, Source};
use super::super::cache::sidecar::{Sidecar, rfc3339};
use super::super::cache::{Arrival, Cache, Entry, locks, naming};
use super::super::cloud::{digest_of, hex};
use super::super::content::{self, Names};
use super::super::{ErrorKind, StorageError, TransferSettings, model_extension};
use super::meter::Meter;
use super::partial::{Claim, Partial};
use super::ranges::{BrokenTransfer, Chunk, receive_parallel};
use crate::config::public;
use crate::events::Events;
use crate::limits::transfers::DISK_RESERVE;
use crate::net::retry::retried;
use crate::telemetry::metrics;
use crate::telemetry::trace::Attempts;

/// How often it is looked whether another instance has the file.
const OTHERS_TURN: Duration = Duration::from_millis(100);

/// What a download needs.
pub(in crate::storage) struct Download {
    /// What the file is named by in the cache: its URL as the client wrote it, or that of a version of it.
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
                // A version that vanished midway, could not be resumed, or of which parts do not fit together: from the beginning, as
                // often as any failure, and in one piece if it happens again (A48).
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
        () = download.meter.log(url, download.settings.log_interval) => Err(download.error(ErrorKind::Failed, "given up")),
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
        tracing::info!(url = %public(url), size = entry.size, duration_s = duration, backend = download.backend.name(), "downloaded");
        let data = json!({"url": public(url), "size": entry.size, "duration": duration});
        let arrival = Arrival::new(download.events.clone(), data, entry.path.clone());
        entry.arrival = Some(Arc::new(arrival));
    }
    Ok(entry)
}

/// A download that has begun.
struct Begun {
    first: ObjectStream,
    info: ObjectInfo,
    /// What it is cached as.
    key: String,
    name: String,
    partial: Partial,
}

/// What is cached by now.
enum Brought {
    Nothing,
    /// What the origin has for us.
    This(Box<Entry>),
    /// Another version.
    Other,
}

impl Download {
    /// Downloads the version of the file that is there now.
    async fn version(&self) -> Result<Entry, BrokenTransfer> {
        let Begun {
            first,
            info,
            key,
            name,
            mut partial,
        } = self.begin().await?;
        let received = self.receive(&info, first, &partial).await;
        let written = partial.finish().await;
        if let Err(error) = written {
            return Err(BrokenTransfer::Final(self.disk_error(&info, &error)));
        }
        let size = received?;
        let sha256 = self.verify(&info, size, &partial).await?;
        self.judge(&info, partial.path().to_owned()).await?;
        let sidecar = Sidecar {
            auth_required: self.source.auth.is_some(),
            url: Some(public(&self.source.url)),
            cached_at: rfc3339(SystemTime::now()),
            etag: info.etag.clone().or_else(|| info.weak_etag.clone()),
            last_modified: info.last_modified.clone(),
            content_type: info.content_type.clone(),
            size: Some(size),
            sha256,
            origin_name: origin_name(&self.source.url, &info),
        };
        let cache = Arc::clone(&self.cache);
        // Moved into the thread: when this future is dropped meanwhile, the file is kept or removed all the same.
        let admitted = tokio::task::spawn_blocking(move || {
            partial.share();
            let entry = cache.admit(partial.path(), &key, &name, sidecar)?;
            partial.keep();
            Ok(entry)
        });
        admitted
            .await
            .map_err(io::Error::other)
            .and_then(|entry| entry)
            .map_err(|error| BrokenTransfer::Final(self.disk_error(&info, &error)))
    }

    /// The origin's answer, and a file for it that is ours alone. While somebody else downloads the same, its end is waited for.
    async fn begin(&self) -> Result<Begun, BrokenTransfer> {
        let mut alone = false;
        loop {
            let first = self.first().await.map_err(BrokenTransfer::Final)?;
            let info = first.info.clone();
            self.meter.restart(0, info.size);
            let mut key = self.key.clone();
            let mut found = self.brought(&key, &info).await;
            if matches!(found, Brought::Other) {
                // Links may lead there already: what the origin has for us gets a place of its own (A02).
                key = naming::version_key(&key, &info, &self.source);
                found = self.brought(&key, &info).await;
            }
            if let Brought::This(entry) = found {
                return Err(BrokenTransfer::There(entry));
            }
            let name = naming::base(&key) + &naming::extension_of(&self.source.url, &info);
            let cache = Arc::clone(&self.cache);
            let room = Arc::new(move || cache.has_room());
            let claim = Partial::create(self.cache.dir.join(&name), room, alone).await;
            match claim.map_err(BrokenTransfer::Final)? {
                Claim::Theirs(file) => {
                    drop(first);
                    alone = !self.wait_for(file, &name).await;
                }
                Claim::Ours(partial) => {
                    if let Brought::This(entry) = self.brought(&key, &info).await {
                        return Err(BrokenTransfer::There(entry));
                    }
                    self.make_room(&info).await.map_err(BrokenTransfer::Final)?;
                    return Ok(Begun {
                        first,
                        info,
                        key,
                        name,
                        partial,
                    });
                }
            }
        }
    }

    /// What somebody else has brought meanwhile.
    async fn brought(&self, key: &str, info: &ObjectInfo) -> Brought {
        let (cache, key) = (Arc::clone(&self.cache), key.to_owned());
        let (source, filename) = (self.source.clone(), self.filename.clone());
        let found = tokio::task::spawn_blocking(move || {
            let entry = cache.find(&key, &source.url)?;
            content::is_file(&entry, &source, filename.as_deref()).then_some(entry)
        });
        match found.await.ok().flatten() {
            Some(entry)
                if entry.fits(info)
                    || !self.replaces && self.source.auth.is_none() && !entry.is_protected() =>
            {
                Brought::This(Box::new(entry))
            }
            Some(_) if !self.replaces => Brought::Other,
            _ => Brought::Nothing,
        }
    }

    /// Waits until the partial file of somebody else has its final name or belongs to nobody. `false` when it gets on too slowly to be
    /// waited for.
    async fn wait_for(&self, file: std::fs::File, name: &str) -> bool {
        tracing::debug!(url = %public(&self.source.url), "somebody else is downloading it");
        let path = self.cache.dir.join(format!("{name}{}", naming::PARTIAL));
        let file = Arc::new(file);
        let pace = self.settings.pace;
        let (mut written, mut since) = (0, (Instant::now(), 0));
        loop {
            tokio::time::sleep(OTHERS_TURN.min(pace.window)).await;
            let (theirs, path) = (Arc::clone(&file), path.clone());
            let looked = tokio::task::spawn_blocking(move || {
                // The lock, if it falls to us, goes with the file.
                let over = !locks::is_still_at(&theirs, &path) || theirs.try_lock().is_ok();
                // Parts of it come at once, so that its length says nothing.
                (
                    over,
                    theirs.metadata().map_or(0, |file| file.blocks() * 512),
                )
            });
            let Ok((over, now)) = looked.await else {
                return true;
            };
            self.meter.add(now.saturating_sub(written));
            written = written.max(now);
            if over {
                return true;
            }
            let (at, before) = since;
            if at.elapsed() >= pace.window {
                let seconds = at.elapsed().as_secs_f64();
                if ((written - before) as f64) < pace.slow as f64 * seconds {
                    return false;
                }
                since = (Instant::now(), written);
            }
        }
    }

    /// What is no file is neither kept nor placed (F03).
    async fn judge(&self, info: &ObjectInfo, path: PathBuf) -> Result<(), BrokenTransfer> {
        let head = tokio::task::spawn_blocking(move || content::head_of(&path)).await;
        let (head, size) = head
            .map_err(io::Error::other)
            .and_then(|head| head)
            .map_err(|error| BrokenTransfer::Final(self.disk_error(info, &error)))?;
        let segment = content::segment(&self.source);
        let names = Names {
            asked: [self.filename.as_deref(), Some(&segment)],
            told: info.disposition_name.as_deref(),
        };
        match content::verdict(&head, size, info.content_type.as_deref(), &names) {
            None => Ok(()),
            Some(what) => Err(BrokenTransfer::Final(self.error(
                ErrorKind::Failed,
                &format!("it is no model and no picture: {what} came. Look at the URL and its credentials"),
            ))),
        }
    }

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
            let needed = size.saturating_add(DISK_RESERVE);
            if let Some(free) = cache.free_bytes().filter(|free| *free < needed) {
                cache.make_room(needed - free);
            }
            cache.free_bytes()
        });
        match free.await.ok().flatten() {
            Some(free) if free < size.saturating_add(DISK_RESERVE) => {
                Err(self.disk_full(size, free))
            }
            _ => Ok(()),
        }
    }

    fn disk_full(&self, needed: u64, free: u64) -> StorageError {
        let dir = self.cache.dir.display();
        StorageError::local(
            format!(
                "{}: the disk is full: {needed} bytes needed, {free} bytes free in {dir}. Make room there, or set LRU_CACHE_SIZE_GB",
                public(&self.source.url)
            ),
            &io::ErrorKind::StorageFull.into(),
        )
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
        let message = format!(
            "{}: the cache {} cannot be written: {error}",
            public(&self.source.url),
            self.cache.dir.display()
        );
        StorageError::local(message, error)
    }
}

/// The name that the origin gives the file: in its `Content-Disposition`, else by the URL after redirects, where only that one ends like a model
/// and the first one ends in something else, which the cached file has then.
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
