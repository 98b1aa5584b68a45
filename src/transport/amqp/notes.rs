//! Notes on disk about the tasks that run here, for the death that leaves no time for more
//! (attack.md, A41): kill -9, an out-of-memory kill, a power cut.
//!
//! A directory for each process, locked by it while it lives. A task that is about to be given to
//! ComfyUI has an empty file there, whose name says all: `<id>-<task>-<attempts>-<unique>.given`,
//! the first two as hashes; renamed to `.executing` when ComfyUI begins with it, and removed at its
//! end. Of a process that has died the first who looks settles who is to blame, as
//! [`super::custody`] does for ComfyUI's death.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::custody::Blame;
use super::memory::Fingerprint;

/// What dead processes have left and nobody has asked for goes after this time.
const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);
const LOCK: &str = "lock";

/// The notes of this process, and those that others have left.
#[derive(Debug, Clone)]
pub(super) struct Notes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where the directories of all processes are; none: notes cannot be kept.
    root: Option<PathBuf>,
    own: Mutex<Option<Own>>,
}

#[derive(Debug)]
struct Own {
    dir: PathBuf,
    /// Locked until the end of the process.
    _lock: File,
}

/// The note of a task that runs here.
#[derive(Debug)]
pub(super) struct Note {
    path: Mutex<Option<PathBuf>>,
}

/// What a note of a dead process tells of a task.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) id: String,
    pub(super) attempts: u32,
    pub(super) suspect: bool,
}

impl Notes {
    /// Notes below this directory, which is made when it is needed.
    pub(super) fn new(root: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            root,
            own: Mutex::default(),
        }))
    }

    /// Writes the note of a task that is about to be given to ComfyUI. A note that cannot be
    /// written is no reason not to run it.
    pub(super) async fn begin(&self, id: &Arc<str>, task: Fingerprint, attempts: u32) -> Note {
        let (notes, id) = (self.clone(), Arc::clone(id));
        let written = tokio::task::spawn_blocking(move || notes.write(&id, task, attempts)).await;
        let path = match written {
            Ok(Ok(path)) => path,
            Ok(Err(error)) => {
                tracing::warn!(
                    %error,
                    "the note of a task cannot be written: an attempt that kills this server is \
                     not counted"
                );
                None
            }
            Err(_) => None,
        };
        Note {
            path: Mutex::new(path),
        }
    }

    fn write(&self, id: &str, task: Fingerprint, attempts: u32) -> io::Result<Option<PathBuf>> {
        let Some(dir) = self.0.own_dir()? else {
            return Ok(None);
        };
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{}-{attempts}-{}.given", key(Some(id), task), &unique[..8]);
        let path = dir.join(name);
        let mut file = match File::create_new(&path) {
            // Somebody has emptied the cache directory.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *self.0.own.lock() = None;
                let Some(dir) = self.0.own_dir()? else {
                    return Ok(None);
                };
                File::create_new(dir.join(path.file_name().unwrap_or_default()))?
            }
            file => file?,
        };
        // For a task that has no id of its own.
        file.write_all(id.as_bytes())?;
        Ok(Some(path))
    }

    /// What is known of a task that was delivered again, from processes that have died; the note is
    /// used up then. `id` is its own, if it has one.
    pub(super) async fn find(&self, id: Option<Arc<str>>, task: Fingerprint) -> Option<Noted> {
        let notes = self.clone();
        tokio::task::spawn_blocking(move || notes.look(id.as_deref(), task))
            .await
            .ok()
            .flatten()
    }

    fn look(&self, id: Option<&str>, task: Fingerprint) -> Option<Noted> {
        let root = self.0.root.as_ref()?;
        let key = key(id, task);
        for dir in directories(root) {
            let Some(_lock) = lock_of_the_dead(&dir) else {
                continue;
            };
            settle(&dir);
            for path in files(&dir) {
                let name = name_of(&path);
                let matches = match id {
                    Some(_) => name.starts_with(&key),
                    None => name
                        .split_once('-')
                        .is_some_and(|(_, rest)| rest.starts_with(&key)),
                };
                if let Some(noted) = matches.then(|| settled(&path)).flatten() {
                    let _ = std::fs::remove_file(&path);
                    return Some(noted);
                }
            }
        }
        None
    }

    /// Removes what nobody will ask for any more. For the start.
    pub(super) fn clean(&self) {
        let notes = self.clone();
        tokio::task::spawn_blocking(move || {
            let Some(root) = notes.0.root.as_ref() else {
                return;
            };
            for dir in directories(root) {
                let old = std::fs::metadata(&dir)
                    .and_then(|metadata| metadata.modified())
                    .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > FORGOTTEN));
                if let Some(_lock) = lock_of_the_dead(&dir)
                    && (old || files(&dir).next().is_none())
                {
                    let _ = std::fs::remove_dir_all(&dir);
                }
            }
        });
    }
}

impl Inner {
    fn own_dir(&self) -> io::Result<Option<PathBuf>> {
        let mut own = self.own.lock();
        if let Some(own) = &*own {
            return Ok(Some(own.dir.clone()));
        }
        let Some(root) = &self.root else {
            return Ok(None);
        };
        let dir = root.join(uuid::Uuid::new_v4().simple().to_string());
        std::fs::create_dir_all(&dir)?;
        let lock = File::create(dir.join(LOCK))?;
        // Where the file system has no locks, the notes of this process count only after its end
        // all the same: nobody else can lock them either.
        let _ = lock.try_lock();
        *own = Some(Own {
            dir: dir.clone(),
            _lock: lock,
        });
        Ok(Some(dir))
    }
}

