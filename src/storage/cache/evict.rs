//! Making room: least recently used files go, their descriptions and links with them.

use serde_json::json;

use super::Cache;
use super::sidecar::{self, Found, Sidecar};
use crate::telemetry::metrics;

impl Cache {
    /// Evicts until the cache and `coming` more bytes fit its limit, as far as files that nobody holds allow.
    pub fn evict(&self, coming: u64) {
        if self.max_bytes == 0 {
            return;
        }
        let excess = self
            .index()
            .bytes()
            .saturating_add(coming)
            .saturating_sub(self.max_bytes);
        self.remove_least_used(excess);
    }

    /// Evicts at least so many bytes, if there is a limit at all and that is possible: the disk is fuller than the limit foresaw.
    pub fn make_room(&self, bytes: u64) {
        // What would not be enough anyway is not given up for it.
        if self.max_bytes > 0 && self.index().free() >= bytes {
            self.remove_least_used(bytes);
        }
    }

    fn remove_least_used(&self, excess: u64) {
        if excess == 0 {
            return;
        }
        let mut index = self.index();
        for base in index.least_used(excess) {
            // The index stays locked, so that nobody takes a lease on a file that is about to go.
            let Some((name, size)) = index.remove(&base) else {
                continue;
            };
            let path = self.dir.join(name);
            let url = match Sidecar::read(&path) {
                Found::Sidecar(sidecar) => sidecar.url,
                _ => None,
            };
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, path = %path.display(), "a cached file could not be evicted");
                continue;
            }
            let _ = std::fs::remove_file(sidecar::path_of(&path));
            self.links.remove_to(&base, &path);
            metrics::cache_eviction(size);
            tracing::info!(path = %path.display(), size, "evicted from the cache");
            let url = url.unwrap_or_else(|| "unknown".to_owned());
            self.events.storage(
                "file_deleted",
                json!({"url": url, "local_path": path, "size": size}),
            );
        }
        metrics::cache_size(index.bytes());
    }
}
