//! A file that comes in pieces: written and hashed on the way, in memory that does not grow with
//! it.

use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::blobs::Incoming;
use super::{Store, StoreError};

/// Gathered before it is written, bytes.
const BUFFER: usize = 512 * 1024;

/// A file on its way in. Gone when dropped before its end.
pub struct Arrival {
    incoming: Incoming,
    file: File,
    hasher: blake3::Hasher,
    size: u64,
    buffer: Vec<u8>,
}

/// A file that has arrived and that nobody has recorded yet.
#[derive(Debug)]
pub struct Arrived {
    /// The file; removed unless it is recorded.
    pub file: Incoming,
    /// 64 hexadecimal digits.
    pub hash: String,
    /// Bytes.
    pub size: u64,
}

impl Arrival {
    /// Nothing has come yet.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub async fn begin(store: &Store) -> Result<Self, StoreError> {
        let incoming = store.incoming();
        Ok(Self {
            file: File::create(incoming.path()).await?,
            incoming,
            hasher: blake3::Hasher::new(),
            size: 0,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Bytes so far.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The next piece.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn take(&mut self, piece: &[u8]) -> Result<(), StoreError> {
        self.size += piece.len() as u64;
        self.hasher.update(piece);
        self.buffer.extend_from_slice(piece);
        if self.buffer.len() >= BUFFER {
            self.file.write_all(&self.buffer).await?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// There is no more.
    ///
    /// # Errors
    /// When the rest cannot be written.
    pub async fn end(mut self) -> Result<Arrived, StoreError> {
        self.file.write_all(&self.buffer).await?;
        self.file.flush().await?;
        Ok(Arrived {
            file: self.incoming,
            hash: self.hasher.finalize().to_hex().to_string(),
            size: self.size,
        })
    }
}
