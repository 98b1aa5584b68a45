//! Notes about prompts that were accepted (attack.md, A52): whoever got a 202 is told of the end,
//! even when this process is killed before there is one.
//!
//! `<run>-<uuid>.accepted` in the spool directory, in the form of a spool file, with the body that
//! says that the server was killed. `<run>.lock` is locked by the process for as long as it lives;
//! what is found of a process that does not is sent.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use super::Parcel;
use super::spool::{Spool, read_whole};

const SUFFIX: &str = "accepted";
const LOCK: &str = "lock";

/// The notes of this process.
#[derive(Debug)]
pub struct Promises {
    spool: Spool,
    run: Mutex<Option<Run>>,
}

#[derive(Debug)]
struct Run {
    name: String,
    path: PathBuf,
    /// Locked until the end of the process.
    _lock: File,
}

/// A note. It stays until it is released: a process that ends in between has not kept its word.
#[derive(Debug)]
pub struct Promise {
    path: PathBuf,
}

/// A note of a process that was killed.
#[derive(Debug)]
pub struct BrokenPromise {
    pub(super) parcel: Parcel,
    pub(super) body: Vec<u8>,
    pub(super) promise: Promise,
}

impl Promises {
    pub(super) fn new(spool: Spool) -> Self {
        Self {
            spool,
            run: Mutex::default(),
        }
    }

    /// Notes what is to be sent should this process be killed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn note(&self, parcel: &Parcel, body: &[u8]) -> io::Result<Arc<Promise>> {
        self.spool.prepare().await?;
        let run = self.run()?;
        let name = format!("{run}-{}.{SUFFIX}", Uuid::new_v4().simple());
        let path = self.spool.write(&name, parcel, body).await?;
        Ok(Arc::new(Promise { path }))
    }

    fn run(&self) -> io::Result<String> {
        let mut run = self.run.lock();
        if let Some(run) = &*run {
            return Ok(run.name.clone());
        }
        let name = Uuid::new_v4().simple().to_string();
        let path = self.spool.dir().join(format!("{name}.{LOCK}"));
        let lock = File::create(&path)?;
        // Without locks nobody can tell that a process has died, and its notes are never sent.
        let _ = lock.try_lock();
        *run = Some(Run {
            name: name.clone(),
            path,
            _lock: lock,
        });
        Ok(name)
    }

    /// The notes of processes that have died. Blocks.
    pub(super) fn broken(&self) -> Vec<BrokenPromise> {
        let mut broken = Vec::new();
        let paths: Vec<PathBuf> = std::fs::read_dir(self.spool.dir())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        let mut runs: HashMap<String, Vec<&PathBuf>> = HashMap::new();
        for path in &paths {
            let extension = path.extension().and_then(|extension| extension.to_str());
            let stem = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default();
            match extension {
                Some(LOCK) => drop(runs.entry(stem.to_owned()).or_default()),
                Some(SUFFIX) => {
                    let run = stem.split('-').next().unwrap_or_default();
                    runs.entry(run.to_owned()).or_default().push(path);
                }
                _ => {}
            }
        }
        for (run, notes) in runs {
            let lock = self.spool.dir().join(format!("{run}.{LOCK}"));
            if is_alive(&lock) {
                continue;
            }
            if notes.is_empty() {
                let _ = std::fs::remove_file(&lock);
            }
            for path in notes {
                match read_whole(path) {
                    Ok((parcel, body)) => broken.push(BrokenPromise {
                        parcel,
                        body,
                        promise: Promise { path: path.clone() },
                    }),
                    // Nothing that was ever whole: its 202 had not left.
                    Err(_) => drop(std::fs::remove_file(path)),
                }
            }
        }
        broken
    }
}

/// The process ends well.
impl Drop for Run {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether the process that has made the lock lives, or nobody can tell.
fn is_alive(lock: &Path) -> bool {
    match File::open(lock) {
        Ok(lock) => lock.try_lock().is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

impl Promise {
    /// What was promised is in the spool of an earlier process. Blocks.
    pub(super) fn forget(&self) {
        let _ = std::fs::remove_file(&self.path);
    }

    /// What was promised is in the spool, or told. The last of those who share the note removes it.
    pub async fn release(self: Arc<Self>) {
        if let Some(promise) = Arc::into_inner(self) {
            let _ = tokio::fs::remove_file(&promise.path).await;
        }
    }
}
