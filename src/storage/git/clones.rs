//! One git at a time in each clone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// One git at a time in each clone: two would meet at its lock files.
#[derive(Default)]
pub(in crate::storage) struct Clones(Mutex<HashMap<PathBuf, Turn>>);

impl Clones {
    /// The turn in a folder; none while another repository is at work under that name. Letters'
    /// case does not count: file systems differ.
    pub(super) fn of(&self, folder: &Path, identity: &str) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let key = PathBuf::from(folder.to_string_lossy().to_lowercase());
        let mut clones = self.0.lock();
        clones.retain(|_, turn| turn.lock.strong_count() > 0);
        if let Some(turn) = clones.get(&key) {
            return turn.lock.upgrade().filter(|_| turn.identity == identity);
        }
        let lock = Arc::default();
        let turn = Turn {
            identity: identity.to_owned(),
            lock: Arc::downgrade(&lock),
        };
        clones.insert(key, turn);
        Some(lock)
    }
}

/// Whose turn it is in a folder.
struct Turn {
    pub(super) identity: String,
    pub(super) lock: Weak<tokio::sync::Mutex<()>>,
}
