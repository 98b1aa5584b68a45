//! The names that the manifest has placed: they are the operator's, and no client's call replaces
//! them (attack.md, A17).
//!
//! Kept in the cache directory, so that a restart does not forget them. A name whose link is gone
//! is forgotten at the next start.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::paths;

/// Its name in the cache directory.
pub(super) const FILE: &str = ".manifest-models";

/// Paths of links, each with the base of the cached file that belongs there.
pub(in crate::storage) struct Reserved {
    file: PathBuf,
    names: Mutex<HashMap<PathBuf, String>>,
}

impl Reserved {
    pub fn new(file: PathBuf) -> Self {
        Self {
            file,
            names: Mutex::default(),
        }
    }

    /// Reads what an earlier start has noted.
    pub fn load(&self) {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        let there = lines.filter(|(_, path)| Path::new(path).is_symlink());
        let read = there.map(|(base, path)| (PathBuf::from(path), base.to_owned()));
        let mut names = self.names.lock();
        for (path, base) in read {
            names.entry(path).or_insert(base);
        }
    }

    /// The name is the manifest's from now on, for the file with this base.
    pub fn note(&self, link: &Path, base: &str) {
        let key = key(link);
        let mut names = self.names.lock();
        if names.insert(key, base.to_owned()).as_deref() == Some(base) {
            return;
        }
        let lines: String = names
            .iter()
            .filter_map(|(path, base)| Some(format!("{base}\t{}\n", path.to_str()?)))
            .collect();
        if let Err(error) = paths::replace(&self.file, lines) {
            tracing::debug!(%error, "the names of the manifest's models could not be noted");
        }
    }

    /// The base of the file that belongs under a name, if the name is the manifest's.
    pub fn base(&self, link: &Path) -> Option<String> {
        let names = self.names.lock();
        if names.is_empty() {
            return None;
        }
        names.get(&key(link)).cloned()
    }
}

/// The same for every way to the directory.
fn key(link: &Path) -> PathBuf {
    let name = link.file_name().unwrap_or_default();
    let parent = link.parent().unwrap_or(Path::new("/"));
    parent
        .canonicalize()
        .unwrap_or_else(|_| parent.to_owned())
        .join(name)
}
