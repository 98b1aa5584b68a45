//! What survives a restart: jobs, assets and idempotency keys in one embedded database, their bytes
//! as files named by their hash (v2.md, "What survives").
//!
//! One thread writes ([`writer`]), in the order in which it was asked, many writes in one
//! transaction; files get their final name inside the write that records them, so that a kill at
//! any moment leaves a record with its file, or neither. Reading happens on blocking threads with
//! connections of their own. The store knows nothing of ComfyUI or of transports.

pub mod arrival;
pub mod assets;
pub mod blobs;
mod error;
pub mod jobs;
pub mod keys;
mod open;
mod retention;
pub mod runs;
mod schema;
pub mod signature;
mod thumbnails;
pub mod uploads;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{Notify, oneshot};

pub use assets::{AssetRecord, NewAsset};
pub use error::StoreError;
pub use jobs::{JobRecord, JobStatus, ListQuery, NewJob};
pub use writer::Write;
use writer::{Haste, Writer};

/// Connections for reading that are kept.
const READERS: usize = 4;
/// Thumbnails that are made at one time, at most.
const THUMBNAILS: usize = 16;

/// How long things are kept, and how much room they may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Of a job after its end.
    pub retention: Duration,
    /// Of an upload after its last use.
    pub asset_retention: Duration,
    /// Blobs and database together, bytes.
    pub max_bytes: u64,
    /// Job records.
    pub max_jobs: u64,
    /// Bytes that stay free on the disk.
    pub reserve: u64,
}

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    limits: Limits,
    secret: [u8; 32],
    writer: Writer,
    readers: Mutex<Vec<Connection>>,
    /// Bytes of blobs that are there.
    used: AtomicU64,
    /// Job records.
    jobs: AtomicU64,
    /// Assets that something reads right now, by hash: not to be evicted.
    held: Mutex<HashMap<String, usize>>,
    /// Held while thumbnails are made.
    thumbnails: [tokio::sync::Mutex<()>; THUMBNAILS],
    /// When the next thing expires, ms; `i64::MAX` when nothing does.
    due: AtomicI64,
    due_changed: Notify,
    /// Dropped last: the lock, and the directory if it was only a temporary one.
    _home: open::Home,
}

impl Store {
    /// Opens it, or a temporary one where that is not possible. Blocks. The second value says what
    /// is worth a line in the log.
    ///
    /// # Errors
    /// When not even a temporary directory can be had.
    pub fn open(dir: Option<&Path>, limits: Limits) -> std::io::Result<(Self, Vec<String>)> {
        open::open(dir, limits)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// How long things are kept.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Writes; resolves when it is committed.
    ///
    /// # Errors
    /// What the work says, or that the database cannot be written.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Write<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        received(self.inner.writer.send(Haste::Now, work).await)
    }

    /// Writes without waiting for the commit; later writes come after it.
    pub fn write_later(
        &self,
        work: impl FnOnce(&mut Write<'_>) -> Result<(), StoreError> + Send + 'static,
    ) {
        drop(self.inner.writer.send(Haste::Now, work));
    }

    /// The same for what a kill may lose: it goes with the next write.
    pub(crate) fn write_with_the_next(
        &self,
        work: impl FnOnce(&mut Write<'_>) -> Result<(), StoreError> + Send + 'static,
    ) {
        drop(self.inner.writer.send(Haste::MayLie, work));
    }

    /// Waits until everything that was written so far is committed.
    pub async fn settled(&self) {
        let _ = self.write(|_| Ok(())).await;
    }

    /// Reads on a blocking thread.
    ///
    /// # Errors
    /// What the work says.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || inner.read(work))
            .await
            .unwrap_or_else(|error| Err(StoreError::Failed(error.to_string())))
    }
}

impl Inner {
    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let kept = self.readers.lock().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => open::reader(&self.dir)?,
        };
        let result = work(&connection);
        let mut readers = self.readers.lock();
        if readers.len() < READERS {
            readers.push(connection);
        }
        result
    }

    /// Something expires then: the timer may have to be set earlier.
    fn expires(&self, at: i64) {
        if self.due.fetch_min(at, Ordering::Relaxed) > at {
            self.due_changed.notify_one();
        }
    }
}

fn received<T>(
    answer: Result<Result<T, StoreError>, oneshot::error::RecvError>,
) -> Result<T, StoreError> {
    answer.unwrap_or_else(|_| Err(StoreError::Failed("the database cannot be written".into())))
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let now = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// SQLite's integers have a sign.
fn column(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("dir", &self.inner.dir)
            .finish_non_exhaustive()
    }
}
