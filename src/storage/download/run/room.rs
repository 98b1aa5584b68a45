//! Room on the disk.

use std::io;
use std::sync::Arc;

use super::Download;
use crate::config::public;
use crate::limits::transfers::DISK_RESERVE;
use crate::storage::StorageError;
use crate::storage::backend::ObjectInfo;

impl Download {
    /// Refuses what cannot fit, after evicting what may go.
    pub(super) async fn make_room(&self, info: &ObjectInfo) -> Result<(), StorageError> {
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
                "{}: the disk is full: {needed} bytes needed, {free} bytes free in {dir}. Make \
                 room there, or set LRU_CACHE_SIZE_GB",
                public(&self.source.url)
            ),
            &io::ErrorKind::StorageFull.into(),
        )
    }

    pub(super) fn disk_error(&self, info: &ObjectInfo, error: &io::Error) -> StorageError {
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
