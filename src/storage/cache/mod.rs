//! The download cache: a directory that the Node server may have filled, an index of it in memory,
//! leases, eviction.
//!
//! Everything that must survive a kill is in the directory itself: complete files have final names,
//! their descriptions are written before them, and the description's modification time tells when
//! the file was last used.

mod arrival;
mod evict;
mod index;
mod links;
pub(super) mod locks;
pub(super) mod naming;
mod reserved;
pub(super) mod show;
pub(super) mod sidecar;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use url::Url;

use super::backend::ObjectInfo;
use crate::config::{CacheConfig, public_url};
use crate::events::Events;
use crate::limits::transfers::DISK_RESERVE;
use crate::telemetry::metrics;
pub(super) use arrival::Arrival;
use index::Index;
use links::Links;
use locks::Locked;
use reserved::Reserved;
use sidecar::{Found, Sidecar};

/// The cache. Its methods touch the disk: call them from blocking threads.
pub(super) struct Cache {
    pub dir: PathBuf,
    max_bytes: u64,
    index: Mutex<Index>,
    links: Links,
    /// What the manifest has placed.
    pub reserved: Reserved,
    /// Model directories that could not be written, each told once.
    warned: Mutex<HashSet<PathBuf>>,
    events: Events,
    /// When the directory was last looked at for others' files, and how long that took.
    looked: Mutex<Option<(Instant, Duration)>>,
    /// Rises with every change of what is cached.
    version: watch::Sender<u64>,
}

/// A cached file.
#[derive(Clone)]
pub(super) struct Entry {
    pub path: PathBuf,
    pub size: u64,
    pub sidecar: Option<Sidecar>,
    pub lease: Arc<Lease>,
    /// Of a file that was just downloaded.
    pub arrival: Option<Arc<Arrival>>,
}

impl Entry {
    /// It came with credentials.
    pub fn is_protected(&self) -> bool {
        self.sidecar
            .as_ref()
            .is_some_and(|sidecar| sidecar.auth_required)
    }

