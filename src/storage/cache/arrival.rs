//! What is told of a file that was just downloaded.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::events::Events;

/// Tells once that a file was downloaded, and where it was placed (D11): by whoever places it
/// first, else when nobody did.
pub(in crate::storage) struct Arrival {
    events: Events,
    /// `url`, `size`, `duration`.
    data: Mutex<Option<serde_json::Value>>,
    cached: PathBuf,
}

impl Arrival {
    pub fn new(events: Events, data: serde_json::Value, cached: PathBuf) -> Self {
        Self {
            events,
            data: Mutex::new(Some(data)),
            cached,
        }
    }

    pub fn placed(&self, path: &Path) {
        if let Some(mut data) = self.data.lock().take() {
            data["local_path"] = path.to_string_lossy().into_owned().into();
            self.events.storage("file_downloaded", data);
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.placed(&self.cached.clone());
    }
}
