//! What one job may write, and what of it is there.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};

use super::prefix::Prefix;
use super::{CLOCK_LAG, Claims, Folder, above};
use crate::job::cleanup::going_on::Before;
use crate::job::cleanup::journal::Entry;
use crate::job::cleanup::walk::files_below;
use crate::paths::normal;

/// Whose a file is, by its name.
#[derive(Debug, PartialEq, Eq)]
pub enum Owner {
    /// Ours: the nodes whose prefix it bears.
    Ours(Vec<String>),
    /// Another prompt's that is in flight.
    Another,
    /// It bears no prefix of anybody.
    Nobody,
}

/// What one prompt claims, until its files are removed.
#[derive(Debug)]
pub struct Claim {
    pub(super) claims: Claims,
    pub(super) number: u64,
    /// How its files begin.
    pub prefixes: Arc<[Prefix]>,
    /// ComfyUI's output directory.
    pub output_dir: PathBuf,
    /// The temp directory of the ComfyUI that it runs in.
    pub(super) temp_dir: Mutex<PathBuf>,
    /// Files with our prefixes that were there before.
    pub(super) earlier: HashSet<PathBuf>,
    /// Nobody but this run has ever had these prefixes, so that its files can stay where they are.
    pub fresh: bool,
    /// Files of ours that are taken and stay where they are.
    pub(super) in_place: Mutex<HashSet<PathBuf>>,
    pub(super) folders: Vec<PathBuf>,
    pub(super) began: SystemTime,
    /// What is noted for the case of a kill.
    pub entry: Arc<Entry>,
}

/// How old the prefixes of a claim are.
#[derive(Debug, Default)]
pub enum Age {
    /// There may be files with them.
    #[default]
    Unknown,
    /// They were made for this run, of a random number.
    Fresh,
    /// ComfyUI has had them since an earlier process.
    Since(Before),
}

impl Claim {
    /// The temp directory of the ComfyUI that it runs in.
    pub fn temp_dir(&self) -> PathBuf {
        self.temp_dir.lock().clone()
    }

    /// It runs in another one.
    pub fn runs_with(&self, temp_dir: PathBuf) {
        *self.temp_dir.lock() = temp_dir;
    }

    /// Whose a file is: of several prefixes that fit, the longest counts, since an id may be the
    /// beginning of another.
    pub fn owner(&self, file: &str) -> Owner {
        let longest = |prefixes: &[Prefix]| {
            let fitting = prefixes.iter().filter(|prefix| prefix.fits(file));
            fitting.map(|prefix| prefix.name.len()).max()
        };
        let ours = longest(&self.prefixes);
        // Nobody else's name begins with a random one of ours, so thousands need no comparison.
        let others = if self.fresh && ours.is_some() {
            None
        } else {
            let table = self.claims.lock();
            let held = table
                .held
                .iter()
                .filter(|(number, _)| **number != self.number);
            held.filter_map(|(_, prefixes)| longest(prefixes)).max()
        };
        match (ours, others) {
            (None, None) => Owner::Nobody,
            (Some(ours), others) if others.is_none_or(|others| ours >= others) => {
                let bearing = |prefix: &&Prefix| prefix.name.len() == ours && prefix.fits(file);
                let nodes = self.prefixes.iter().filter(bearing);
                Owner::Ours(nodes.map(|prefix| prefix.node.clone()).collect())
            }
            _ => Owner::Another,
        }
    }

    /// Whether a file of this name begins like ours.
    fn bears(&self, name: &str) -> bool {
        self.prefixes.iter().any(|prefix| prefix.fits(name))
    }

    /// The nodes of ours that a file belongs to for sure: no other prompt in flight could have made
    /// it. `None` for all other files, those that were there before included.
    fn certainly_of(&self, path: &Path) -> Option<Vec<String>> {
        let name = path.file_name()?.to_str()?;
        let Owner::Ours(nodes) = self.owner(name) else {
            return None;
        };
        if self.earlier.contains(path) || self.in_place().contains(path) || self.shared(name) {
            return None;
        }
        Some(nodes)
    }

    /// Whether another prompt in flight has the very prefix that a file of ours bears.
    fn shared(&self, file: &str) -> bool {
        if self.fresh {
            return false;
        }
        let ours = self.prefixes.iter().filter(|prefix| prefix.fits(file));
        let Some(longest) = ours.map(|prefix| prefix.name.len()).max() else {
            return false;
        };
        let table = self.claims.lock();
        let mut others = table
            .held
            .iter()
            .filter(|(number, _)| **number != self.number);
        others.any(|(_, prefixes)| {
            let mut fitting = prefixes.iter().filter(|prefix| prefix.fits(file));
            fitting.any(|prefix| prefix.name.len() == longest)
        })
    }

