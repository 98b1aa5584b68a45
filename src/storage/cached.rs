//! What is asked about the cache.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::Storage;
use super::cache::show::{CacheEntry, CacheFigures, Evicted};
use super::error::{ErrorKind, StorageError};

impl Storage {
    /// The cached files, the most lately used first, and how much is cached.
    ///
    /// # Errors
    /// When looking fails by a defect.
    pub async fn cached(&self) -> Result<(Vec<CacheEntry>, CacheFigures), StorageError> {
        let cache = Arc::clone(&self.inner.cache);
        tokio::task::spawn_blocking(move || cache.entries())
            .await
            .map_err(|error| StorageError::new(ErrorKind::Defect, error.to_string()))
    }

    /// How much is cached.
    pub fn cache_figures(&self) -> CacheFigures {
        self.inner.cache.figures()
    }

    /// A number that changes with what is cached.
    pub fn cache_changes(&self) -> watch::Receiver<u64> {
        self.inner.cache.watch()
    }

    /// Takes a file out of the cache, with its links, unless somebody needs it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn evict(&self, name: &str) -> Result<Evicted, StorageError> {
        let (cache, name) = (Arc::clone(&self.inner.cache), name.to_owned());
        let shown = name.clone();
        let evicted = tokio::task::spawn_blocking(move || cache.evict_named(&name)).await;
        match evicted {
            Ok(Ok(evicted)) => Ok(evicted),
            Ok(Err(error)) => Err(StorageError::local(
                format!("the cached file {shown} cannot be removed: {error}"),
                &error,
            )),
            Err(error) => Err(StorageError::new(ErrorKind::Defect, error.to_string())),
        }
    }

    /// Where downloaded files are.
    pub fn cache_dir(&self) -> &Path {
        &self.inner.config.cache.dir
    }
}
