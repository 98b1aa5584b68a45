//! The input files of one request: made under `INPUT_DIR/<id>/`, removed when the request is over.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The directory of one request. It is made when the first file needs it, and removed with all its contents on drop.
#[derive(Debug)]
pub struct Workspace {
    wanted: PathBuf,
    made: OnceLock<Arc<Made>>,
    making: tokio::sync::Mutex<()>,
}

impl Workspace {
    /// A workspace for a request; touches nothing yet.
    pub fn new(input_dir: &Path, id: &str) -> Self {
        Self { wanted: input_dir.join(id), made: OnceLock::new(), making: tokio::sync::Mutex::new(()) }
    }

    /// The directory, made now if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn dir(&self) -> io::Result<PathBuf> {
        let _one_at_a_time = self.making.lock().await;
        if let Some(dir) = self.made.get() {
            return Ok(dir.0.clone());
        }
        if let Some(parent) = self.wanted.parent() {
            tokio::fs::create_dir_all(parent).await?;
        }
        // A directory of that name may be the user's own; what we did not make we must not remove.
        let mut dir = self.wanted.clone();
        if let Err(error) = tokio::fs::create_dir(&dir).await {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error);
            }
            dir.as_mut_os_string().push(format!("-{}", uuid::Uuid::new_v4().simple()));
            tokio::fs::create_dir(&dir).await?;
        }
        let _ = self.made.set(Arc::new(Made(dir.clone())));
        Ok(dir)
    }

    /// A directory inside, made now if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn subdir(&self, name: &str) -> io::Result<PathBuf> {
        let dir = self.dir().await?.join(name);
        tokio::fs::create_dir_all(&dir).await?;
        Ok(dir)
    }

    /// Does work that writes into the directory. It goes on to its end even if the caller is gone by then, and the directory is
    /// removed only after it: what writes on a blocking thread cannot be stopped, and would leave its files behind.
    ///
    /// # Errors
    /// When the work panics.
    pub async fn write<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
        let made = self.made.get().cloned();
        let writing = tokio::spawn(async move {
            let done = work.await;
            drop(made);
            done
        });
        writing.await.map_err(io::Error::other)
    }
}

/// A directory that was made; removed when nobody needs it any more.
#[derive(Debug)]
struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        let dir = std::mem::take(&mut self.0);
        let remove = move || {
            if let Err(error) = std::fs::remove_dir_all(&dir)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %dir.display(), %error, "cannot remove the input files of a request");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}
