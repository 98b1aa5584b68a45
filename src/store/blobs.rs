//! Files: named by their hash once it is known, under the asset's id until then; written under
//! another name first.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rusqlite::{OptionalExtension, params};

use super::writer::Write;
use super::{Store, StoreError, column, now_ms};

pub(super) const BLOBS: &str = "blobs";
/// Files whose hash is not known yet, named by their asset.
pub(super) const PENDING: &str = "pending";
/// Files that nobody has recorded yet.
pub(super) const INCOMING: &str = "incoming";
/// What is above this is hashed after it was committed.
pub const HASHED_AT_ONCE: u64 = 64 << 20;

/// A file on its way in; removed if it does not arrive.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
}

impl Incoming {
    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Holds a blob against eviction while somebody reads it.
pub struct Held {
    store: Store,
    hash: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.store.inner.held.lock();
        if let Some(count) = held.get_mut(&self.hash) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.hash);
            }
        }
    }
}

/// Where a blob lies.
pub(super) fn path(dir: &Path, hash: &str) -> PathBuf {
    dir.join(BLOBS)
        .join(hash.get(..2).unwrap_or("__"))
        .join(hash)
}

/// The hash of a file. Blocks.
///
/// # Errors
/// When it cannot be read.
pub fn hash_file(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path)?;
    // Most outputs are small, and a large buffer has to be cleared.
    let most = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut buffer = vec![0_u8; most.clamp(1, 256 * 1024)];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&buffer[..read]);
    }
}

/// A hard link where the file systems allow it, else a copy. Blocks.
///
/// # Errors
/// When neither is possible.
pub fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    if std::fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let copied = std::fs::copy(from, to);
    if copied.is_err() {
        let _ = std::fs::remove_file(to);
    }
    copied.map(drop)
}

impl Store {
    /// A place for a file that is about to come.
    pub fn incoming(&self) -> Incoming {
        let name = uuid::Uuid::new_v4().simple().to_string();
        Incoming {
            path: self.inner.dir.join(INCOMING).join(name),
        }
    }

    /// Where a blob lies, or would.
    pub fn blob_path(&self, hash: &str) -> PathBuf {
        path(&self.inner.dir, hash)
    }

    /// Where a file lies whose hash is not known yet.
    pub fn pending_path(&self, asset: &str) -> PathBuf {
        self.inner.dir.join(PENDING).join(asset)
    }

    /// Bytes in use: blobs and database.
    pub fn used(&self) -> u64 {
        let size = |name: &str| {
            std::fs::metadata(self.inner.dir.join(name))
                .map(|data| data.len())
                .unwrap_or(0)
        };
        self.inner.used.load(Ordering::Relaxed) + size("state.db") + size("state.db-wal")
    }

    /// Keeps a blob from being evicted.
    pub fn hold(&self, hash: &str) -> Held {
        *self.inner.held.lock().entry(hash.to_owned()).or_default() += 1;
        Held {
            store: self.clone(),
            hash: hash.to_owned(),
        }
    }

    /// Whether there is such a blob; it counts as used.
    pub async fn has_blob(&self, hash: &str) -> Result<bool, StoreError> {
        let hash = hash.to_owned();
        self.read(move |db| Ok(present(db, &hash)?.is_some())).await
    }

    /// Makes room for the bytes unless they are here; inside a write.
    ///
    /// # Errors
    /// [`StoreError::Full`] when everything that is left is needed.
    pub(super) fn make_room_for_blob(
        &self,
        write: &mut Write<'_>,
        hash: &str,
        size: u64,
    ) -> Result<(), StoreError> {
        match present(write.db, hash)? {
            Some(_) => Ok(()),
            None => self.make_room(write, size),
        }
    }

    /// Moves a file that has arrived under its final name and records it; inside a write. `true`
    /// when the bytes are new.
    pub(super) fn place_blob(
        &self,
        write: &mut Write<'_>,
        file: &Path,
        hash: &str,
        size: u64,
    ) -> Result<bool, StoreError> {
        let known = present(write.db, hash)?.is_some();
        let to = self.blob_path(hash);
        if known && to.exists() {
            write
                .db
                .prepare_cached("UPDATE blobs SET used_at = ? WHERE hash = ?")?
                .execute(params![now_ms(), hash])?;
            let _ = std::fs::remove_file(file);
            return Ok(false);
        }
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::rename(file, &to)?;
        write
            .db
            .prepare_cached(
                "INSERT INTO blobs (hash, size, used_at, present) VALUES (?1, ?2, ?3, 1)
             ON CONFLICT (hash) DO UPDATE SET present = 1, used_at = ?3",
            )?
            .execute(params![hash, column(size), now_ms()])?;
        self.inner.used.fetch_add(size, Ordering::Relaxed);
        Ok(true)
    }

    /// Removes a blob that nothing refers to any more; inside a write.
    pub(super) fn drop_blob_if_unused(
        &self,
        write: &mut Write<'_>,
        hash: &str,
    ) -> Result<(), StoreError> {
        let used: bool = write
            .db
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM assets WHERE hash = ?1) OR EXISTS (SELECT 1 FROM \
                 job_blobs WHERE hash = ?1)",
            )?
            .query_row([hash], |row| row.get(0))?;
        if used {
            return Ok(());
        }
        if let Some(size) = present(write.db, hash)? {
            self.drop_thumbnails(write, hash)?;
            self.forget_bytes(size);
            write.remove.push(self.blob_path(hash));
        }
        write
            .db
            .prepare_cached("DELETE FROM blobs WHERE hash = ?")?
            .execute([hash])?;
        Ok(())
    }

    pub(super) fn forget_bytes(&self, size: u64) {
        let _ = self
            .inner
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                Some(used.saturating_sub(size))
            });
    }
}

/// The size of a blob that is there.
pub(super) fn present(db: &rusqlite::Connection, hash: &str) -> Result<Option<u64>, StoreError> {
    Ok(db
        .prepare_cached("SELECT size FROM blobs WHERE hash = ? AND present")?
        .query_row([hash], |row| row.get::<_, i64>(0))
        .optional()?
        .map(|size| u64::try_from(size).unwrap_or(0)))
}
