//! Files on their way out: a part of a file as a stream of bytes, a count of what has left, and the
//! watch over an attempt.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use crate::storage::{ErrorKind, Progress, StorageError};

/// No byte has left and no answer has come for so long: the attempt is given up. Long, because
/// services assemble large files in it.
const STALL: Duration = Duration::from_secs(300);
/// Read from disk at once.
pub const READ: usize = 256 * 1024;

/// A part of a file, read when it is sent.
#[derive(Debug, Clone)]
pub struct FilePart {
    /// Which file.
    pub path: PathBuf,
    /// First byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

impl FilePart {
    /// The bytes; what is read counts as sent.
    pub fn stream(
        &self,
        meter: Arc<Meter>,
    ) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
        let part = self.clone();
        stream::once(async move {
            let mut file = tokio::fs::File::open(&part.path).await?;
            file.seek(std::io::SeekFrom::Start(part.offset)).await?;
            Ok::<_, std::io::Error>(ReaderStream::with_capacity(file.take(part.length), READ))
        })
        .try_flatten()
        .inspect_ok(move |bytes| meter.add(bytes.len() as u64))
    }

    /// The parts of a file of `size` bytes; the last one is shorter.
    pub fn split(path: &Path, size: u64, part: u64) -> Vec<Self> {
        (0..size.div_ceil(part))
            .map(|index| Self {
                path: path.to_owned(),
                offset: index * part,
                length: part.min(size - index * part),
            })
            .collect()
    }
}

/// Counts what has left and tells the caller.
pub struct Meter {
    sent: AtomicU64,
    total: u64,
    progress: Option<Progress>,
}

impl Meter {
    /// For `total` bytes.
    pub fn new(total: u64, progress: Option<&Progress>) -> Arc<Self> {
        Arc::new(Self {
            sent: AtomicU64::new(0),
            total,
            progress: progress.cloned(),
        })
    }

    /// So many more bytes have left.
    pub fn add(&self, bytes: u64) {
        let sent = self.sent.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(progress) = &self.progress {
            progress(sent.min(self.total), Some(self.total));
        }
    }

    /// Comes when nothing has moved for [`STALL`].
    async fn stalled(&self) {
        let mut before = self.sent.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(STALL).await;
            let now = self.sent.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    }
}

/// Runs an attempt until it ends, is cancelled, or stands still.
pub async fn supervised<T>(
    place: &str,
    meter: &Meter,
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(
            StorageError::new(ErrorKind::Cancelled, format!("{place}: the upload was cancelled"))
        ),
        result = work => result,
        () = meter.stalled() => Err(
            StorageError::new(
                ErrorKind::Transient,
                format!("{place}: nothing moved for {} s", STALL.as_secs())
            )
        ),
    }
}

/// Runs `work` for every item, at most `limit` at once; results in the order of the items, the
/// first failure ends all.
pub async fn in_parallel<I, T, F>(
    items: Vec<I>,
    limit: usize,
    work: impl Fn(I) -> F,
) -> Result<Vec<T>, StorageError>
where
    F: Future<Output = Result<T, StorageError>>,
{
    stream::iter(items.into_iter().map(work))
        .buffered(limit)
        .try_collect()
        .await
}

/// The size of a file that is to be uploaded.
pub async fn size_of(path: &Path) -> Result<u64, StorageError> {
    let metadata = tokio::fs::metadata(path).await;
    metadata.map(|metadata| metadata.len()).map_err(|error| {
        StorageError::new(ErrorKind::Failed, format!("{}: {error}", path.display()))
    })
}
