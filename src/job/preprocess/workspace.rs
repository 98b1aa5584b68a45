//! The input files of one request: made under `INPUT_DIR/<id>/`, removed when the request is over.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;

use super::super::cleanup::{Cleaner, Entry, Record};
use crate::file_threads;

/// The directory of one request. It is made when the first file needs it, and removed with all its
/// contents on drop, or when the last work that writes into it ([`Workspace::holding`]) has ended,
/// if that is later.
#[derive(Debug)]
pub struct Workspace {
    wanted: PathBuf,
    cleaner: Cleaner,
    entry: Arc<Entry>,
    made: OnceCell<Arc<Made>>,
}

/// A directory that we made, and nobody else.
#[derive(Debug)]
struct Made {
    dir: PathBuf,
    cleaner: Cleaner,
    /// Kept until the directory is removed.
    entry: Arc<Entry>,
}

impl Workspace {
    /// A workspace for a request; touches nothing yet.
    pub fn new(input_dir: &Path, id: &str, cleaner: Cleaner, entry: Arc<Entry>) -> Self {
        Self {
            wanted: input_dir.join(id),
            cleaner,
            entry,
            made: OnceCell::new(),
        }
    }

    async fn made(&self) -> io::Result<Arc<Made>> {
        let making = || async {
            let (wanted, cleaner) = (self.wanted.clone(), self.cleaner.clone());
            let entry = self.entry.clone();
            // What was made travels back through the task, so it is removed when nobody waits for
            // it any more.
            file_threads::spawn(move || Made::create(wanted, cleaner, entry))
                .await
                .map_err(io::Error::other)?
        };
        self.made.get_or_try_init(making).await.cloned()
    }

    /// The directory, made now if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn dir(&self) -> io::Result<PathBuf> {
        Ok(self.made().await?.dir.clone())
    }

    /// A directory inside, made now if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn subdir(&self, name: &str) -> io::Result<PathBuf> {
        let dir = self.dir().await?;
        if name.is_empty() {
            return Ok(dir);
        }
        let sub = dir.join(name);
        self.holding({
            let sub = sub.clone();
            async move { tokio::fs::create_dir_all(sub).await }
        })
        .await??;
        Ok(sub)
    }

    /// Does work that writes into the directory. The work goes on to its end when the caller is
    /// dropped, and the directory stays until then: whatever it writes late is removed too.
    ///
    /// # Errors
    /// When the directory cannot be made, or the work panics.
    pub async fn holding<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        let made = self.made().await?;
        let task = tokio::spawn(async move {
            let result = work.await;
            drop(made);
            result
        });
        task.await.map_err(io::Error::other)
    }
}

impl Made {
    fn create(wanted: PathBuf, cleaner: Cleaner, entry: Arc<Entry>) -> io::Result<Arc<Self>> {
        if let Some(parent) = wanted.parent() {
            std::fs::create_dir_all(parent)?;
        }
        // A directory of that name may be the user's own; what we did not make we must not remove,
        // not even after a kill: noted is only what is not there yet.
        if wanted.symlink_metadata().is_err() {
            entry.note(&Record::Inputs {
                dir: wanted.clone(),
            });
            if std::fs::create_dir(&wanted).is_ok() {
                return Ok(Arc::new(Self {
                    dir: wanted,
                    cleaner,
                    entry,
                }));
            }
        }
        let mut dir = wanted;
        dir.as_mut_os_string()
            .push(format!("-{}", uuid::Uuid::new_v4().simple()));
        entry.note(&Record::Inputs { dir: dir.clone() });
        std::fs::create_dir(&dir)?;
        Ok(Arc::new(Self {
            dir,
            cleaner,
            entry,
        }))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let (dir, entry) = (std::mem::take(&mut self.dir), self.entry.clone());
        self.cleaner.beside(move || {
            if let Err(error) = std::fs::remove_dir_all(&dir)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(
                    path = %dir.display(),
                    %error,
                    "cannot remove the input files of a request"
                );
            }
            drop(entry);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_written_after_the_request_has_ended_is_removed_too() {
        let input = tempfile::tempdir().unwrap();
        std::fs::create_dir(input.path().join("id")).unwrap();
        let cleaner = Cleaner::default();
        let workspace = Workspace::new(input.path(), "id", cleaner.clone(), Arc::default());
        let dir = workspace.dir().await.unwrap();
        assert_ne!(
            dir,
            input.path().join("id"),
            "a directory that was there is not ours"
        );
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let late = dir.join("late");
        let (written, seen) = tokio::sync::oneshot::channel();
        {
            let work = workspace.holding(async move {
                let _ = gone.await;
                let _ = written.send(tokio::fs::write(late, "x").await.is_ok());
            });
            let _ = tokio::time::timeout(Duration::from_millis(20), work).await;
        }
        drop(workspace);
        go.send(()).unwrap();
        assert!(
            seen.await.unwrap(),
            "the directory stays while somebody writes into it"
        );
        for _ in 0..500 {
            if !dir.exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!dir.exists() && input.path().join("id").exists());
    }
}
