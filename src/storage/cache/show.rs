//! The cache as people see it, and the eviction of one file by name.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use super::locks::{self, Locked};
use super::sidecar::{self, Found, Sidecar};
use super::{Cache, naming};
use crate::limits::MAX_CACHE_ENTRIES;

/// How much is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CacheFigures {
    /// Bytes of all files.
    pub size: u64,
    /// `LRU_CACHE_SIZE_GB` in bytes; 0 = none.
    pub limit: u64,
    /// Files.
    pub count: usize,
}

/// A cached file as it is listed.
#[derive(Debug, Clone, Serialize)]
pub struct CacheEntry {
    /// Its name in the cache directory.
    pub name: String,
    /// Without secrets; `None` where nobody knows it any more.
    pub url: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Epoch milliseconds.
    pub used_at: u64,
    /// When it came, epoch milliseconds.
    pub cached_at: Option<u64>,
    /// A prompt or a download needs it at this moment.
    pub in_use: bool,
    /// The places in model folders that lead to it.
    pub links: Vec<PathBuf>,
}

/// What became of a file that was to be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evicted {
    /// It is gone; it had so many bytes.
    Gone(u64),
    /// There is none of that name.
    Unknown,
    /// Somebody needs it, here or in another instance.
    InUse,
}

impl Cache {
    /// How much is cached.
    pub fn figures(&self) -> CacheFigures {
        let index = self.index();
        CacheFigures {
            size: index.bytes(),
            limit: self.max_bytes,
            count: index.len(),
        }
    }

    /// The cached files, the most lately used first, and how many bytes and files there are.
    pub fn entries(&self) -> (Vec<CacheEntry>, CacheFigures) {
        self.look_anew();
        let files = self.index().all();
        self.links.load();
        let mut entries: Vec<CacheEntry> = files
            .into_iter()
            .map(|file| {
                let path = self.dir.join(&file.name);
                let base = naming::base_of(&file.name).unwrap_or_default();
                let (url, cached_at) = match Sidecar::read(&path) {
                    Found::Sidecar(sidecar) => (sidecar.url, sidecar.cached_at),
                    Found::Nothing | Found::Broken => (None, None),
                };
                let touched = std::fs::metadata(sidecar::path_of(&path));
                let used = touched.and_then(|metadata| metadata.modified());
                CacheEntry {
                    url: url.map(|url| crate::config::public_url(&url)),
                    size: file.size,
                    used_at: epoch_ms(used.unwrap_or(file.used).max(file.used)),
                    cached_at: cached_at.as_deref().and_then(crate::timestamp::epoch_ms_of),
                    in_use: file.held,
                    links: self.links.to(base, &path),
                    name: file.name,
                }
            })
            .collect();
        entries.sort_by(|a, b| b.used_at.cmp(&a.used_at).then_with(|| a.name.cmp(&b.name)));
        entries.truncate(MAX_CACHE_ENTRIES);
        (entries, self.figures())
    }

    /// Evicts a file by its name.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn evict_named(&self, name: &str) -> std::io::Result<Evicted> {
        let known = || {
            let base = naming::base_of(name)?;
            (self.index().name(base)? == name).then(|| base.to_owned())
        };
        let found = known().or_else(|| {
            // Another instance may have brought it.
            self.look_anew();
            known()
        });
        let Some(base) = found else {
            return Ok(Evicted::Unknown);
        };
        self.links.load();
        let mut index = self.index();
        if index.is_held(&base) {
            return Ok(Evicted::InUse);
        }
        let path = self.dir.join(name);
        // The index stays locked, so that nobody takes a lease on a file that is about to go.
        let lock = match locks::alone(&path) {
            Locked::Ours(file) => Some(file),
            Locked::Unknown => None,
            Locked::Theirs => return Ok(Evicted::InUse),
            Locked::Gone => {
                index.remove(&base);
                return Ok(Evicted::Unknown);
            }
        };
        let removed = self.remove(&mut index, &base, &path);
        drop(lock);
        removed.map(Evicted::Gone)
    }
}

fn epoch_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CacheConfig;
    use crate::events::Events;

    #[test]
    fn the_list_is_bounded_and_the_figures_are_of_all() {
        let dir = tempfile::tempdir().unwrap();
        let more = MAX_CACHE_ENTRIES + 5;
        for n in 0..more {
            let name = format!("{}.bin", naming::base(&n.to_string()));
            std::fs::write(dir.path().join(name), b"x").unwrap();
        }
        let config = CacheConfig {
            dir: dir.path().to_owned(),
            max_bytes: 0,
        };
        let cache = Cache::new(&config, Events::default());
        cache.prepare().unwrap();
        let (entries, figures) = cache.entries();
        assert_eq!(entries.len(), MAX_CACHE_ENTRIES);
        assert_eq!((figures.count, figures.size), (more, more as u64));
        assert!(entries.is_sorted_by(|a, b| a.used_at >= b.used_at));
    }
}
