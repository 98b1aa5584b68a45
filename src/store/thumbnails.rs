//! Small pictures of blobs: made once, kept beside their blob as `<hash>.<pixels>`, counted as part
//! of it, gone with it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rusqlite::{Connection, params};

use super::writer::Write;
use super::{Store, StoreError, blobs, column};

/// Of one blob. More are made anew each time.
const MOST: usize = 8;

/// Whether the name of a file among the blobs is a thumbnail's: the blob's hash.
pub(super) fn blob_of(name: &str) -> Option<&str> {
    name.split_once('.').map(|(hash, _)| hash)
}

fn path(dir: &Path, hash: &str, pixels: u32) -> PathBuf {
    blobs::path(dir, &format!("{hash}.{pixels}"))
}

/// The thumbnails of a blob. Blocks.
fn all(blob: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(hash)) = (blob.parent(), blob.file_name().and_then(|n| n.to_str()))
    else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().and_then(blob_of) == Some(hash))
        .map(|entry| entry.path())
        .collect()
}

/// Bytes beside a blob, as recorded.
fn beside(db: &Connection, hash: &str) -> Result<u64, StoreError> {
    let bytes: i64 = db
        .prepare_cached("SELECT beside FROM blobs WHERE hash = ?")?
        .query_row([hash], |row| row.get(0))?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

impl Store {
    /// The kept thumbnail of a blob with this longer side (pixels).
    pub async fn thumbnail(&self, hash: &str, pixels: u32) -> Option<PathBuf> {
        let path = path(self.dir(), hash, pixels);
        tokio::fs::try_exists(&path).await.ok()?.then_some(path)
    }

    /// Keeps a thumbnail beside its blob. `None` where there are too many of that blob, or there is
    /// no room.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep_thumbnail(
        &self,
        hash: &str,
        pixels: u32,
        bytes: Vec<u8>,
    ) -> Result<Option<PathBuf>, StoreError> {
        let (blob, incoming) = (self.blob_path(hash), self.incoming());
        let size = bytes.len() as u64;
        let writing = tokio::task::spawn_blocking(move || {
            if all(&blob).len() >= MOST {
                return Ok::<_, std::io::Error>(None);
            }
            std::fs::write(incoming.path(), bytes)?;
            Ok(Some(incoming))
        });
        let written = writing
            .await
            .map_err(|error| StoreError::Failed(error.to_string()))??;
        let Some(incoming) = written else {
            return Ok(None);
        };
        let (store, hash) = (self.clone(), hash.to_owned());
        let kept = self.write(move |write| {
            store.make_room(write, size)?;
            if blobs::present(write.db, &hash)?.is_none() {
                return Ok(None);
            }
            let to = path(store.dir(), &hash, pixels);
            std::fs::rename(incoming.path(), &to)?;
            write
                .db
                .prepare_cached("UPDATE blobs SET beside = beside + ? WHERE hash = ?")?
                .execute(params![column(size), hash])?;
            store.inner.used.fetch_add(size, Ordering::Relaxed);
            Ok(Some(to))
        });
        match kept.await {
            Err(StoreError::Full { .. }) => Ok(None),
            kept => kept,
        }
    }

    /// Held while a thumbnail of this blob is made, so that it is made once however many ask for
    /// it.
    pub async fn making_thumbnail(&self, hash: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let lane = usize::from_str_radix(hash.get(..2).unwrap_or_default(), 16).unwrap_or(0);
        self.inner.thumbnails[lane % self.inner.thumbnails.len()]
            .lock()
            .await
    }

    /// Inside a write, before the blob goes: its thumbnails go as well.
    pub(super) fn drop_thumbnails(
        &self,
        write: &mut Write<'_>,
        hash: &str,
    ) -> Result<(), StoreError> {
        let bytes = beside(write.db, hash)?;
        if bytes == 0 {
            return Ok(());
        }
        write.remove.extend(all(&self.blob_path(hash)));
        write
            .db
            .prepare_cached("UPDATE blobs SET beside = 0 WHERE hash = ?")?
            .execute([hash])?;
        self.forget_bytes(bytes);
        Ok(())
    }
}

/// Files found among the blobs at the start that are thumbnails.
#[derive(Default)]
pub(super) struct Found(HashMap<String, Vec<(String, u64)>>);

impl Found {
    /// Takes a file if it is one.
    pub fn take(&mut self, name: &str, size: u64) -> bool {
        let Some(hash) = blob_of(name) else {
            return false;
        };
        let known = self.0.entry(hash.to_owned()).or_default();
        known.push((name.to_owned(), size));
        true
    }

    /// The bytes beside a blob that is there.
    pub fn beside(&mut self, hash: &str) -> u64 {
        let files = self.0.remove(hash).unwrap_or_default();
        files.iter().map(|(_, size)| size).sum()
    }

    /// Removes those of which no blob is there.
    pub fn remove_rest(self, dir: &Path) {
        for (name, _) in self.0.into_values().flatten() {
            let _ = std::fs::remove_file(blobs::path(dir, &name));
        }
    }
}
