//! The files of one prompt. What ComfyUI has written is taken into a folder of the prompt's own at
//! once, so that nobody else's run can touch it while it is converted, packed, uploaded or sent
//! (F04); everything is removed with the last user of the result.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{Claim, Cleaner, Record};

/// Hidden, so that nobody takes it for an output.
const FOLDER: &str = ".comfyui-api-";

/// Files that are removed when the request is over, whichever way it ends.
#[derive(Debug, Default)]
pub struct FileCleanup {
    paths: Mutex<Vec<PathBuf>>,
    work_dir: Mutex<Option<PathBuf>>,
    taken: AtomicU64,
    cleaner: Cleaner,
    /// Held until all is removed.
    claim: Option<Arc<Claim>>,
}

impl FileCleanup {
    /// No files yet.
    pub fn new(cleaner: Cleaner, claim: Arc<Claim>) -> Self {
        Self {
            paths: Mutex::default(),
            work_dir: Mutex::default(),
            taken: AtomicU64::new(0),
            cleaner,
            claim: Some(claim),
        }
    }

    /// Files that have come from elsewhere, all in this folder; it goes with all it holds.
    pub fn of_folder(cleaner: Cleaner, dir: PathBuf) -> Self {
        Self {
            paths: Mutex::default(),
            work_dir: Mutex::new(Some(dir)),
            taken: AtomicU64::new(0),
            cleaner,
            claim: None,
        }
    }

    /// Adds a file that is removed where it is.
    pub fn add(&self, path: PathBuf) {
        self.paths.lock().push(path);
    }

    /// Removes a file now. One that bears no name of ours must not be removed later: by then it may
    /// be another prompt's. Blocks.
    pub fn discard(&self, path: PathBuf) {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            self.add(path);
        }
    }

    /// A folder of this prompt alone below the output directory, made now if need be; it goes with
    /// all it holds. Blocks.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn work_dir(&self) -> io::Result<PathBuf> {
        let mut work_dir = self.work_dir.lock();
        if let Some(dir) = &*work_dir {
            return Ok(dir.clone());
        }
        let claim = self.claim.as_ref();
        let claim = claim.ok_or_else(|| io::Error::other("there is no output directory"))?;
        let name = format!("{FOLDER}{}", uuid::Uuid::new_v4().simple());
        let dir = claim.output_dir.join(name);
        claim.entry.note(&Record::Work { dir: dir.clone() });
        std::fs::create_dir_all(&dir)?;
        *work_dir = Some(dir.clone());
        Ok(dir)
    }

    /// A new name in that folder. Blocks.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn place(&self, extension: Option<&str>) -> io::Result<PathBuf> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let name = match extension {
            Some(extension) => format!("{number}.{extension}"),
            None => number.to_string(),
        };
        Ok(self.work_dir()?.join(name))
    }

    /// Takes a file into that folder, so that it is ours alone from then on. Blocks.
    ///
    /// # Errors
    /// `NotFound` when it is not there (any more); others when it can neither be moved nor copied.
    pub fn secure(&self, path: &Path) -> io::Result<PathBuf> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let place = self.place(extension.filter(|extension| extension.len() < 32))?;
        // A link is another name for a file that somebody may write to.
        let moved = if path.is_symlink() {
            Err(io::Error::other("it is a link"))
        } else {
            std::fs::rename(path, &place)
        };
        match moved {
            Ok(()) => Ok(place),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            // Another file system below the output directory, or a folder that we may not write to.
            Err(_) => {
                std::fs::copy(path, &place)?;
                self.discard(path.to_path_buf());
                Ok(place)
            }
        }
    }
}

impl Drop for FileCleanup {
    fn drop(&mut self) {
        let paths = std::mem::take(&mut *self.paths.lock());
        let work_dir = self.work_dir.lock().take();
        let claim = self.claim.take();
        self.cleaner.later(move || {
            remove(&paths);
            if let Some(dir) = work_dir {
                report(&dir, std::fs::remove_dir_all(&dir));
            }
            // Folders are looked at when their files are gone, the journal's entry last.
            drop(claim);
        });
    }
}

fn remove(paths: &[PathBuf]) {
    for path in paths {
        report(path, std::fs::remove_file(path));
    }
}

fn report(path: &Path, result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove an output file");
    }
}