/// The process ends well: it has nothing to leave.
impl Drop for Inner {
    fn drop(&mut self) {
        let own = self.own.get_mut();
        if let Some(own) = own.take()
            && files(&own.dir).next().is_none()
        {
            let _ = std::fs::remove_dir_all(&own.dir);
        }
    }
}

impl Note {
    /// ComfyUI has begun with the task.
    pub(super) async fn executing(&self) {
        let path = self.path.lock().clone();
        let Some(path) = path else { return };
        let next = path.with_extension("executing");
        if tokio::fs::rename(&path, &next).await.is_ok() {
            *self.path.lock() = Some(next);
        }
    }

    /// The task has ended, or is out of our hands.
    pub(super) async fn remove(self) {
        let path = self.path.into_inner();
        if let Some(path) = path {
            let _ = tokio::fs::remove_file(path).await;
        }
    }
}

fn key(id: Option<&str>, task: Fingerprint) -> String {
    match id {
        Some(id) => {
            let hash = Sha256::digest(id.as_bytes());
            let mut half = [0; 8];
            half.copy_from_slice(&hash[..8]);
            format!("{:016x}-{task:016x}", u64::from_be_bytes(half))
        }
        None => format!("{task:016x}"),
    }
}

fn directories(root: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

fn files(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| name_of(path) != LOCK)
}

fn name_of(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// `None` while the process of these notes lives.
fn lock_of_the_dead(dir: &Path) -> Option<File> {
    let lock = File::open(dir.join(LOCK)).ok()?;
    match lock.try_lock() {
        Ok(()) => Some(lock),
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => None,
    }
}

/// Says of each note of a dead process whether its task is to blame: as the file's extension.
fn settle(dir: &Path) {
    let is = |path: &Path, extension: &str| path.extension().is_some_and(|e| e == extension);
    let open: Vec<PathBuf> = files(dir)
        .filter(|path| is(path, "given") || is(path, "executing"))
        .collect();
    let known = open.iter().any(|path| is(path, "executing"));
    for path in &open {
        let blame = if is(path, "executing") || open.len() == 1 {
            "charged"
        } else if known {
            "innocent"
        } else {
            "suspect"
        };
        let _ = std::fs::rename(path, path.with_extension(blame));
    }
}

fn settled(path: &Path) -> Option<Noted> {
    let blame = match path.extension()?.to_str()? {
        "charged" => Blame::Charged,
        "innocent" => Blame::Innocent,
        "suspect" => Blame::Suspect,
        _ => return None,
    };
    let before: u32 = name_of(path).split('-').nth(2)?.parse().ok()?;
    Some(Noted {
        id: std::fs::read_to_string(path).ok()?,
        attempts: before + u32::from(blame == Blame::Charged),
        suspect: blame == Blame::Suspect,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kill -9 would: the lock falls, the files stay.
    fn die(notes: Notes) {
        let mut own = notes.0.own.lock();
        *own = None;
    }

    async fn begin(notes: &Notes, id: &str, attempts: u32) -> Note {
        notes.begin(&Arc::from(id), 7, attempts).await
    }

    async fn find(notes: &Notes, id: &str) -> Option<(u32, bool)> {
        let noted = notes.find(Some(Arc::from(id)), 7).await;
        noted.map(|noted| (noted.attempts, noted.suspect))
    }

    /// A41
    #[tokio::test]
    async fn a_death_is_charged_to_the_task_that_was_executing() {
        let root = tempfile::tempdir().unwrap();
        let notes = || Notes::new(Some(root.path().join("notes")));
        let first = notes();
        let guilty = begin(&first, "guilty", 1).await;
        let _waiting = begin(&first, "waiting", 2).await;
        begin(&first, "ended", 0).await.remove().await;
        guilty.executing().await;
        let second = notes();
        assert_eq!(find(&second, "guilty").await, None, "its process lives");
        die(first);
        assert_eq!(
            second.find(Some("guilty".into()), 8).await,
            None,
            "another task"
        );
        assert_eq!(find(&second, "guilty").await, Some((2, false)));
        assert_eq!(find(&second, "guilty").await, None, "used up");
        assert_eq!(find(&second, "waiting").await, Some((2, false)));
        assert_eq!(find(&second, "ended").await, None);
    }

    #[tokio::test]
    async fn without_one_that_executed_one_alone_is_charged_and_several_are_suspects() {
        let root = tempfile::tempdir().unwrap();
        let notes = || Notes::new(Some(root.path().to_owned()));
        let (alone, several, reader) = (notes(), notes(), notes());
        begin(&alone, "alone", 0).await;
        for id in ["a", "b"] {
            begin(&several, id, 0).await;
        }
        die(alone);
        die(several);
        assert_eq!(find(&reader, "alone").await, Some((1, false)));
        assert_eq!(find(&reader, "a").await, Some((0, true)));
        // The verdict does not change when the first of them is gone.
        assert_eq!(find(&reader, "b").await, Some((0, true)));
    }

    #[tokio::test]
    async fn tasks_without_an_id_are_found_by_what_they_are() {
        let root = tempfile::tempdir().unwrap();
        let notes = || Notes::new(Some(root.path().to_owned()));
        let first = notes();
        let note = begin(&first, "given-id", 0).await;
        note.executing().await;
        die(first);
        let noted = notes().find(None, 7).await.unwrap();
        assert_eq!((noted.id.as_str(), noted.attempts), ("given-id", 1));
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_written_stops_no_task() {
        let notes = Notes::new(Some("/proc/nonexistent".into()));
        let note = begin(&notes, "a", 0).await;
        note.executing().await;
        note.remove().await;
        assert_eq!(find(&notes, "a").await, None);
    }
}
