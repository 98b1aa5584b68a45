//! One download for all who ask for the same.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::{Asked, blocking};
use crate::config::public;
use crate::storage::cache::Entry;
use crate::storage::download::{Download, SingleFlight, run};
use crate::storage::places::host_of;
use crate::storage::{ErrorKind, Inner, StorageError, content};
use crate::telemetry::trace;

impl Asked<'_> {
    /// Begins the download that everybody waits for.
    pub(super) fn launch(&self, flight: Arc<SingleFlight>, key: String, replaces: bool) {
        let inner = Arc::clone(self.inner);
        let host = host_of(&self.source.url);
        let download = Download {
            key,
            source: self.source.clone(),
            filename: self.filename.map(str::to_owned),
            replaces,
            backend: Arc::clone(self.backend),
            cache: Arc::clone(&inner.cache),
            events: inner.events.clone(),
            settings: inner.settings,
            connections: inner.config.download_connections,
            meter: Arc::clone(&flight.meter),
            attempts: self.attempts.clone(),
            unproven: AtomicU32::new(0),
        };
        // Lands whatever happens, also when the download panics: nobody waits for ever.
        let landing = Landing { inner, flight };
        let flying = async move {
            let flown = async {
                // Somebody may have brought it between our look into the cache and our start.
                if let Some(entry) = unprotected(&download).await {
                    return Ok(entry);
                }
                let place = landing.inner.download_places.acquire(&host).await;
                let pace = landing.inner.settings.pace;
                let (meter, url) = (Arc::clone(&download.meter), download.source.url.clone());
                tokio::select! {
                    biased;
                    result = run(download) => result,
                    why = pace.watch(&place, || meter.pace()) => Err(
                        pace.error(why, &public(&url))
                    ),
                }
            };
            let result = tokio::select! {
                biased;
                () = landing.flight.stop.cancelled() => Err(
                    StorageError::new(ErrorKind::Cancelled, "the download was cancelled")
                ),
                result = flown => result,
            };
            landing.inner.flights.land(&landing.flight, result);
        };
        tokio::spawn(trace::scope(trace::current(), flying));
    }
}

struct Landing {
    pub(super) inner: Arc<Inner>,
    pub(super) flight: Arc<SingleFlight>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.inner.flights.crash(&self.flight, || {
            if std::thread::panicking() {
                return defect();
            }
            StorageError::new(ErrorKind::Transient, "the download was given up")
        });
    }
}

async fn unprotected(download: &Download) -> Option<Entry> {
    if download.replaces || download.source.auth.is_some() {
        return None;
    }
    let (cache, key, source, filename) = (
        Arc::clone(&download.cache),
        download.key.clone(),
        download.source.clone(),
        download.filename.clone(),
    );
    let found = blocking(move || {
        let entry = cache.find(&key, &source.url)?;
        (!entry.is_protected() && content::is_file(&entry, &source, filename.as_deref()))
            .then_some(entry)
    });
    found.await.ok()?
}

pub(super) fn defect() -> StorageError {
    StorageError::new(
        ErrorKind::Defect,
        "the download failed by a defect of the server: please report it, with the log",
    )
}
