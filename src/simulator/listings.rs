//! The lists of model folders as ComfyUI keeps them: made anew only when the modification time of
//! one of the directories differs from the one that was noted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use parking_lot::Mutex;

use super::folders::{Folder, files_below};

/// Kept lists, by folder.
#[derive(Debug, Default)]
pub struct Listings {
    known: Mutex<HashMap<String, Listing>>,
    /// Milliseconds.
    tick: AtomicU64,
}

#[derive(Debug, Clone)]
struct Listing {
    names: Vec<String>,
    /// The directories, with those below.
    times: BTreeMap<PathBuf, u128>,
}

impl Listings {
    /// The names that a folder lists.
    pub fn list(&self, folder: &Folder, accepts: impl Fn(&str) -> bool) -> Vec<String> {
        let mut known = self.known.lock();
        if let Some(listing) = known.get(&folder.name)
            && self.is_current(listing, folder)
        {
            return listing.names.clone();
        }
        let mut names = BTreeSet::new();
        let mut times = BTreeMap::new();
        for directory in &folder.directories {
            // As the original does it: the times first.
            self.note(directory, &mut times, 0);
            names.extend(
                files_below(directory)
                    .into_iter()
                    .filter(|name| accepts(name)),
            );
        }
        let names: Vec<String> = names.into_iter().collect();
        let listing = Listing {
            names: names.clone(),
            times,
        };
        known.insert(folder.name.clone(), listing);
        names
    }

    pub fn set_tick(&self, milliseconds: u64) {
        self.tick.store(milliseconds, Ordering::Relaxed);
    }

    fn is_current(&self, listing: &Listing, folder: &Folder) -> bool {
        let same = |(path, time): (&PathBuf, &u128)| self.time(path) == Some(*time);
        let noted = |dir: &PathBuf| !dir.is_dir() || listing.times.contains_key(dir);
        listing.times.iter().all(same) && folder.directories.iter().all(noted)
    }

    fn note(&self, directory: &Path, times: &mut BTreeMap<PathBuf, u128>, depth: usize) {
        let Some(time) = self.time(directory).filter(|_| depth < 32) else {
            return;
        };
        times.insert(directory.to_owned(), time);
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.path().is_dir() && entry.file_name() != ".git" {
                self.note(&entry.path(), times, depth + 1);
            }
        }
    }

    fn time(&self, directory: &Path) -> Option<u128> {
        let metadata = std::fs::metadata(directory).ok().filter(|m| m.is_dir())?;
        let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let tick = u128::from(self.tick.load(Ordering::Relaxed)) * 1_000_000;
        Some(match tick {
            0 => since.as_nanos(),
            tick => since.as_nanos() / tick,
        })
    }
}
