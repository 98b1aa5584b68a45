//! Which file names in ComfyUI's directories belong to which prompt in flight, and which folders came with it
//! (faults F04, F09, F16).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::going_on::Before;
use super::journal::{Entry, Record};
use super::walk::files_below;
use crate::comfy::watch::new_prompt_id;
use crate::paths::normal;

/// How far the clocks of files lag behind ours.
const CLOCK_LAG: Duration = Duration::from_millis(50);

/// How the files of one saving node begin: with a name that we made, the prompt's id in front.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// The node in the client's graph.
    pub node: String,
    /// The folder below the output directory.
    pub folder: PathBuf,
    /// The beginning of the name, as far as it is certain: up to ComfyUI's first `%token%`.
    pub name: String,
    /// The name is nothing but the id, so that what follows must not be a letter or a digit.
    pub bare: bool,
}

impl Prefix {
    /// The prefix of a node whose `filename_prefix` is now `text`, beginning with `id` behind the last `/`.
    pub fn new(node: &str, text: &str, id: &str) -> Self {
        let (folder, name) = text.rsplit_once('/').unwrap_or(("", text));
        // The id itself holds no `%`.
        let certain = name.split('%').next().unwrap_or(name);
        Self {
            node: node.to_owned(),
            folder: normal(Path::new(folder)),
            name: certain.to_owned(),
            bare: certain == id,
        }
    }

    /// Whether a file of this name begins like this.
    pub fn fits(&self, file: &str) -> bool {
        file.strip_prefix(self.name.as_str()).is_some_and(|rest| {
            !self.bare || !rest.starts_with(|next: char| next.is_ascii_alphanumeric())
        })
    }

