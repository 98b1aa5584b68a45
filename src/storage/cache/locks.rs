//! Locks on the files of the cache, by which instances on one directory know of each other (A46):
//! who uses a file shares its lock, who would evict it needs the lock alone, who downloads has it
//! alone on the partial file. They end with the process, however it ends. Where the file system has
//! no locks, everybody does as if alone.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

/// Who evicts holds a lock for no longer than it takes to remove a file.
const MOMENT: Duration = Duration::from_millis(5);
const MOMENTS: u32 = 20;

/// What asking for a lock gives.
pub(in crate::storage) enum Locked {
    /// The lock, as long as the file lives.
    Ours(File),
    /// Somebody has it.
    Theirs,
    /// The file system has none.
    Unknown,
    /// There is no such file (any more).
    Gone,
}

/// Whether a file is the one at a path: who had the lock may have removed or renamed it before
/// letting go.
pub(in crate::storage) fn is_still_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(named)) = (file.metadata(), path.symlink_metadata()) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (named.dev(), named.ino())
}

/// The lock of a file for nobody else, or who has it.
pub(in crate::storage) fn alone(path: &Path) -> Locked {
    // Network file systems lock alone only what is open for writing.
    let opened = File::options().read(true).write(true).open(path);
    let Ok(file) = opened.or_else(|_| File::open(path)) else {
        return Locked::Gone;
    };
    match file.try_lock() {
        Ok(()) if is_still_at(&file, path) => Locked::Ours(file),
        Ok(()) => Locked::Gone,
        Err(TryLockError::WouldBlock) => Locked::Theirs,
        Err(TryLockError::Error(error)) => {
            missing(&error);
            Locked::Unknown
        }
    }
}

/// The lock of a file together with others who use it.
pub(in crate::storage) fn together(path: &Path) -> Locked {
    for _ in 0..MOMENTS {
        let Ok(file) = File::options().read(true).open(path) else {
            return Locked::Gone;
        };
        match file.try_lock_shared() {
            Ok(()) if is_still_at(&file, path) => return Locked::Ours(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => std::thread::sleep(MOMENT),
            Err(TryLockError::Error(error)) => {
                missing(&error);
                return Locked::Unknown;
            }
        }
    }
    Locked::Gone
}

/// Says once that there are no locks.
pub(in crate::storage) fn missing(error: &io::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            %error,
            "the file system of CACHE_DIR has no locks: several instances on it do not know of \
             each other's downloads and files in use"
        );
    });
}
