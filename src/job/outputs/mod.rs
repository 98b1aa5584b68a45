//! From ComfyUI's history entry to files that are ready to be delivered.

mod collect;
mod file;
mod process;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

pub use collect::{Collected, Origin, collect};
pub use file::OutputFile;
pub use process::{DeliveryOptions, finish};

use super::cleaner::Cleaner;

/// Files that are removed when the request is over, whichever way it ends.
#[derive(Debug, Default)]
pub struct FileCleanup {
    paths: Mutex<Vec<PathBuf>>,
    cleaner: Cleaner,
}

impl FileCleanup {
    /// No files yet.
    pub fn new(cleaner: Cleaner) -> Self {
        Self {
            paths: Mutex::default(),
            cleaner,
        }
    }

    /// Adds a file.
    pub fn add(&self, path: PathBuf) {
        self.paths
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(path);
    }
}

impl Drop for FileCleanup {
    fn drop(&mut self) {
        let paths = std::mem::take(&mut *self.paths.lock().unwrap_or_else(PoisonError::into_inner));
        if !paths.is_empty() {
            self.cleaner.later(move || remove(&paths));
        }
    }
}

fn remove(paths: &[PathBuf]) {
    for path in paths {
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove an output file");
        }
    }
}