    /// Whether what an origin says of a file fits what is cached of it: length, ETag, date, at
    /// least one, and none that differs (A02).
    pub fn fits(&self, info: &ObjectInfo) -> bool {
        let sidecar = self.sidecar.as_ref();
        let plain = |etag: &str| etag.trim_start_matches("W/").to_owned();
        let told = info.etag.as_deref().or(info.weak_etag.as_deref());
        let kept = sidecar.and_then(|sidecar| sidecar.etag.as_deref());
        let dates = (
            info.last_modified.as_deref(),
            sidecar.and_then(|sidecar| sidecar.last_modified.as_deref()),
        );
        let compared = [
            told.zip(kept)
                .map(|(told, kept)| plain(told) == plain(kept)),
            dates.0.zip(dates.1).map(|(told, kept)| told == kept),
            info.size.map(|size| size == self.size),
        ];
        let mut known = compared.into_iter().flatten().peekable();
        known.peek().is_some() && known.all(|same| same)
    }
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
            reserved: Reserved::new(config.dir.join(reserved::FILE)),
            warned: Mutex::default(),
            events,
            looked: Mutex::default(),
            version: watch::Sender::new(0),
        }
    }

    /// A number that changes with what is cached.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // The index is consistent after each of its methods, so a panic elsewhere has not broken
        // it.
        self.index.lock()
    }

    /// Makes the directory, reads what is there, removes old partial files, evicts down to the
    /// limit.
    pub fn prepare(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let started = std::time::Instant::now();
        let scan = index::scan(&self.dir, self.max_bytes > 0)?;
        let files = scan.files.len();
        let mut removed = 0;
        for (partial, old) in scan.partials {
            // What a living process writes is locked (A44).
            let _lock = match locks::alone(&partial) {
                Locked::Ours(lock) => Some(lock),
                Locked::Unknown if old => None,
                _ => continue,
            };
            removed += usize::from(std::fs::remove_file(partial).is_ok());
        }
        self.index().fill(scan.files);
        self.changed();
        self.links.load_and_clean();
        self.reserved.load();
        metrics::cache_size(self.index().bytes());
        tracing::info!(
            files,
            partials_removed = removed,
            took_ms = started.elapsed().as_millis() as u64,
            dir = %self.dir.display(),
            "cache read"
        );
        self.evict(0);
        Ok(())
    }

    /// A complete file for a key, leased. Says nothing of permission.
    pub fn find(self: &Arc<Self>, key: &str, url: &Url) -> Option<Entry> {
        let base = naming::base(key);
        let size_of = |name: &str| {
            let metadata = std::fs::metadata(self.dir.join(name)).ok()?;
            metadata.is_file().then_some(metadata.len())
        };
        let known = self.index().name(&base);
        let found = known.and_then(|name| size_of(&name).map(|size| (name, size)));
        let (name, size) = match found {
            Some(found) => found,
            None => {
                // Somebody else removed it, or brought it.
                self.index().remove(&base);
                let name = self.name_on_disk(&base, url)?;
                let size = size_of(&name)?;
                (name, size)
            }
        };
        let lease = self.lease(&base, &name, size)?;
        let path = self.dir.join(&name);
        let sidecar = match Sidecar::read(&path) {
            Found::Sidecar(sidecar) => Some(*sidecar),
            Found::Nothing => None,
            Found::Broken => return None,
        };
        // A file that is not as long as it was is what a power cut leaves behind.
        if sidecar
            .as_ref()
            .and_then(|sidecar| sidecar.size)
            .is_some_and(|told| told != size)
        {
            return None;
        }
        Some(Entry {
            path,
            size,
            sidecar,
            lease,
            arrival: None,
        })
    }

    /// Holds a file that is on the disk.
    fn lease(self: &Arc<Self>, base: &str, name: &str, size: u64) -> Option<Arc<Lease>> {
        let mut index = self.index();
        if index.name(base).as_deref() != Some(name) {
            index.insert(base, name, size, SystemTime::now());
        }
        if !index.lease(base, &self.dir) {
            index.remove(base);
            return None;
        }
        Some(Arc::new(Lease {
            cache: Arc::clone(self),
            base: base.to_owned(),
        }))
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
    pub fn used(&self, entry: &Entry, url: &str) {
        self.index().touch(&entry.lease.base);
        if let Err(error) = sidecar::mark_used(&entry.path, &public_url(url), entry.size) {
            tracing::debug!(
                %error,
                path = %entry.path.display(),
                "the use of a cached file could not be recorded"
            );
        }
    }

    /// Makes a complete and flushed partial file visible, with its description, leased; then evicts
    /// what is too much.
    pub fn admit(
        self: &Arc<Self>,
        partial: &Path,
        key: &str,
        name: &str,
        sidecar: Sidecar,
    ) -> io::Result<Entry> {
        let (base, path) = (naming::base(key), self.dir.join(name));
        let size = std::fs::metadata(partial)?.len();
        // The description first: a protected file must never be there without it.
        sidecar.write(&path)?;
        std::fs::rename(partial, &path)?;
        sync_directory(&self.dir);
        let before = self.index().name(&base).filter(|before| before != name);
        if let Some(before) = before.map(|before| self.dir.join(before)) {
            // The same URL under another extension: the newer file has taken its place, unless
            // another instance uses it.
            if !matches!(locks::alone(&before), Locked::Theirs) {
                let _ = std::fs::remove_file(sidecar::path_of(&before));
                let _ = std::fs::remove_file(before);
            }
        }
        self.index().insert(&base, name, size, SystemTime::now());
        let lease = self
            .lease(&base, name, size)
            .ok_or_else(|| io::Error::other("it was removed at once"))?;
        self.changed();
        self.evict(0);
        metrics::cache_size(self.index().bytes());
        Ok(Entry {
            path,
            size,
            sidecar: Some(sidecar),
            lease,
            arrival: None,
        })
    }

    /// Holds the cached file that a path is a link to, and records its use.
    pub fn hold_linked(self: &Arc<Self>, path: &Path) -> Option<Arc<Lease>> {
        let target = std::fs::read_link(path)
            .ok()
            .filter(|target| target.parent() == Some(self.dir.as_path()))?;
        let base = naming::base_of(target.file_name()?.to_str()?)?.to_owned();
        let name = target.file_name()?.to_str()?;
        let size = target.metadata().ok()?.len();
        let lease = self.lease(&base, name, size)?;
        self.index().touch(&base);
        if let Err(error) = sidecar::touch(&self.dir.join(name)) {
            tracing::debug!(
                %error,
                path = %target.display(),
                "the use of a cached file could not be recorded"
            );
        }
        Some(lease)
    }

    /// Whether a link with this target is one of ours: into this cache, or into one that is no
    /// more.
    pub fn made(&self, target: &Path) -> bool {
        target.parent() == Some(self.dir.as_path())
            || (!target.exists()
                && target
                    .file_name()
                    .and_then(|name| naming::base_of(name.to_str()?))
                    .is_some())
    }

    /// Says once that links cannot be made in a model directory, which is left out.
    pub fn warn_of_directory(&self, dir: &Path, error: &io::Error) {
        let new = self.warned.lock().insert(dir.to_owned());
        if new {
            tracing::warn!(
                path = %dir.display(),
                %error,
                "models cannot be put into this folder, which ComfyUI names first; the next one is \
                 used"
            );
        }
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

    /// Whether the reserve is left on the disk, after evicting what may go for it.
    pub fn has_room(&self) -> bool {
        let left = || self.free_bytes().is_none_or(|free| free >= DISK_RESERVE);
        left() || {
            self.make_room(DISK_RESERVE);
            left()
        }
    }

    /// Bytes free for us on the cache's disk.
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
