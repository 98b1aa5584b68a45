//! One file to deliver.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use serde::Serialize;

use crate::document::EmbeddedFile;
use crate::media;

/// Files up to this size (bytes) are read whole when they are looked at, instead of twice.
const SMALL: u64 = 64 * 1024;

/// A file to deliver; what `outputs[i]` says of `images[i]`.
#[derive(Debug, Clone, Serialize)]
pub struct OutputFile {
    /// The node it comes from; null for an archive of all of them.
    pub node_id: Option<String>,
    /// ComfyUI's key: `images`, `gifs`, `audio`...
    pub output: String,
    /// Its name towards the client, without a folder.
    pub filename: String,
    /// By name and first bytes.
    pub content_type: String,
    /// Bytes.
    pub size: u64,
    /// Where it is.
    #[serde(skip)]
    pub path: PathBuf,
    /// Where ComfyUI wrote it; empty for what we have made.
    #[serde(skip)]
    pub written_to: PathBuf,
    /// All of it, where it was read already.
    #[serde(skip)]
    pub content: Option<Bytes>,
}

impl OutputFile {
    /// Learns size and content type from the file itself. A small one is kept in memory while there
    /// is `room` (bytes), which becomes less by it. Blocks.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be read.
    pub(super) fn look(&mut self, room: &mut u64) -> io::Result<()> {
        // To open a pipe is to wait for its other end, but not so.
        let file = File::options()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        self.size = metadata.len();
        let kept = self.size <= SMALL.min(*room);
        let head = media::head_of(file, if kept { self.size } else { 0 })?;
        self.content_type = media::content_type(&self.filename, &head);
        self.content = None;
        if kept && head.len() as u64 == self.size {
            *room -= self.size;
            self.content = Some(head.into());
        }
        Ok(())
    }

    /// As part of a document.
    pub fn embedded(&self) -> EmbeddedFile {
        EmbeddedFile {
            path: self.path.clone(),
            size: self.size,
            content: self.content.clone(),
        }
    }
}
