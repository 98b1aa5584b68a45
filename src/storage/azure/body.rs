//! A part of a file as the Azure SDK wants to have it: seekable, so that it may begin again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::storage::cloud::{FilePart, Meter, READ};

/// A part of a file with the place where reading stands.
pub struct SeekablePart {
    part: FilePart,
    meter: Arc<Meter>,
    reader: Option<tokio::io::Take<tokio::fs::File>>,
}

impl SeekablePart {
    /// Opened by `reset`, which must come before the first read.
    pub fn new(part: FilePart, meter: Arc<Meter>) -> Self {
        Self {
            part,
            meter,
            reader: None,
        }
    }
}

impl Clone for SeekablePart {
    fn clone(&self) -> Self {
        Self::new(self.part.clone(), self.meter.clone())
    }
}

impl std::fmt::Debug for SeekablePart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.part.fmt(f)
    }
}

impl futures_util::io::AsyncRead for SeekablePart {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        let Some(reader) = self.reader.as_mut() else {
            return Poll::Ready(Err(std::io::Error::other("read before reset")));
        };
        let mut filled = tokio::io::ReadBuf::new(buffer);
        match tokio::io::AsyncRead::poll_read(Pin::new(reader), cx, &mut filled) {
            Poll::Ready(Ok(())) => {
                let read = filled.filled().len();
                self.meter.add(read as u64);
                Poll::Ready(Ok(read))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[async_trait::async_trait]
impl azure_core::SeekableStream for SeekablePart {
    async fn reset(&mut self) -> azure_core::Result<()> {
        let mut file = tokio::fs::File::open(&self.part.path).await?;
        file.seek(std::io::SeekFrom::Start(self.part.offset))
            .await?;
        self.reader = Some(file.take(self.part.length));
        Ok(())
    }

    fn len(&self) -> usize {
        usize::try_from(self.part.length).unwrap_or(usize::MAX)
    }

    fn buffer_size(&self) -> usize {
        READ
    }
}
