//! git repositories, by the `git` command: shallow, never asking, killed with its children when
//! nobody waits any more.
//!
//! A clone appears under its name complete or not at all. git resolves names itself, so it is told
//! the addresses that the guard has checked, and follows no redirect: where the repository really
//! is has been found out before. Credentials from the URL travel in the environment as a header for
//! that host, and are neither in the arguments nor in the clone's own configuration.

mod clones;
mod command;
mod fresh;
mod locate;
mod standing;
mod update;

use standing::{Standing, own_name};
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{ErrorKind, StorageError};
use crate::config::public;
use crate::net::Outbound;
use crate::telemetry::metrics;

pub(super) use clones::Clones;

/// In the `.git` of a clone of ours: of which repository it is, and at which reference.
const SOURCE: &str = "comfyui-api-source";

pub(super) async fn clone(
    clones: &Clones,
    outbound: &Outbound,
    url: &str,
    dirs: &[PathBuf],
    name: &str,
    cancel: &CancellationToken,
) -> Result<String, StorageError> {
    let work = async {
        let mut repository = Repository::locate(outbound, url).await?;
        repository.dirs = dirs.to_vec();
        repository.bring(clones, name, url).await
    };
    let result = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(
            StorageError::new(ErrorKind::Cancelled, "the clone was cancelled")
        ),
        result = work => result,
    };
    metrics::download("git", result.is_ok(), 0);
    result
}

/// Where a repository is, and how git gets there.
struct Repository {
    /// Without userinfo and fragment.
    url: Url,
    /// The URL's fragment: a branch, tag or commit.
    reference: Option<String>,
    /// Configuration for git that is no file and no argument.
    settings: Vec<(String, String)>,
    /// The directories that may take the clone. Errors do not name them.
    dirs: Vec<PathBuf>,
}

impl Repository {
    /// What tells it from all other repositories and references.
    fn identity(&self) -> String {
        format!(
            "{}#{}",
            public(&self.url),
            self.reference.as_deref().unwrap_or_default()
        )
    }

    /// Has it under the plain name, or under a name of its own where that is taken. Returns the
    /// name.
    async fn bring(&self, clones: &Clones, name: &str, url: &str) -> Result<String, StorageError> {
        let first = self.dirs.first().cloned().unwrap_or_default();
        let identity = self.identity();
        for candidate in [name.to_owned(), own_name(name, url)] {
            let Some(turn) = clones.of(&first.join(&candidate), &identity) else {
                continue;
            };
            let _turn = turn.lock().await;
            match self.standing(&candidate).await {
                Standing::Nothing => self.clone_into_one(&candidate).await?,
                Standing::Ours(dir) => self.update(&dir.join(&candidate)).await?,
                Standing::Theirs => {
                    tracing::info!(
                        name = candidate,
                        url = %public(&self.url),
                        "a clone that we did not make is used as it is"
                    );
                }
                Standing::Other => continue,
            }
            return Ok(candidate);
        }
        Err(StorageError::new(
            ErrorKind::Failed,
            format!(
                "{} cannot be cloned: its folder's name is taken here",
                public(&self.url)
            ),
        ))
    }
}
