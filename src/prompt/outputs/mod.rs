//! From ComfyUI's history entry to files that are ready to be delivered.

mod collect;
mod process;

use std::path::PathBuf;

pub use collect::{Collected, collect};
pub use process::{OutputFile, Wishes, finish};

/// Files that are removed when the request is over, whichever way it ends.
#[derive(Debug, Default)]
pub struct Leftovers {
    paths: std::sync::Mutex<Vec<PathBuf>>,
}

impl Leftovers {
    /// Adds a file.
    pub fn add(&self, path: PathBuf) {
        self.paths.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(path);
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let paths = std::mem::take(&mut *self.paths.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        if paths.is_empty() {
            return;
        }
        let remove = move || {
            for path in paths {
                if let Err(error) = std::fs::remove_file(&path)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!(path = %path.display(), %error, "cannot remove an output file");
                }
            }
        };
        // Unlinking a large file may take a while; never on the runtime's own threads.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}
