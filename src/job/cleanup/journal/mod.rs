//! What prompts in flight write, known after a kill (A44): one small file for each, in a folder of
//! this process, which a lock marks as living. The files are lists of lines, so that a kill in the
//! middle of one loses no other.
//!
//! To make and remove a file costs more than all else that a small prompt needs of the file system,
//! so a file serves one prompt after the other: the next overwrites the last one's lines, and every
//! line bears the number of its prompt.

mod page;

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use self::page::{Folder, Line, Page};
use super::Prefix;
use crate::file_threads;

/// The file in a process's folder that it keeps locked.
const LOCK: &str = "lock";
/// The ending of a prompt's file.
const ENTRY: &str = "jsonl";

/// One line about a prompt.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// It has begun, under the caller's id.
    Begun {
        /// The caller's id.
        id: String,
    },
    /// Its input files lie here, and nobody else's.
    Inputs {
        /// A directory.
        dir: PathBuf,
    },
    /// What ComfyUI may write for it.
    Outputs {
        /// ComfyUI's output directory.
        output_dir: PathBuf,
        /// ComfyUI's temp directory.
        temp_dir: PathBuf,
        /// How the names of its files begin.
        prefixes: Vec<Prefix>,
        /// Files with such names that were there before.
        earlier: Vec<PathBuf>,
        /// Folders that came with it.
        folders: Vec<PathBuf>,
    },
    /// A folder of ours for its outputs, conversions and archives.
    Work {
        /// The folder.
        dir: PathBuf,
    },
    /// ComfyUI was given it under this id.
    Run {
        /// ComfyUI's id.
        id: String,
    },
}

/// The journal of this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    /// The folders of all processes are in here; `None`: nothing is noted.
    root: Option<Arc<Path>>,
    own: Arc<Mutex<Own>>,
}

#[derive(Debug, Default)]
enum Own {
    #[default]
    Closed,
    Open(Folder),
    Unusable,
}

/// What is noted of one prompt. It takes a file with the first line, and gives it back when the
/// last user is gone.
#[derive(Debug, Default)]
pub struct Entry {
    journal: Journal,
    id: String,
    page: Mutex<Option<Page>>,
    /// Under which id ComfyUI will be given it first, if that is noted already.
    planned: Mutex<Option<String>>,
}

/// What is known of a process from its folder.
pub(super) enum Process {
    /// It lives; these are its prompts.
    Living(Vec<Noted>),
    /// It is dead, and we hold its folder.
    Dead {
        folder: Arc<DeadFolder>,
        prompts: Vec<Noted>,
    },
}

/// What a process has noted of one prompt.
#[derive(Debug)]
pub(super) struct Noted {
    /// The file.
    pub path: PathBuf,
    /// Its lines.
    pub records: Vec<Record>,
}

/// The folder of a dead process, which nobody else takes up while this value lives.
#[derive(Debug)]
pub(super) struct DeadFolder {
    dir: PathBuf,
    _lock: File,
}

impl DeadFolder {
    /// What a prompt needs is done: it is forgotten, and the folder goes with the last one. Blocks.
    pub fn forget(&self, noted: &Path) {
        let _ = std::fs::remove_file(noted);
        self.remove_if_empty();
    }

    /// The folder goes when nothing is noted in it any more. Blocks.
    pub fn remove_if_empty(&self) {
        if entries(&self.dir).is_empty() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

impl Journal {
    /// A journal in `root`; nothing is touched yet.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root: Some(root.into()),
            own: Arc::default(),
        }
    }

    /// The file of a prompt; nothing is written yet.
    pub fn entry(&self, id: &str) -> Arc<Entry> {
        Arc::new(Entry {
            journal: self.clone(),
            id: id.to_owned(),
            page: Mutex::default(),
            planned: Mutex::default(),
        })
    }

    /// A file of this process's folder, which is made and locked now if need be. Blocks.
    fn page(&self) -> Option<Page> {
        let root = self.root.as_deref()?;
        let mut own = self.own.lock();
        if matches!(*own, Own::Closed) {
            *own = match open(root) {
                Ok((dir, lock)) => Own::Open(Folder {
                    dir,
                    _lock: lock,
                    free: Vec::new(),
                    made: 0,
                    last: 0,
                }),
                Err(error) => {
                    warn!(
                        path = %root.display(),
                        %error,
                        "what prompts write cannot be noted: after a kill their files will stay"
                    );
                    Own::Unusable
                }
            };
        }
        let Own::Open(folder) = &mut *own else {
            return None;
        };
        folder
            .page()
            .map_err(|error| {
                warn!(
                    path = %folder.dir.display(),
                    %error,
                    "cannot note what a prompt writes"
                )
            })
            .ok()
    }

