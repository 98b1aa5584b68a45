//! Prompts of a process that was killed which an attached ComfyUI may still have: they are watched
//! on rather than run again (v2.md, "What survives"). Nothing of them is removed before that is
//! decided.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::Prefix;
use super::journal::{DeadFolder, Noted, Record};
use super::walk::files_below;

/// One such prompt. Its note stays until [`GoingOn::done`]: after another kill it is found again.
#[derive(Debug)]
pub struct GoingOn {
    /// The caller's id.
    pub id: String,
    /// ComfyUI's ids of its runs, the last one at the end.
    pub runs: Vec<String>,
    /// Folders of its inputs and of its work, which nobody else uses.
    pub folders: Vec<PathBuf>,
    /// What was there before it.
    pub before: Before,
    prefixes: Vec<Prefix>,
    /// ComfyUI's directories, which its files are in.
    written: Vec<PathBuf>,
    path: PathBuf,
    folder: Arc<DeadFolder>,
}

/// What was there before a prompt began.
#[derive(Debug, Clone)]
pub struct Before {
    /// When that was.
    pub at: SystemTime,
    /// Files whose names look like those that it makes.
    pub earlier: HashSet<PathBuf>,
}

impl GoingOn {
    /// A prompt that is to go on, if it had come as far as ComfyUI.
    ///
    /// # Errors
    /// Gives the note back when it is not to.
    pub(super) fn of(
        noted: Noted,
        folder: &Arc<DeadFolder>,
        wanted: &HashSet<String>,
    ) -> Result<Self, Noted> {
        let id = noted.records.iter().find_map(|record| match record {
            Record::Begun { id } => Some(id.clone()),
            _ => None,
        });
        let Some(id) = id.filter(|id| wanted.contains(id)) else {
            return Err(noted);
        };
        let mut one = Self {
            id,
            runs: Vec::new(),
            folders: Vec::new(),
            before: Before {
                // It is made when the prompt begins; where files have no such time, anything may be
                // the prompt's.
                at: noted
                    .path
                    .metadata()
                    .and_then(|about| about.created())
                    .unwrap_or(SystemTime::UNIX_EPOCH),
                earlier: HashSet::new(),
            },
            prefixes: Vec::new(),
            written: Vec::new(),
            path: noted.path.clone(),
            folder: folder.clone(),
        };
        for record in &noted.records {
            match record {
                Record::Begun { .. } => {}
                Record::Run { id } => one.runs.push(id.clone()),
                Record::Inputs { dir } | Record::Work { dir } => one.folders.push(dir.clone()),
                Record::Outputs {
                    output_dir,
                    temp_dir,
                    prefixes,
                    earlier,
                    ..
                } => {
                    one.written.extend([output_dir.clone(), temp_dir.clone()]);
                    one.prefixes.extend(prefixes.iter().cloned());
                    one.before.earlier.extend(earlier.iter().cloned());
                }
            }
        }
        if one.runs.is_empty() {
            return Err(noted);
        }
        Ok(one)
    }

    /// How the names of its files begin.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = &Prefix> {
        self.prefixes.iter()
    }

    /// Removes all that it has written. Blocks.
    pub fn sweep(&self) {
        let wanted = |name: &str| self.prefixes.iter().any(|prefix| prefix.fits(name));
        for dir in self.folders.iter() {
            let _ = std::fs::remove_dir_all(dir);
        }
        if self.prefixes.is_empty() {
            return;
        }
        for dir in &self.written {
            for path in files_below(dir, wanted) {
                if !self.before.earlier.contains(&path) {
                    let _ = std::fs::remove_file(path);
                }
            }
        }
    }

    /// Its folders are in somebody's hands, and its run is followed or gone. Blocks.
    pub fn done(self) {
        self.folder.forget(&self.path);
    }
}
