//! The body of a delivery: a document, or the rest of a spool file. Either can be streamed as often
//! as there are attempts.

use std::io::{self, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::Instant;

use crate::document::Document;

/// What is read from a spool file at a time.
const READ: usize = 256 * 1024;

/// The unit in which progress is noticed. Small, so that a slow line is not taken for a stalled
/// one: with 30 s of patience, 2 KiB a second are enough.
const PIECE: usize = 64 * 1024;

/// Where a body comes from.
#[derive(Debug, Clone)]
pub enum Body {
    /// Still in the process: text in memory, files on disk.
    Document(Document),
    /// In the spool.
    Spooled {
        /// The spool file.
        path: PathBuf,
        /// Where the body begins.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
}

impl Body {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Document(document) => document.len(),
            Self::Spooled { len, .. } => *len,
        }
    }

    /// The bytes from the beginning, in pieces.
    pub fn stream(&self) -> BoxStream<'static, io::Result<Bytes>> {
        let chunks = match self {
            Self::Document(document) => document.stream().boxed(),
            Self::Spooled { path, offset, len } => spooled(path.clone(), *offset, *len).boxed(),
        };
        chunks.flat_map(|chunk| stream::iter(pieces(chunk))).boxed()
    }
}

fn pieces(chunk: io::Result<Bytes>) -> impl Iterator<Item = io::Result<Bytes>> {
    let mut rest = Some(chunk);
    std::iter::from_fn(move || match rest.take()? {
        Ok(mut bytes) if bytes.len() > PIECE => {
            let piece = bytes.split_to(PIECE);
            rest = Some(Ok(bytes));
            Some(Ok(piece))
        }
        last => Some(last),
    })
}

fn spooled(
    path: PathBuf,
    offset: u64,
    len: u64,
) -> impl stream::Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold((None, len), move |(open, left): (Option<File>, u64)| {
        let path = path.clone();
        async move {
            if left == 0 {
                return Ok(None);
            }
            let mut file = match open {
                Some(file) => file,
                None => {
                    let mut file = File::open(&path).await?;
                    file.seek(SeekFrom::Start(offset)).await?;
                    file
                }
            };
            let want = usize::try_from(left).unwrap_or(READ).min(READ);
            let mut chunk = vec![0; want];
            file.read_exact(&mut chunk).await?;
            Ok(Some((Bytes::from(chunk), (Some(file), left - want as u64))))
        }
    })
}

/// When something last moved in an attempt. A big body may take hours on a slow line; what ends an
/// attempt is standstill.
#[derive(Debug, Clone)]
pub struct Progress {
    start: Instant,
    moved_ms: Arc<AtomicU64>,
}

impl Progress {
    /// Starts now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            moved_ms: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Something moved.
    pub fn mark(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(elapsed, Ordering::Relaxed);
    }

    /// Ends when nothing has moved for so long.
    pub async fn stalled(&self, patience: Duration) {
        loop {
            let deadline = self.start
                + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed))
                + patience;
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn a_spool_file_is_read_from_its_offset_in_small_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let bytes: Vec<u8> = (0..READ * 2 + 77)
            .map(|i| u8::try_from(i % 251).unwrap())
            .collect();
        std::fs::write(&path, &bytes).unwrap();
        let body = Body::Spooled {
            path,
            offset: 10,
            len: bytes.len() as u64 - 10,
        };
        let chunks: Vec<Bytes> = body.stream().try_collect().await.unwrap();
        assert!(chunks.iter().all(|chunk| chunk.len() <= PIECE));
        assert_eq!(chunks.concat(), bytes[10..]);
        let document = Body::Document(Document::from_text(bytes.clone()));
        let chunks: Vec<Bytes> = document.stream().try_collect().await.unwrap();
        assert!(chunks.iter().all(|chunk| chunk.len() <= PIECE));
        assert_eq!(chunks.concat(), bytes);
    }

    #[tokio::test]
    async fn a_truncated_spool_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"short").unwrap();
        let body = Body::Spooled {
            path,
            offset: 0,
            len: 6,
        };
        assert!(body.stream().try_collect::<Vec<Bytes>>().await.is_err());
    }
}
