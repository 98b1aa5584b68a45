//! Reads a document piece by piece.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;

use super::{CHUNK, Document, Part, quoted, quoted_len};

pub(super) struct Cursor {
    pub(super) document: Document,
    pub(super) next: usize,
    pub(super) open: Option<OpenFile>,
}

impl Cursor {
    pub(super) async fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(open) = self.open.take() {
                let (chunk, open) = blocking(move || open.chunk()).await?;
                self.open = open;
                return Ok(Some(chunk));
            }
            let Some(part) = self.document.parts.get(self.next) else {
                return Ok(None);
            };
            self.next += 1;
            match part {
                Part::Text(text) if text.is_empty() => {}
                Part::Text(text) => return Ok(Some(text.clone())),
                Part::File(file) => {
                    if let Some(content) = file.at_hand() {
                        let mut text = room_for(file.size);
                        quoted(content, &mut text);
                        return Ok(Some(Bytes::from(text)));
                    }
                    let (path, size) = (file.path.clone(), file.size);
                    let (chunk, open) =
                        blocking(move || OpenFile::open(&path, size)?.chunk()).await?;
                    self.open = open;
                    return Ok(Some(chunk));
                }
            }
        }
    }
}

pub(super) struct OpenFile {
    file: File,
    left: u64,
    begun: bool,
}

impl OpenFile {
    pub(super) fn open(path: &Path, size: u64) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            left: size,
            begun: false,
        })
    }

    /// A chunk of text, and the file if there is more in it.
    fn chunk(mut self) -> io::Result<(Bytes, Option<Self>)> {
        let mut text = room_for(self.left.min(CHUNK as u64));
        let more = self.read(&mut text)?;
        Ok((Bytes::from(text), more.then_some(self)))
    }

    /// Appends the next chunk of the quoted text; returns whether there is more.
    pub(super) fn read(&mut self, text: &mut Vec<u8>) -> io::Result<bool> {
        let want = CHUNK.min(usize::try_from(self.left).unwrap_or(CHUNK));
        let mut raw = Vec::with_capacity(want);
        (&mut self.file).take(want as u64).read_to_end(&mut raw)?;
        if raw.len() < want {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= want as u64;
        if !std::mem::replace(&mut self.begun, true) {
            text.push(b'"');
        }
        base64_simd::STANDARD.encode_append(&raw, text);
        if self.left == 0 {
            text.push(b'"');
        }
        Ok(self.left > 0)
    }
}

/// For the quoted text of so many bytes.
fn room_for(bytes: u64) -> Vec<u8> {
    Vec::with_capacity(usize::try_from(quoted_len(bytes)).unwrap_or(0))
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
