//! The file that a download grows in. Written by one blocking thread behind a short queue, so that memory stays small and the
//! network and the disk work at the same time. It removes itself unless it is kept.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::{ErrorKind, StorageError};

/// Chunks between network and disk. A chunk is what one read of a socket gave, at most a few hundred kilobytes.
const QUEUE: usize = 4;
/// So many bytes are handed to the disk at a time while the rest is still coming.
const WRITE_BACK: u64 = 64 * 1024 * 1024;

/// How often the common name is tried for.
const TRIES: u32 = 10;

/// A file that is not complete. Nobody else writes into it, nor takes its name, as long as this lives.
pub(super) struct Partial {
    path: PathBuf,
    /// Locked. Let go only after the file has its final name or is removed: whoever waited for the name must not get this file.
    file: Arc<File>,
    writing: Option<Writing>,
}

/// The blocking thread that writes, and the way to it.
struct Writing {
    queue: mpsc::Sender<(u64, Bytes)>,
    thread: JoinHandle<io::Result<()>>,
}

impl Partial {
    /// Creates `<path>.partial`, empty. Where another process is writing that one, a name of our own is used.
    pub async fn create(path: PathBuf) -> Result<Self, StorageError> {
        let shown = path.clone();
        // The file travels back through the task as what it is, so it is removed when nobody waits for it any more.
        let opened = tokio::task::spawn_blocking(move || open(&path))
            .await
            .map_err(io::Error::other)
            .and_then(|opened| opened);
        let mut partial = opened.map_err(|error| {
            StorageError::new(
                ErrorKind::Local,
                format!("{} cannot be written: {error}", shown.display()),
            )
        })?;
        let (queue, arriving) = mpsc::channel(QUEUE);
        let file = Arc::clone(&partial.file);
        partial.writing = Some(Writing {
            queue,
            thread: tokio::task::spawn_blocking(move || write(&file, arriving)),
        });
        Ok(partial)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A way to write into the file, for one connection. `None` once it is finished.
    pub fn sink(&self) -> Option<mpsc::Sender<(u64, Bytes)>> {
        self.writing.as_ref().map(|writing| writing.queue.clone())
    }

    /// Waits until everything is on the disk.
    pub async fn finish(&mut self) -> io::Result<()> {
        let Some(Writing { queue, thread }) = self.writing.take() else {
            return Ok(());
        };
        drop(queue);
        thread.await.map_err(io::Error::other)??;
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || file.sync_data())
            .await
            .map_err(io::Error::other)?
    }

    /// The file has its final name: nothing is removed any more.
    pub fn keep(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> io::Result<Partial> {
    let mut name = path.as_os_str().to_owned();
    name.push(super::super::cache::naming::PARTIAL);
    let shared = PathBuf::from(name);
    let mut options = File::options();
    options.read(true).write(true);
    let partial = |path, file| Partial {
        path,
        file: Arc::new(file),
        writing: None,
    };
    // Whoever had the lock removed the file, or gave it its final name, before letting go: then the next try meets another file.
    for _ in 0..TRIES {
        let file = options.create(true).truncate(false).open(&shared)?;
        match file.try_lock() {
            Ok(()) if is_still_at(&file, &shared) => {
                let partial = partial(shared, file);
                partial.file.set_len(0)?;
                return Ok(partial);
            }
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => break,
            // A file system without locks: then nobody can tell whose it is, and nobody uses it.
            Err(TryLockError::Error(_)) => {
                let _ = std::fs::remove_file(&shared);
                break;
            }
        }
    }
    let own = PathBuf::from(format!(
        "{}.{}.partial",
        path.display(),
        uuid::Uuid::new_v4().simple()
    ));
    let file = options.create_new(true).open(&own)?;
    Ok(partial(own, file))
}

fn is_still_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(named)) = (file.metadata(), path.symlink_metadata()) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (named.dev(), named.ino())
}

/// Ends when all senders are gone, or at the first error; then the senders notice that nobody receives.
fn write(file: &File, mut arriving: mpsc::Receiver<(u64, Bytes)>) -> io::Result<()> {
    let mut dirty = 0;
    let mut early = None;
    while let Some((offset, bytes)) = arriving.blocking_recv() {
        file.write_all_at(&bytes, offset)?;
        dirty += bytes.len() as u64;
        if dirty >= WRITE_BACK {
            dirty = 0;
            early.get_or_insert_with(|| EarlyFlush::start(file)).ask();
        }
    }
    Ok(())
}

/// A thread that flushes while more is coming, so that the last flush, for which everybody waits, has little left to do.
struct EarlyFlush(Option<std::sync::mpsc::SyncSender<()>>);

impl EarlyFlush {
    fn start(file: &File) -> Self {
        let (ask, asked) = std::sync::mpsc::sync_channel(1);
        let Ok(file) = file.try_clone() else {
            return Self(None);
        };
        let flush = move || {
            while asked.recv().is_ok() {
                // An error shows again in the last flush.
                let _ = file.sync_data();
            }
        };
        Self(
            std::thread::Builder::new()
                .name("early-flush".to_owned())
                .spawn(flush)
                .ok()
                .map(|_| ask),
        )
    }

    /// Does nothing while the thread is still busy with what it was asked before.
    fn ask(&self) {
        if let Some(ask) = &self.0 {
            let _ = ask.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_nobody_waits_for_any_more_goes() {
        let dir = tempfile::tempdir().unwrap();
        // One blocking thread: what is asked of it last is done last.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let _ = futures_util::FutureExt::now_or_never(Partial::create(dir.path().join("left")));
            tokio::task::spawn_blocking(|| ()).await.unwrap();
        });
        assert!(
            names(dir.path()).is_empty(),
            "left behind: {:?}",
            names(dir.path())
        );
    }

    #[tokio::test]
    async fn a_finished_file_is_still_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Partial::create(dir.path().join("file")).await.unwrap();
        first
            .sink()
            .unwrap()
            .send((0, Bytes::from_static(b"first")))
            .await
            .unwrap();
        first.finish().await.unwrap();
        let second = Partial::create(dir.path().join("file")).await.unwrap();
        assert_ne!(first.path(), second.path());
        assert_eq!(std::fs::read(first.path()).unwrap(), b"first");
        let third = first.path().to_owned();
        drop(first);
        let third_file = Partial::create(dir.path().join("file")).await.unwrap();
        assert_eq!(third_file.path(), third, "the name is free again");
    }

    #[test]
    fn a_lock_on_a_file_that_lost_its_name_is_worth_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        let file = File::create(&path).unwrap();
        assert!(is_still_at(&file, &path));
        std::fs::rename(&path, dir.path().join("final")).unwrap();
        assert!(!is_still_at(&file, &path));
        File::create(&path).unwrap();
        assert!(!is_still_at(&file, &path));
    }
}