    /// Whether the folder is known before ComfyUI fills in its tokens.
    fn folder_is_certain(&self) -> bool {
        !self.folder.to_string_lossy().contains('%') && self.folder.is_relative()
    }
}

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
    /// Nobody said beforehand that he would write to it, so that it is only unused when nothing is in flight.
    unannounced: bool,
}

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
    claims: Claims,
    number: u64,
    /// How its files begin.
    pub prefixes: Arc<[Prefix]>,
    /// ComfyUI's output directory.
    pub output_dir: PathBuf,
    /// The temp directory of the ComfyUI that it runs in.
    temp_dir: Mutex<PathBuf>,
    /// Files with our prefixes that were there before.
    earlier: HashSet<PathBuf>,
    /// Nobody but this run has ever had these prefixes, so that its files can stay where they are.
    pub fresh: bool,
    /// Files of ours that are taken and stay where they are.
    in_place: Mutex<HashSet<PathBuf>>,
    folders: Vec<PathBuf>,
    began: SystemTime,
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

    /// Claims what a prompt will write, before ComfyUI gets it; or what one writes that ComfyUI has since an earlier process.
    /// Blocks.
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
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Claim {
    /// The temp directory of the ComfyUI that it runs in.
    pub fn temp_dir(&self) -> PathBuf {
        self.temp_dir
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// It runs in another one.
    pub fn runs_with(&self, temp_dir: PathBuf) {
        *self.temp_dir.lock().unwrap_or_else(PoisonError::into_inner) = temp_dir;
    }

    /// Whose a file is: of several prefixes that fit, the longest counts, since an id may be the beginning of another.
    pub fn owner(&self, file: &str) -> Owner {
        let longest = |prefixes: &[Prefix]| {
            let fitting = prefixes.iter().filter(|prefix| prefix.fits(file));
            fitting.map(|prefix| prefix.name.len()).max()
        };
        let others = {
            let table = self.claims.lock();
            let held = table
                .held
                .iter()
                .filter(|(number, _)| **number != self.number);
            held.filter_map(|(_, prefixes)| longest(prefixes)).max()
        };
        match (longest(&self.prefixes), others) {
            (None, None) => Owner::Nobody,
            (Some(ours), others) if others.is_none_or(|others| ours >= others) => {
                let bearing = |prefix: &&Prefix| prefix.name.len() == ours && prefix.fits(file);
                let nodes = self.prefixes.iter().filter(bearing);
                Owner::Ours(nodes.map(|prefix| prefix.node.clone()).collect())
            }
            _ => Owner::Another,
        }
    }

    /// The nodes of ours that a file belongs to for sure: no other prompt in flight could have made it. `None` for all other
    /// files, those that were there before included.
    fn certainly_of(&self, path: &Path) -> Option<Vec<String>> {
        let name = path.file_name()?.to_str()?;
        // An output directory may hold thousands of files of others.
        if !self.prefixes.iter().any(|prefix| prefix.fits(name)) {
            return None;
        }
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

    /// Files of ours in a folder, in the order of their names, with the nodes whose prefix they bear. Blocks.
    pub fn files_in(&self, folder: &Path) -> Vec<(PathBuf, Vec<String>)> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
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
        let wanted = |name: &str| self.prefixes.iter().any(|prefix| prefix.fits(name));
        files_below(&self.output_dir, wanted)
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

    /// A file of ours lies here: the folder, and those above it, go with us if they came with us. Blocks.
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

    /// The run is done once more: what it has made so far goes, so that it is not taken for what comes. Blocks.
    pub fn withdraw(&self) {
        for path in self.in_place().drain() {
            let _ = std::fs::remove_file(path);
        }
    }

    fn in_place(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.in_place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that was written is taken: the prefixes are free, for a prompt with the same id may come.
    pub fn release_names(&self) {
        self.claims.lock().held.remove(&self.number);
    }

    /// Removes every file that bears our prefixes: what a run left that did not get as far as being delivered. Blocks.
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
    /// Removes the folders that came with prompts and are not needed any more. They are few, and the lock makes sure that nobody
    /// announces one meanwhile.
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
            // One that holds something else is not ours any more, unless somebody in flight has it there.
            if gone || idle {
                table.folders.remove(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(claims: &Claims, dir: &Path, id: &str, prefixes: &[&str]) -> Claim {
        let prefixes = prefixes
            .iter()
            .enumerate()
            .map(|(node, text)| Prefix::new(&node.to_string(), text, id))
            .collect();
        claims.open(prefixes, dir, &dir.join("temp"), Arc::default())
    }

    fn ours(nodes: &[&str]) -> Owner {
        Owner::Ours(nodes.iter().map(|node| (*node).to_owned()).collect())
    }

    /// F09: an id that is the beginning of another one takes none of its files.
    #[test]
    fn the_longest_prefix_owns_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let claims = Claims::default();
        let short = claim(
            &claims,
            dir.path(),
            "a",
            &["a_x", "v/a_x_mask", "a_t%width%"],
        );
        assert_eq!(short.owner("a_x_y_00001_.png"), ours(&["0"]));
        let long = claim(&claims, dir.path(), "a_x", &["a_x_y"]);
        assert_eq!(short.owner("a_x_y_00001_.png"), Owner::Another);
        assert_eq!(long.owner("a_x_y_00001_.png"), ours(&["0"]));
        for (file, owner) in [
            ("a_x.txt", ours(&["0"])),
            ("a_x_mask_1.png", ours(&["1"])),
            ("a_t64_00001_.png", ours(&["2"])),
            ("b.png", Owner::Nobody),
            ("ab_x.png", Owner::Nobody),
        ] {
            assert_eq!(short.owner(file), owner, "{file}");
        }
        drop(long);
        assert_eq!(short.owner("a_x_y_00001_.png"), ours(&["0"]));
        let bare = claim(&claims, dir.path(), "c", &["c"]);
        assert_eq!(bare.owner("c_00001_.png"), ours(&["0"]));
        assert_eq!(bare.owner("cat.png"), Owner::Nobody);
    }

    /// Two prompts whose ids and prefixes add up to the same text: what is not reported is nobody's.
    #[test]
    fn a_prefix_that_two_prompts_have_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let claims = Claims::default();
        let one = claim(&claims, dir.path(), "a", &["a_x_y"]);
        let two = claim(&claims, dir.path(), "a_x", &["a_x_y"]);
        std::fs::write(dir.path().join("a_x_y_00001_.png"), "x").unwrap();
        assert_eq!(one.in_folders().count() + two.in_folders().count(), 0);
        assert_eq!(one.owner("a_x_y_00001_.png"), ours(&["0"]));
        drop(two);
        assert_eq!(one.in_folders().count(), 1);
    }

    /// F16
    #[test]
    fn folders_go_with_the_last_prompt_that_uses_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let claims = Claims::default();
        std::fs::create_dir(root.join("kept")).unwrap();
        let one = claim(&claims, root, "1", &["deep/er/1_x", "kept/1_x"]);
        let two = claim(&claims, root, "2", &["deep/2_x"]);
        std::fs::create_dir_all(root.join("deep/er")).unwrap();
        let date = root.join("2026/11");
        std::fs::create_dir_all(&date).unwrap();
        one.uses_folder_of(&date.join("1_x.png"));
        drop(one);
        assert!(!root.join("deep/er").exists() && root.join("deep").exists());
        assert!(root.join("kept").exists() && date.exists());
        std::fs::write(root.join("deep/other"), "").unwrap();
        drop(two);
        assert!(root.join("deep").exists() && !root.join("2026").exists());
        assert!(claims.lock().folders.is_empty(), "{claims:?}");
    }

    #[test]
    fn what_was_there_before_is_not_swept() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("v")).unwrap();
        std::fs::write(root.join("v/i_x_00001_.png"), "before").unwrap();
        let claims = Claims::default();
        let own = claim(&claims, root, "i", &["v/i_x"]);
        std::fs::write(root.join("v/i_x_00002_.png"), "").unwrap();
        std::fs::create_dir(root.join("elsewhere")).unwrap();
        std::fs::write(root.join("elsewhere/i_x.txt"), "").unwrap();
        own.sweep();
        drop(own);
        assert!(root.join("v/i_x_00001_.png").exists());
        assert!(!root.join("v/i_x_00002_.png").exists() && !root.join("elsewhere").exists());
    }
}
