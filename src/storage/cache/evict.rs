//! Making room: least recently used files go, their descriptions and links with them. The limit is
//! one for all instances on the directory: it is looked at anew before, and what another instance
//! holds is passed over (A46).

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::index::Index;
use super::locks::{self, Locked};
use super::sidecar::{self, Found, Sidecar};
use super::{Cache, index};
use crate::telemetry::metrics;

/// Looking takes at most this part of the time.
const SHARE: u32 = 10;

impl Cache {
    /// Evicts until the cache and `coming` more bytes fit its limit, as far as files that nobody
    /// holds allow.
    pub fn evict(&self, coming: u64) {
        if self.max_bytes == 0 {
            return;
        }
        self.look_anew();
        let excess = self
            .index()
            .bytes()
            .saturating_add(coming)
            .saturating_sub(self.max_bytes);
        self.remove_least_used(excess);
    }

    /// Evicts at least so many bytes, if there is a limit at all and that is possible: the disk is
    /// fuller than the limit foresaw.
    pub fn make_room(&self, bytes: u64) {
        // What would not be enough anyway is not given up for it.
        if self.max_bytes > 0 && self.index().free() >= bytes {
            self.remove_least_used(bytes);
        }
    }

    /// What others have brought and evicted meanwhile.
    pub(super) fn look_anew(&self) {
        let mut looked = self.looked.lock();
        if let Some((at, took)) = *looked
            && at.elapsed() < took * SHARE
        {
            return;
        }
        let began = Instant::now();
        if let Ok(scan) = index::scan(&self.dir, true) {
            self.index().fill(scan.files);
            self.changed();
        }
        *looked = Some((Instant::now(), began.elapsed()));
    }

    fn remove_least_used(&self, excess: u64) {
        if excess == 0 {
            return;
        }
        self.links.load();
        let mut index = self.index();
        let mut freed = 0;
        for base in index.by_use() {
            if freed >= excess {
                break;
            }
            // The index stays locked, so that nobody takes a lease on a file that is about to go.
            let Some((name, size)) = index.file(&base) else {
                continue;
            };
            let path = self.dir.join(name);
            let _lock = match locks::alone(&path) {
                Locked::Ours(file) => Some(file),
                Locked::Unknown => None,
                Locked::Theirs => continue,
                Locked::Gone => {
                    index.remove(&base);
                    freed += size;
                    continue;
                }
            };
            match self.remove(&mut index, &base, &path) {
                Ok(size) => freed += size,
                Err(error) => {
                    tracing::warn!(
                        %error,
                        path = %path.display(),
                        "a cached file could not be evicted"
                    );
                }
            }
        }
        metrics::cache_size(index.bytes());
    }

    /// Takes a file that nobody holds out of the cache, with its description and its links. The
    /// caller has its lock.
    pub(super) fn remove(
        &self,
        index: &mut Index,
        base: &str,
        path: &Path,
    ) -> std::io::Result<u64> {
        let url = match Sidecar::read(path) {
            Found::Sidecar(sidecar) => sidecar.url,
            _ => None,
        };
        let size = index.remove(base).map_or(0, |(_, size)| size);
        self.changed();
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let _ = std::fs::remove_file(sidecar::path_of(path));
        self.links.remove_to(base, path);
        metrics::cache_eviction(size);
        metrics::cache_size(index.bytes());
        tracing::info!(path = %path.display(), size, "evicted from the cache");
        let url = url.unwrap_or_else(|| "unknown".to_owned());
        self.events.storage(
            "file_deleted",
            json!({"url": url, "local_path": path, "size": size}),
        );
        Ok(size)
    }
}
