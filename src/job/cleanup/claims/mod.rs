//! Which file names in ComfyUI's directories belong to which prompt in flight, and which folders
//! came with it (faults F04, F09, F16).

mod claim;
mod prefix;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};

use super::going_on::Before;
use super::journal::{Entry, Record};
use crate::comfy::watch::new_prompt_id;

pub use claim::{Age, Claim, Owner};
pub use prefix::Prefix;

/// How far the clocks of files lag behind ours.
const CLOCK_LAG: Duration = Duration::from_millis(50);

/// All claims. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    held: HashMap<u64, Arc<[Prefix]>>,
    folders: BTreeMap<PathBuf, Folder>,
}

/// A folder that prompts write to.
#[derive(Debug, Default)]
struct Folder {
    users: usize,
    /// It came with a prompt, and goes when it is empty and unused.
    made: bool,
    /// Nobody said beforehand that he would write to it, so that it is only unused when nothing is
    /// in flight.
    unannounced: bool,
}

impl Claims {
    /// Claims what a prompt will write, before ComfyUI gets it. Blocks.
    #[cfg(test)]
    pub fn open(
        &self,
        prefixes: Vec<Prefix>,
        output_dir: &Path,
        temp_dir: &Path,
        entry: Arc<Entry>,
    ) -> Claim {
        self.open_aged(prefixes, output_dir, temp_dir, entry, Age::Unknown)
    }

    /// Claims what a prompt will write, before ComfyUI gets it; or what one writes that ComfyUI has
    /// since an earlier process. Blocks.
    pub fn open_aged(
        &self,
        prefixes: Vec<Prefix>,
        output_dir: &Path,
        temp_dir: &Path,
        entry: Arc<Entry>,
        age: Age,
    ) -> Claim {
        let prefixes: Arc<[Prefix]> = prefixes.into();
        let folders = announced_folders(&prefixes, output_dir);
        let mut table = self.lock();
        table.next += 1;
        let number = table.next;
        table.held.insert(number, prefixes.clone());
        for path in &folders {
            let folder = table.folders.entry(path.clone()).or_default();
            folder.made |= folder.users == 0 && !path.exists();
            folder.users += 1;
        }
        let made = folders
            .iter()
            .filter(|path| table.folders.get(*path).is_some_and(|folder| folder.made))
            .cloned()
            .collect();
        drop(table);
        let mut claim = Claim {
            claims: self.clone(),
            number,
            prefixes,
            output_dir: output_dir.to_path_buf(),
            temp_dir: Mutex::new(temp_dir.to_path_buf()),
            earlier: HashSet::new(),
            fresh: matches!(age, Age::Fresh),
            in_place: Mutex::default(),
            folders,
            began: SystemTime::now(),
            entry,
        };
        let runs_already = matches!(age, Age::Since(_));
        match age {
            Age::Since(Before { at, earlier }) => (claim.began, claim.earlier) = (at, earlier),
            Age::Unknown => claim.earlier = claim.in_folders().map(|(path, _)| path).collect(),
            Age::Fresh => {}
        }
        let outputs = Record::Outputs {
            output_dir: output_dir.to_path_buf(),
            temp_dir: temp_dir.to_path_buf(),
            prefixes: claim.prefixes.to_vec(),
            earlier: claim.earlier.iter().cloned().collect(),
            folders: made,
        };
        if runs_already {
            claim.entry.note(&outputs);
        } else {
            claim.entry.note_and_plan(outputs, new_prompt_id());
        }
        claim
    }

    /// Whether a file name is claimed by any prompt in flight.
    pub(super) fn claimed(&self, file: &str) -> bool {
        let table = self.lock();
        let mut prefixes = table.held.values().flat_map(|prefixes| prefixes.iter());
        prefixes.any(|prefix| prefix.fits(file))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}

/// The folders of prefixes and those above them, below the output directory.
fn announced_folders(prefixes: &[Prefix], output_dir: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = prefixes
        .iter()
        .filter(|prefix| prefix.folder_is_certain())
        .flat_map(|prefix| above(&output_dir.join(&prefix.folder), output_dir))
        .collect();
    folders.sort();
    folders.dedup();
    folders
}

/// A folder and those above it that are below the root.
fn above(folder: &Path, root: &Path) -> Vec<PathBuf> {
    folder
        .ancestors()
        .take_while(|path| path.starts_with(root) && *path != root)
        .map(Path::to_path_buf)
        .collect()
}
