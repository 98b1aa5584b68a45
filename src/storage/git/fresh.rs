//! A clone that is new: complete under its name, or not there at all.

use std::path::{Path, PathBuf};

use super::{Repository, SOURCE};
use crate::config::public;
use crate::storage::{ErrorKind, StorageError};

impl Repository {
    /// Clones into the first directory that can be written.
    pub(super) async fn clone_into_one(&self, name: &str) -> Result<(), StorageError> {
        let mut reason = None;
        for dir in &self.dirs {
            match temporary_in(dir).await {
                Ok(temporary) => return self.clone_into(temporary, &dir.join(name)).await,
                Err(error) => {
                    tracing::warn!(
                        path = %dir.display(),
                        %error,
                        "repositories cannot be cloned into this folder"
                    );
                    reason = Some(error);
                }
            }
        }
        let reason = reason.unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
        Err(self.unwritable(&reason))
    }

    pub(super) fn unwritable(&self, error: &std::io::Error) -> StorageError {
        let url = public(&self.url);
        StorageError::local(
            format!("the clone of {url} cannot be written: {error}"),
            error,
        )
    }

    async fn clone_into(
        &self,
        temporary: Temporary,
        destination: &Path,
    ) -> Result<(), StorageError> {
        let shallow = [
            "clone",
            "--quiet",
            "--depth",
            "1",
            "--single-branch",
            "--no-tags",
        ];
        if let Err(error) = self
            .git(
                &shallow,
                &[self.url.as_str().into(), temporary.0.clone().into()],
                None,
            )
            .await
        {
            // A plain web server with a repository on it cannot cut history short.
            if !(error.message.contains("shallow") || error.message.contains("dumb http")) {
                return Err(error);
            }
            self.git(
                &["clone", "--quiet"],
                &[self.url.as_str().into(), temporary.0.clone().into()],
                None,
            )
            .await?;
        }
        if let Some(reference) = &self.reference {
            self.fetch(&temporary.0, reference).await?;
            self.reset(&temporary.0).await?;
        }
        // A web server that is no git server can look like an empty repository.
        if self
            .git(
                &["rev-parse", "--quiet", "--verify", "HEAD"],
                &[],
                Some(&temporary.0),
            )
            .await
            .is_err()
        {
            return Err(StorageError::new(
                ErrorKind::Failed,
                format!("{} is an empty git repository, or none", public(&self.url)),
            ));
        }
        let mark = temporary.0.join(".git").join(SOURCE);
        let marked = tokio::fs::write(mark, self.identity()).await;
        let moved = match marked {
            Ok(()) => tokio::fs::rename(&temporary.0, destination).await,
            failed => failed,
        };
        match moved {
            Ok(()) => Ok(()),
            // Another process was faster; its clone is as good.
            Err(_)
                if std::fs::read_to_string(destination.join(".git").join(SOURCE))
                    .is_ok_and(|source| source == self.identity()) =>
            {
                Ok(())
            }
            Err(error) => Err(self.unwritable(&error)),
        }
    }
}

/// A new directory for a clone that is not complete. The folder around it is made only where its
/// parent is there.
async fn temporary_in(dir: &Path) -> std::io::Result<Temporary> {
    if !dir.is_dir() {
        match tokio::fs::create_dir(dir).await {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let path = dir.join(format!(".{}.partial", uuid::Uuid::new_v4().simple()));
    tokio::fs::create_dir(&path).await?;
    Ok(Temporary(path))
}

/// A directory that goes when it is no longer needed; in a thread, because it may be large.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        if path.exists() {
            std::thread::spawn(move || std::fs::remove_dir_all(path));
        }
    }
}