    /// Files of ours in a folder, in the order of their names, with the nodes whose prefix they
    /// bear. Blocks.
    pub fn files_in(&self, folder: &Path) -> Vec<(PathBuf, Vec<String>)> {
        // Names first: an output directory may hold thousands of files of others.
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
            .filter(|entry| {
                entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| self.bears(name))
            })
            .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()))
            .map(|entry| entry.path())
            .filter_map(|path| Some((self.certainly_of(&path)?, path)))
            .map(|(nodes, path)| (path, nodes))
            .collect();
        files.sort();
        files
    }

    /// Files of ours in the folders of our prefixes. Blocks.
    pub fn in_folders(&self) -> impl Iterator<Item = (PathBuf, Vec<String>)> {
        self.in_folders_and(&[])
    }

    /// Files of ours in the folders of our prefixes and in those of these files. Blocks.
    pub fn in_folders_and(
        &self,
        files: &[PathBuf],
    ) -> impl Iterator<Item = (PathBuf, Vec<String>)> {
        let certain = self
            .prefixes
            .iter()
            .filter(|prefix| prefix.folder_is_certain());
        let mut folders: Vec<PathBuf> = certain
            .map(|prefix| normal(&self.output_dir.join(&prefix.folder)))
            .collect();
        folders.extend(files.iter().filter_map(|path| Some(normal(path.parent()?))));
        folders.sort();
        folders.dedup();
        folders
            .into_iter()
            .flat_map(|folder| self.files_in(&folder))
    }

    /// Files of ours anywhere below the output directory that were made since we began. Blocks.
    pub fn anywhere(&self) -> Vec<(PathBuf, Vec<String>)> {
        files_below(&self.output_dir, |name| self.bears(name))
            .into_iter()
            .filter(|path| self.is_new(path))
            .filter_map(|path| Some((self.certainly_of(&path)?, path)))
            .map(|(nodes, path)| (path, nodes))
            .collect()
    }

    fn is_new(&self, path: &Path) -> bool {
        let modified = path.symlink_metadata().and_then(|about| about.modified());
        modified.is_ok_and(|modified| modified + CLOCK_LAG >= self.began)
    }

    /// A file of ours lies here: the folder, and those above it, go with us if they came with us.
    /// Blocks.
    pub fn uses_folder_of(&self, path: &Path) {
        let Some(folder) = path.parent() else { return };
        for path in above(folder, &self.output_dir) {
            let born = path.metadata().and_then(|about| about.created());
            if !born.is_ok_and(|born| born + CLOCK_LAG >= self.began) {
                continue;
            }
            let mut table = self.claims.lock();
            table.folders.entry(path).or_insert(Folder {
                users: 0,
                made: true,
                unannounced: true,
            });
        }
    }

    /// A file of ours is taken, and stays where it is.
    pub fn take_in_place(&self, path: &Path) {
        self.in_place().insert(path.to_path_buf());
    }

    /// The run is done once more: what it has made so far goes, so that it is not taken for what
    /// comes. Blocks.
    pub fn withdraw(&self) {
        for path in self.in_place().drain() {
            let _ = std::fs::remove_file(path);
        }
    }

    fn in_place(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.in_place.lock()
    }

    /// All that was written is taken: the prefixes are free, for a prompt with the same id may
    /// come.
    pub fn release_names(&self) {
        self.claims.lock().held.remove(&self.number);
    }

    /// Removes every file that bears our prefixes: what a run left that did not get as far as being
    /// delivered. Blocks.
    pub fn sweep(&self) {
        if self.prefixes.is_empty() {
            return;
        }
        let temp_dir = self.temp_dir();
        let temp = self.files_in(&temp_dir);
        for (path, _) in self.in_folders().chain(self.anywhere()).chain(temp) {
            self.uses_folder_of(&path);
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Claim {
    /// Removes the folders that came with prompts and are not needed any more. They are few, and
    /// the lock makes sure that nobody announces one meanwhile.
    fn drop(&mut self) {
        let mut table = self.claims.lock();
        table.held.remove(&self.number);
        for path in &self.folders {
            if let Some(folder) = table.folders.get_mut(path) {
                folder.users = folder.users.saturating_sub(1);
            }
        }
        let idle = table.held.is_empty();
        let unused: Vec<PathBuf> = table
            .folders
            .iter()
            .rev()
            .filter(|(_, folder)| folder.users == 0 && (idle || !folder.unannounced))
            .map(|(path, _)| path.clone())
            .collect();
        // Deepest first: a folder sorts behind those above it.
        for path in unused {
            let made = table.folders.get(&path).is_some_and(|folder| folder.made);
            let gone = !made
                || match std::fs::remove_dir(&path) {
                    Ok(()) => true,
                    Err(error) => error.kind() == std::io::ErrorKind::NotFound,
                };
            // One that holds something else is not ours any more, unless somebody in flight has it
            // there.
            if gone || idle {
                table.folders.remove(&path);
            }
        }
    }
}
