//! The file that a download grows in. Written by one blocking thread behind a short queue, so that memory stays small and the
//! network and the disk work at the same time. It removes itself unless it is kept.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::{ErrorKind, StorageError};

/// Chunks between network and disk. A chunk is what one read of a socket gave, at most a few hundred kilobytes.
const QUEUE: usize = 4;
/// So many bytes are handed to the disk at a time while the rest is still coming.
const WRITE_BACK: u64 = 64 * 1024 * 1024;

/// A file that is not complete.
pub(super) struct Partial {
    path: PathBuf,
    queue: Option<mpsc::Sender<(u64, Bytes)>>,
    writer: Option<JoinHandle<io::Result<Flock<File>>>>,
}

impl Partial {
    /// Creates `<path>.partial`, empty. Where another process is writing that one, a name of our own is used.
    pub async fn create(path: PathBuf) -> Result<Self, StorageError> {
        let shown = path.clone();
        let opened = tokio::task::spawn_blocking(move || open(&path)).await.map_err(io::Error::other).and_then(|opened| opened);
        let (path, file) = opened.map_err(|error| StorageError::new(ErrorKind::Failed, format!("{} cannot be written: {error}", shown.display())))?;
        let (queue, arriving) = mpsc::channel(QUEUE);
        let writer = tokio::task::spawn_blocking(move || write(file, arriving));
        Ok(Self { path, queue: Some(queue), writer: Some(writer) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A way to write into the file, for one connection.
    pub fn sink(&self) -> Option<mpsc::Sender<(u64, Bytes)>> {
        self.queue.clone()
    }

    /// Waits until everything is on the disk.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.queue = None;
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let file = writer.await.map_err(io::Error::other)??;
        tokio::task::spawn_blocking(move || file.sync_data()).await.map_err(io::Error::other)?
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

fn open(path: &Path) -> io::Result<(PathBuf, Flock<File>)> {
    let mut name = path.as_os_str().to_owned();
    name.push(super::super::cache::naming::PARTIAL);
    let shared = PathBuf::from(name);
    let options = || {
        let mut options = File::options();
        options.read(true).write(true).create(true);
        options
    };
    match Flock::lock(options().truncate(false).open(&shared)?, FlockArg::LockExclusiveNonblock) {
        Ok(file) => {
            file.set_len(0)?;
            Ok((shared, file))
        }
        Err((_, Errno::EWOULDBLOCK)) => {
            let own = PathBuf::from(format!("{}.{}.partial", path.display(), uuid::Uuid::new_v4().simple()));
            let file = options().create_new(true).open(&own)?;
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map(|file| (own, file)).map_err(|(_, errno)| errno.into())
        }
        // A file system without locks: then nobody else locks either.
        Err((_, Errno::ENOLCK | Errno::ENOSYS | Errno::EOPNOTSUPP)) => {
            let own = PathBuf::from(format!("{}.{}.partial", path.display(), uuid::Uuid::new_v4().simple()));
            let _ = std::fs::remove_file(&shared);
            let file = options().create_new(true).open(&own)?;
            Flock::lock(file, FlockArg::Unlock).map(|file| (own, file)).map_err(|(_, errno)| errno.into())
        }
        Err((_, errno)) => Err(errno.into()),
    }
}

/// Ends when all senders are gone, or at the first error; then the senders notice that nobody receives.
fn write(file: Flock<File>, mut arriving: mpsc::Receiver<(u64, Bytes)>) -> io::Result<Flock<File>> {
    let mut dirty = 0;
    let mut early = None;
    while let Some((offset, bytes)) = arriving.blocking_recv() {
        file.write_all_at(&bytes, offset)?;
        dirty += bytes.len() as u64;
        if dirty >= WRITE_BACK {
            dirty = 0;
            early.get_or_insert_with(|| EarlyFlush::start(&file)).ask();
        }
    }
    Ok(file)
}

/// A thread that flushes while more is coming, so that the last flush, for which everybody waits, has little left to do.
struct EarlyFlush(Option<std::sync::mpsc::SyncSender<()>>);

impl EarlyFlush {
    fn start(file: &File) -> Self {
        let (ask, asked) = std::sync::mpsc::sync_channel(1);
        let Ok(file) = file.try_clone() else { return Self(None) };
        let flush = move || {
            while asked.recv().is_ok() {
                // An error shows again in the last flush.
                let _ = file.sync_data();
            }
        };
        Self(std::thread::Builder::new().name("early-flush".to_owned()).spawn(flush).ok().map(|_| ask))
    }

    /// Does nothing while the thread is still busy with what it was asked before.
    fn ask(&self) {
        if let Some(ask) = &self.0 {
            let _ = ask.try_send(());
        }
    }
}
