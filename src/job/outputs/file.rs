//! One file to deliver.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use serde::Serialize;

use crate::media;

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
}

impl OutputFile {
    /// Learns size and content type from the file itself. Blocks.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be read.
    pub(super) fn look(&mut self) -> io::Result<()> {
        // To open a pipe is to wait for its other end, but not so.
        let file = File::options()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let head = media::head_of(file)?;
        self.size = metadata.len();
        self.content_type = media::content_type(&self.filename, &head);
        Ok(())
    }
}
