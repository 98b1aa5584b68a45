//! A file that is being made and disappears again unless it is kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Deletes its file when dropped, whether by an error, a cancelled task or a panic.
#[derive(Debug)]
pub(super) struct PendingFile {
    path: PathBuf,
    kept: bool,
}

impl PendingFile {
    /// A new name in the directory of `neighbour`; nothing is created yet.
    pub(super) fn beside(neighbour: &Path, extension: &str) -> Self {
        let name = format!("{}.{extension}", uuid::Uuid::new_v4());
        Self {
            path: neighbour.with_file_name(name),
            kept: false,
        }
    }

    /// Where the file is to be made.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file stays, under this name.
    pub(super) fn keep(mut self) -> PathBuf {
        self.kept = true;
        std::mem::take(&mut self.path)
    }

    /// The file stays, under another name in the same directory.
    pub(super) fn rename(self, destination: &Path) -> io::Result<()> {
        fs::rename(&self.path, destination)?;
        self.keep();
        Ok(())
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if !self.kept {
            // It may never have been created, and there is nobody left to tell.
            let _ = fs::remove_file(&self.path);
        }
    }
}