    /// A prompt is over. Blocks.
    fn give_back(&self, page: Page) {
        // Its first line is none any more, and with it all others.
        let cleared = page.file.write_all_at(b"-", 0);
        if let Own::Open(folder) = &mut *self.own.lock() {
            if cleared.is_err() {
                let _ = std::fs::remove_file(&page.path);
            }
            folder.free.push(page.path);
        }
    }

    /// Removes this process's folder if no prompt is left in it. Blocks.
    pub fn close(&self) {
        let mut own = self.own.lock();
        if let Own::Open(folder) = &*own
            && folder.free.len() == folder.made
        {
            let _ = std::fs::remove_dir_all(&folder.dir);
            *own = Own::Closed;
        }
    }

    /// The other processes that have a folder here. Blocks.
    pub(super) fn others(&self) -> Vec<Process> {
        let Some(root) = self.root.as_deref() else {
            return Vec::new();
        };
        let own = match &*self.own.lock() {
            Own::Open(folder) => Some(folder.dir.clone()),
            _ => None,
        };
        let folders = std::fs::read_dir(root).into_iter().flatten().flatten();
        folders
            .map(|entry| entry.path())
            .filter(|dir| dir.is_dir() && Some(dir) != own.as_ref())
            .filter_map(look)
            .collect()
    }
}

fn open(root: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let dir = root.join(Uuid::new_v4().to_string());
        std::fs::create_dir_all(&dir)?;
        let lock = File::create(dir.join(LOCK))?;
        let locked = match lock.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => {
                let _ = std::fs::remove_dir_all(&dir);
                return Err(error);
            }
        };
        // Another process that starts may have taken an unlocked folder for a dead one's, and
        // removed it.
        if locked && dir.join(LOCK).exists() {
            return Ok((dir, lock));
        }
    }
}

fn look(dir: PathBuf) -> Option<Process> {
    let file = File::open(dir.join(LOCK)).ok()?;
    let living = match file.try_lock() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        // Where there are no locks nobody can be known to be dead.
        Err(TryLockError::Error(_)) => return None,
    };
    let prompts = entries(&dir).into_iter().map(Noted::read).collect();
    Some(if living {
        Process::Living(prompts)
    } else {
        let folder = Arc::new(DeadFolder { dir, _lock: file });
        Process::Dead { folder, prompts }
    })
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == ENTRY))
        .collect()
}

impl Noted {
    /// The lines of the prompt that it serves: those before the first that is cut off or bears
    /// another's number.
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read(&path).unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n');
        let mut lines = lines.map_while(|line| serde_json::from_slice::<Line<Record>>(line).ok());
        let first = lines.next();
        let number = first.as_ref().map(|line| line.entry);
        let others = lines.take_while(|line| Some(line.entry) == number);
        let records = first.into_iter().chain(others).map(|line| line.record);
        let records = records.collect();
        Self { path, records }
    }
}

impl Entry {
    /// Writes a line. Blocks. That it cannot be written hurts only after a kill, so it is no reason
    /// to fail.
    pub fn note(&self, record: &Record) {
        self.note_all(std::slice::from_ref(record));
    }

    /// The same with several at once. Blocks.
    pub fn note_all(&self, records: &[Record]) {
        let mut own = self.page.lock();
        let begun = own.is_none().then(|| Record::Begun {
            id: self.id.clone(),
        });
        if own.is_none() {
            *own = self.journal.page();
        }
        if let Some(page) = own.as_mut()
            && let Err(error) = page.write(begun.iter().chain(records))
        {
            warn!(path = %page.path.display(), %error, "cannot note what a prompt writes");
        }
    }

    /// The same from where nothing may block.
    pub async fn note_later(self: &Arc<Self>, record: Record) {
        let entry = self.clone();
        let _ = file_threads::spawn(move || entry.note(&record)).await;
    }

    /// Notes beforehand under which id ComfyUI will be given it, with what else is to be noted.
    /// Blocks.
    pub fn note_and_plan(&self, record: Record, run: String) {
        self.note_all(&[record, Record::Run { id: run.clone() }]);
        *self.planned.lock() = Some(run);
    }

    /// The id that ComfyUI is to be given, if it is noted already; asked once.
    pub fn take_planned(&self) -> Option<String> {
        self.planned.lock().take()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(page) = self.page.lock().take() {
            self.journal.give_back(page);
        }
    }
}
