//! Which links lead to which cached files, so that none is left dangling when its file goes.
//!
//! One append-only file, a line per link, for all instances on the directory: a line is written
//! whole by one write, a torn last line is ignored. At start it is read, and written anew without
//! the links that are gone. Who writes has its lock.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::locks;
use super::naming::BASE_LENGTH;
use crate::paths;

/// Its name in the cache directory.
pub(super) const FILE: &str = ".links";

/// The links, by base.
pub(super) struct Links {
    file: PathBuf,
    known: Mutex<HashMap<String, HashSet<PathBuf>>>,
}

impl Links {
    pub fn new(file: PathBuf) -> Self {
        Self {
            file,
            known: Mutex::default(),
        }
    }

    /// Reads what all instances have noted.
    pub fn load(&self) {
        self.read();
    }

    /// [`Links::load`], and writes the file anew when it names links that are gone.
    pub fn load_and_clean(&self) {
        if self.read() == 0 {
            return;
        }
        let Ok(_lock) = self.lock() else {
            return;
        };
        // Others may have added some meanwhile.
        self.read();
        let known = self.known.lock();
        let lines: String = known
            .iter()
            .flat_map(|(base, paths)| paths.iter().filter_map(move |path| line(base, path)))
            .collect();
        let _ = paths::replace(&self.file, lines);
    }

    /// How many lines are about links that are gone.
    fn read(&self) -> usize {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let mut known = self.known.lock();
        let mut gone = 0;
        for line in text.split_inclusive('\n') {
            let Some((base, path)) = line
                .strip_suffix('\n')
                .and_then(|line| line.split_once('\t'))
            else {
                continue;
            };
            if base.len() == BASE_LENGTH && Path::new(path).is_symlink() {
                known
                    .entry(base.to_owned())
                    .or_default()
                    .insert(PathBuf::from(path));
            } else {
                gone += 1;
            }
        }
        gone
    }

    /// The file, locked: waits for others, who are quick.
    fn lock(&self) -> io::Result<File> {
        loop {
            let file = File::options().append(true).create(true).open(&self.file)?;
            if let Err(error) = file.lock() {
                locks::missing(&error);
                return Ok(file);
            }
            // Who had the lock may have written the file anew.
            if locks::is_still_at(&file, &self.file) {
                return Ok(file);
            }
        }
    }

    pub fn note(&self, base: &str, link: &Path) {
        let new = self
            .known
            .lock()
            .entry(base.to_owned())
            .or_default()
            .insert(link.to_owned());
        if new && let Some(line) = line(base, link) {
            let appended = self
                .lock()
                .and_then(|mut file| file.write_all(line.as_bytes()));
            if let Err(error) = appended {
                tracing::debug!(%error, "a link to a cached file could not be noted");
            }
        }
    }

    /// The links that lead to a file, in order.
    pub fn to(&self, base: &str, file: &Path) -> Vec<PathBuf> {
        let known = self.known.lock();
        let links = known.get(base).into_iter().flatten();
        let mut links: Vec<PathBuf> = links
            .filter(|link| std::fs::read_link(link).is_ok_and(|target| target == file))
            .cloned()
            .collect();
        links.sort();
        links
    }

    /// Removes the links that lead to a file which is no more.
    pub fn remove_to(&self, base: &str, file: &Path) {
        let links = self.known.lock().remove(base).unwrap_or_default();
        for link in links {
            // Only if it still is a link to this very file.
            if std::fs::read_link(&link).is_ok_and(|target| target == file) {
                let _ = std::fs::remove_file(&link);
            }
        }
    }
}

/// Paths that do not fit into a line (not UTF-8, line breaks) are known only until the next start.
fn line(base: &str, path: &Path) -> Option<String> {
    path.to_str()
        .filter(|path| !path.contains('\n'))
        .map(|path| format!("{base}\t{path}\n"))
}
