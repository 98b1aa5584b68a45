//! A clone of ours is brought up to date.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::Path;

use super::Repository;
use crate::storage::StorageError;

/// How often it is looked whether another process has ended its update.
const OTHERS_TURN: std::time::Duration = std::time::Duration::from_millis(100);

/// In the `.git` of a clone, locked while it is updated, and not empty: a git that is killed in the
/// middle leaves a mixture of two versions, and its locks.
pub(super) const UPDATING: &str = "comfyui-api-updating";

impl Repository {
    /// Brings a clone of ours up to date. One that somebody has worked in is left alone.
    pub(super) async fn update(&self, destination: &Path) -> Result<(), StorageError> {
        let git_dir = destination.join(".git");
        let mark = git_dir.join(UPDATING);
        let failed = |error: std::io::Error| self.unwritable(&error);
        let updating = turn_of(&mark).await.map_err(failed)?;
        if updating.metadata().is_ok_and(|mark| mark.len() > 0) {
            tracing::info!(
                path = %destination.display(),
                "an update of the git clone did not end; it is done again"
            );
            for lock in ["index.lock", "shallow.lock", "HEAD.lock"] {
                let _ = std::fs::remove_file(git_dir.join(lock));
            }
        } else if !self
            .git(
                &["status", "--porcelain", "--untracked-files=no"],
                &[],
                Some(destination),
            )
            .await?
            .trim()
            .is_empty()
        {
            tracing::warn!(
                path = %destination.display(),
                "the git clone has changes of its own and is used as it is"
            );
            return Ok(());
        }
        (&updating).write_all(b"x").map_err(failed)?;
        let fetched = self
            .fetch(destination, self.reference.as_deref().unwrap_or("HEAD"))
            .await;
        if fetched.is_ok() {
            self.reset(destination).await?;
        }
        updating.set_len(0).map_err(failed)?;
        fetched
    }

    pub(super) async fn fetch(&self, clone: &Path, reference: &str) -> Result<(), StorageError> {
        let fetched = self
            .git(
                &["fetch", "--quiet", "--depth", "1"],
                &[self.url.as_str().into(), reference.into()],
                Some(clone),
            )
            .await;
        if let Err(error) = fetched {
            if !(error.message.contains("shallow") || error.message.contains("dumb http")) {
                return Err(error);
            }
            self.git(
                &["fetch", "--quiet"],
                &[self.url.as_str().into(), reference.into()],
                Some(clone),
            )
            .await?;
        }
        Ok(())
    }

    /// To what was fetched.
    pub(super) async fn reset(&self, clone: &Path) -> Result<(), StorageError> {
        self.git(
            &["reset", "--quiet", "--hard", "FETCH_HEAD"],
            &[],
            Some(clone),
        )
        .await
        .map(drop)
    }
}

/// The mark of an update, locked: other processes may share the clone. On a file system without
/// locks there is nothing to wait for.
async fn turn_of(mark: &Path) -> std::io::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .append(true)
        .open(mark)?;
    while let Err(TryLockError::WouldBlock) = file.try_lock() {
        tokio::time::sleep(OTHERS_TURN).await;
    }
    Ok(file)
}
