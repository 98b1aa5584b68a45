//! The download cache: a directory that the Node server may have filled, an index of it in memory, leases, eviction.
//!
//! Everything that must survive a kill is in the directory itself: complete files have final names, their descriptions are written
//! before them, and the description's modification time tells when the file was last used.

mod evict;
mod index;
mod links;
pub(super) mod naming;
pub(super) mod sidecar;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use url::Url;

use crate::config::{CacheConfig, public_url};
use crate::events::Events;
use crate::telemetry::metrics;
use index::Index;
use links::Links;
use sidecar::{Found, Sidecar};

/// The cache. Its methods touch the disk: call them from blocking threads.
pub(super) struct Cache {
    pub dir: PathBuf,
    max_bytes: u64,
    index: Mutex<Index>,
    links: Links,
    events: Events,
}

/// A cached file.
#[derive(Clone)]
pub(super) struct Entry {
    pub path: PathBuf,
    pub size: u64,
    pub sidecar: Option<Sidecar>,
    pub lease: Arc<Lease>,
}

/// Keeps a file from eviction while it lives.
pub(super) struct Lease {
    cache: Arc<Cache>,
    base: String,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.cache.index().release(&self.base);
    }
}

impl Cache {
    pub fn new(config: &CacheConfig, events: Events) -> Self {
        let links = Links::new(config.dir.join(links::FILE));
        Self {
            dir: config.dir.clone(),
            max_bytes: config.max_bytes,
            index: Mutex::default(),
            links,
            events,
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // The index is consistent after each of its methods, so a panic elsewhere has not broken it.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the directory, reads what is there, removes old partial files, evicts down to the limit.
    pub fn prepare(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let started = std::time::Instant::now();
        let scan = index::scan(&self.dir, self.max_bytes > 0)?;
        let (files, old) = (scan.files.len(), scan.old_partials.len());
        for partial in scan.old_partials {
            let _ = std::fs::remove_file(partial);
        }
        self.index().fill(scan.files);
        self.links.load();
        metrics::cache_size(self.index().bytes());
        tracing::info!(files, old_partials_removed = old, took_ms = started.elapsed().as_millis() as u64, dir = %self.dir.display(), "cache read");
        self.evict(0);
        Ok(())
    }

    /// A complete file for a URL, leased. Says nothing of permission.
    pub fn find(self: &Arc<Self>, url_text: &str, url: &Url) -> Option<Entry> {
        let base = naming::base(url_text);
        let indexed = self.index().lease(&base);
        let (name, leased) = match indexed {
            Some(name) => (name, true),
            None => (self.name_on_disk(&base, url)?, false),
        };
        let path = self.dir.join(&name);
        let metadata = std::fs::metadata(&path)
            .ok()
            .filter(std::fs::Metadata::is_file);
        if !leased && let Some(metadata) = &metadata {
            let mut index = self.index();
            index.insert(&base, &name, metadata.len(), SystemTime::now());
            index.lease(&base);
        }
        let lease = (leased || metadata.is_some()).then(|| {
            Arc::new(Lease {
                cache: Arc::clone(self),
                base: base.clone(),
            })
        })?;
        let Some(metadata) = metadata else {
            // Somebody else removed it.
            self.index().remove(&base);
            return None;
        };
        let sidecar = match Sidecar::read(&path) {
            Found::Sidecar(sidecar) => Some(*sidecar),
            Found::Nothing => None,
            Found::Broken => return None,
        };
        // A file that is not as long as it was is what a power cut leaves behind.
        if sidecar
            .as_ref()
            .and_then(|sidecar| sidecar.size)
            .is_some_and(|size| size != metadata.len())
        {
            return None;
        }
        Some(Entry {
            path,
            size: metadata.len(),
            sidecar,
            lease,
        })
    }

    /// A file that came into the directory after the index was made.
    fn name_on_disk(&self, base: &str, url: &Url) -> Option<String> {
        if let Some(extension) = naming::url_extension(url) {
            return Some(format!("{base}{extension}"));
        }
        let entries = std::fs::read_dir(&self.dir).ok()?;
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .find(|name| naming::base_of(name) == Some(base))
    }

    /// Records a use of a file now.
    pub fn used(&self, entry: &Entry, url_text: &str) {
        self.index().touch(&entry.lease.base);
        if let Err(error) = sidecar::mark_used(&entry.path, &public_url(url_text), entry.size) {
            tracing::debug!(%error, path = %entry.path.display(), "the use of a cached file could not be recorded");
        }
    }

    /// Makes a complete and flushed partial file visible, with its description, leased; then evicts what is too much.
    pub fn admit(
        self: &Arc<Self>,
        partial: &Path,
        url_text: &str,
        name: &str,
        sidecar: Sidecar,
    ) -> io::Result<Entry> {
        let (base, path) = (naming::base(url_text), self.dir.join(name));
        let size = std::fs::metadata(partial)?.len();
        // The description first: a protected file must never be there without it.
        sidecar.write(&path)?;
        std::fs::rename(partial, &path)?;
        sync_directory(&self.dir);
        let lease = {
            let mut index = self.index();
            let before = index.name(&base).filter(|before| before != name);
            index.insert(&base, name, size, SystemTime::now());
            index.lease(&base);
            if let Some(before) = before {
                // The same URL under another extension: the newer file has taken its place.
                let before = self.dir.join(before);
                let _ = std::fs::remove_file(sidecar::path_of(&before));
                let _ = std::fs::remove_file(before);
            }
            Arc::new(Lease {
                cache: Arc::clone(self),
                base,
            })
        };
        self.evict(0);
        metrics::cache_size(self.index().bytes());
        Ok(Entry {
            path,
            size,
            sidecar: Some(sidecar),
            lease,
        })
    }

    /// Holds the cached file that a path is a link to, and records its use.
    pub fn hold_linked(self: &Arc<Self>, path: &Path) -> Option<Arc<Lease>> {
        let target = std::fs::read_link(path)
            .ok()
            .filter(|target| target.parent() == Some(self.dir.as_path()))?;
        let base = naming::base_of(target.file_name()?.to_str()?)?.to_owned();
        let name = self.index().lease(&base)?;
        let lease = Arc::new(Lease {
            cache: Arc::clone(self),
            base,
        });
        self.index().touch(&lease.base);
        if let Err(error) = sidecar::touch(&self.dir.join(name)) {
            tracing::debug!(%error, path = %target.display(), "the use of a cached file could not be recorded");
        }
        Some(lease)
    }

    /// Notes that a link to a cached file was made, so that it can go with the file.
    pub fn linked(&self, file: &Path, link: &Path) {
        if let Some(base) = file
            .file_name()
            .and_then(|name| naming::base_of(name.to_str()?))
        {
            self.links.note(base, link);
        }
    }

    /// Bytes free for us on the cache's disk, and whether eviction could make more.
    pub fn free_bytes(&self) -> Option<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.dir).ok()?;
        Some(stat.blocks_available() as u64 * stat.fragment_size() as u64)
    }
}

/// Makes a rename last. Where directories cannot be synced, it lasts as long as the system pleases.
fn sync_directory(dir: &Path) {
    if let Ok(dir) = std::fs::File::open(dir) {
        let _ = dir.sync_all();
    }
}
