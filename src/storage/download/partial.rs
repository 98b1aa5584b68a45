//! The file that a download grows in. Written by one blocking thread behind a short queue, so that
//! memory stays small and the network and the disk work at the same time. It removes itself unless
//! it is kept.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::StorageError;
use super::super::cache::locks::{is_still_at, missing};

/// Chunks between network and disk. A chunk is what one read of a socket gave, at most a few
/// hundred kilobytes.
const QUEUE: usize = 4;
/// So many bytes are handed to the disk at a time while the rest is still coming.
const WRITE_BACK: u64 = 64 * 1024 * 1024;

/// So many bytes are written between two looks at what is left of the disk.
const LOOK: u64 = 4 * 1024 * 1024;

/// How often the common name is tried for.
const TRIES: u32 = 10;

/// A file that is not complete. Nobody else writes into it, nor takes its name, as long as this
/// lives.
pub(super) struct Partial {
    path: PathBuf,
    /// Locked. Let go only after the file has its final name or is removed: whoever waited for the
    /// name must not get this file.
    file: Arc<File>,
    writing: Option<Writing>,
}

/// The blocking thread that writes, and the way to it.
struct Writing {
    queue: mpsc::Sender<(u64, Bytes)>,
    thread: JoinHandle<io::Result<()>>,
}

/// Whether there is room for more on the disk. Asked from the writing thread.
pub(super) type Room = Arc<dyn Fn() -> bool + Send + Sync>;

/// What asking for a partial file gives.
pub(super) enum Claim {
    Ours(Partial),
    /// Another instance is downloading the same: its file.
    Theirs(File),
}

impl Partial {
    /// Creates `<path>.partial`, empty, unless somebody else is writing it; `alone`: under a name
    /// of its own then.
    pub async fn create(path: PathBuf, room: Room, alone: bool) -> Result<Claim, StorageError> {
        let shown = path.clone();
        // The file travels back through the task as what it is, so it is removed when nobody waits
        // for it any more.
        let opened = tokio::task::spawn_blocking(move || open(&path, alone))
            .await
            .map_err(io::Error::other)
            .and_then(|opened| opened);
        let opened = opened.map_err(|error| {
            StorageError::local(
                format!("{} cannot be written: {error}", shown.display()),
                &error,
            )
        })?;
        let Claim::Ours(mut partial) = opened else {
            return Ok(opened);
        };
        let (queue, arriving) = mpsc::channel(QUEUE);
        let file = Arc::clone(&partial.file);
        partial.writing = Some(Writing {
            queue,
            thread: tokio::task::spawn_blocking(move || write(&file, arriving, &*room)),
        });
        Ok(Claim::Ours(partial))
    }

    /// Lets others use the file once it has its final name, which nobody may evict meanwhile.
    pub fn share(&self) {
        let _ = self.file.lock_shared();
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

fn open(path: &Path, alone: bool) -> io::Result<Claim> {
    let mut name = path.as_os_str().to_owned();
    name.push(super::super::cache::naming::PARTIAL);
    let shared = PathBuf::from(name);
    let mut options = File::options();
    options.read(true).write(true);
    let partial = |path, file| {
        Claim::Ours(Partial {
            path,
            file: Arc::new(file),
            writing: None,
        })
    };
    // Whoever had the lock removed the file, or gave it its final name, before letting go: then the
    // next try meets another file.
    for _ in 0..TRIES {
        let file = match options.create(true).truncate(false).open(&shared) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The directory was removed while we run (A47).
                std::fs::create_dir_all(path.parent().unwrap_or(path))?;
                continue;
            }
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) if is_still_at(&file, &shared) => {
                file.set_len(0)?;
                return Ok(partial(shared, file));
            }
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if alone => break,
            Err(TryLockError::WouldBlock) => return Ok(Claim::Theirs(file)),
            // A file system without locks: then nobody can tell whose it is, and nobody uses it.
            Err(TryLockError::Error(error)) => {
                missing(&error);
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
    let _ = file.try_lock();
    Ok(partial(own, file))
}

/// Ends when all senders are gone, or at the first error; then the senders notice that nobody
/// receives.
fn write(
    file: &File,
    mut arriving: mpsc::Receiver<(u64, Bytes)>,
    room: &dyn Fn() -> bool,
) -> io::Result<()> {
    let (mut dirty, mut unlooked) = (0, LOOK);
    let mut early = None;
    while let Some((offset, bytes)) = arriving.blocking_recv() {
        unlooked += bytes.len() as u64;
        if unlooked >= LOOK {
            unlooked = 0;
            // Others on this disk need what is left (A49).
            if !room() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        file.write_all_at(&bytes, offset)?;
        dirty += bytes.len() as u64;
        if dirty >= WRITE_BACK {
            dirty = 0;
            early.get_or_insert_with(|| EarlyFlush::start(file)).ask();
        }
    }
    Ok(())
}

/// A thread that flushes while more is coming, so that the last flush, for which everybody waits,
/// has little left to do.
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

    fn room() -> Room {
        Arc::new(|| true)
    }

    async fn ours(path: PathBuf, room: Room) -> Partial {
        match Partial::create(path, room, false).await.unwrap() {
            Claim::Ours(partial) => partial,
            Claim::Theirs(_) => panic!("somebody else's"),
        }
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
            let creating = Partial::create(dir.path().join("left"), room(), false);
            let _ = futures_util::FutureExt::now_or_never(creating);
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
        let mut first = ours(dir.path().join("file"), room()).await;
        first
            .sink()
            .unwrap()
            .send((0, Bytes::from_static(b"first")))
            .await
            .unwrap();
        first.finish().await.unwrap();
        let second = Partial::create(dir.path().join("file"), room(), false).await;
        assert!(matches!(second, Ok(Claim::Theirs(_))));
        assert_eq!(std::fs::read(first.path()).unwrap(), b"first");
        let third = first.path().to_owned();
        let own = Partial::create(dir.path().join("file"), room(), true).await;
        assert!(matches!(&own, Ok(Claim::Ours(own)) if own.path() != third));
        drop((first, second, own));
        let third_file = ours(dir.path().join("file"), room()).await;
        assert_eq!(third_file.path(), third, "the name is free again");
    }

    /// A47, A49.
    #[tokio::test]
    async fn the_directory_is_made_again_and_the_reserve_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut partial = ours(dir.path().join("gone/file"), Arc::new(|| false)).await;
        let sink = partial.sink().unwrap();
        sink.send((0, Bytes::from_static(b"x"))).await.unwrap();
        drop(sink);
        let error = partial.finish().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        drop(partial);
        assert!(names(&dir.path().join("gone")).is_empty());
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
