//! The manifest's models: downloaded through the cache, linked to where they are wanted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::{ManifestError, Model};
use crate::config::public_url;
use crate::net::retry::Pauses;
use crate::storage::downloads::Purpose;
use crate::storage::{
    Credentials, ErrorKind, Fetch, Fetched, Replace, Storage, StorageError, model_extension,
    model_name,
};

/// First and longest pause between two tries of a model that may come later.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Tries of a model that the origin refuses or does not have. Other failures are tried again for as
/// long as we run.
const REFUSED_TRIES: u32 = 8;

/// Told the path of each model that was put in place.
pub type OnPlaced = Arc<dyn Fn(&Path) + Send + Sync>;

/// Downloads and places models. Cheap to clone.
#[derive(Clone)]
pub(super) struct Models {
    pub storage: Storage,
    pub home: PathBuf,
    /// Where the model folders are.
    pub model_dir: PathBuf,
    pub on_placed: Option<OnPlaced>,
}

impl Models {
    /// The names are the manifest's from now on, also of those that are still to come.
    pub async fn reserve(&self, models: &[Model]) {
        for model in models {
            let destination = self.home.join(&model.local_path);
            self.storage.reserve_model(&destination, &model.url).await;
        }
    }

    /// Brings all models, in parallel, and reports every one that failed.
    pub async fn bring_all(
        &self,
        models: &[Model],
        cancel: &CancellationToken,
    ) -> Result<(), ManifestError> {
        let mut running: FuturesUnordered<_> = models
            .iter()
            .map(|model| async move { (model, self.bring(model, cancel).await) })
            .collect();
        let mut failed = Vec::new();
        while let Some((model, result)) = running.next().await {
            if let Err(error) = result {
                failed.push(format!("{} ({error})", public_url(&model.url)));
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(ManifestError::new(format!(
                "manifest: models.before_start: cannot be had: {}",
                failed.join("; ")
            )))
        }
    }

    /// Brings one model, again and again, until it is there or there is no hope.
    pub async fn bring_stubbornly(&self, model: &Model, cancel: &CancellationToken) {
        let (mut pauses, mut tries) = (Pauses::new(FIRST_PAUSE, LONGEST_PAUSE), 0);
        loop {
            let Err(error) = self.bring(model, cancel).await else {
                return;
            };
            tries += 1;
            let hopeless = match error.kind {
                ErrorKind::Cancelled => return,
                ErrorKind::Invalid => true,
                ErrorKind::Unauthorized | ErrorKind::NotFound | ErrorKind::Failed => {
                    tries >= REFUSED_TRIES
                }
                ErrorKind::Transient | ErrorKind::Local | ErrorKind::Defect => false,
            };
            let url = public_url(&model.url);
            if hopeless {
                tracing::error!(
                    url,
                    %error,
                    tries,
                    "a model of the manifest cannot be had and is given up"
                );
                return;
            }
            let pause = pauses.take();
            let wait = error.retry_after.unwrap_or(pause).min(LONGEST_PAUSE);
            tracing::warn!(
                url,
                %error,
                retry_in_s = wait.as_secs_f64(),
                "a model of the manifest could not be had yet"
            );
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn bring(&self, model: &Model, cancel: &CancellationToken) -> Result<(), StorageError> {
        let destination = self.home.join(&model.local_path);
        let (Some(folder), Some(name)) = (destination.parent(), destination.file_name()) else {
            return Err(StorageError::new(
                ErrorKind::Invalid,
                format!("{} names no file", model.local_path.display()),
            ));
        };
        if is_own_file(&destination).await {
            tracing::info!(
                path = %destination.display(),
                "a model of the manifest is there already as a file of yours, which stays"
            );
            return Ok(());
        }
        let fetch = Fetch {
            url: model.url.clone(),
            auth: None,
            credentials: Credentials::default(),
            cancel: cancel.clone(),
            progress: None,
            purpose: Some(Purpose {
                folder: self.folder_name(folder),
                filename: Some(name.to_string_lossy().into_owned()),
                prompt_id: None,
            }),
        };
        let fetched = self
            .storage
            .fetch_named(fetch, &name.to_string_lossy())
            .await?;
        tokio::fs::create_dir_all(folder).await.map_err(|error| {
            StorageError::new(
                ErrorKind::Failed,
                format!("{} cannot be made ({error})", folder.display()),
            )
        })?;
        let name = self.name(&fetched, folder, &name.to_string_lossy()).await;
        let destination = folder.join(&name);
        let placed = self
            .storage
            .place_model(&fetched, &[folder.to_owned()], &name, Replace::All)
            .await?;
        if let Some(note) = placed.kept {
            tracing::warn!(path = %destination.display(), "{note}");
        } else if let Some(on_placed) = &self.on_placed {
            on_placed(&destination);
        }
        let (url, duration_ms) = (public_url(&model.url), fetched.duration.as_millis());
        tracing::info!(
            url,
            path = %destination.display(),
            size_bytes = fetched.size,
            cached = fetched.cached,
            duration_ms,
            "model is there"
        );
        Ok(())
    }
}

impl Models {
    /// A folder as people know it: below the model folders, else below the home directory.
    fn folder_name(&self, folder: &Path) -> String {
        let below = [&self.model_dir, &self.home]
            .into_iter()
            .find_map(|dir| folder.strip_prefix(dir).ok())
            .unwrap_or(folder);
        below.to_string_lossy().into_owned()
    }

    /// The name that the manifest gives; in a model folder with the extension of the file behind it
    /// where it has none (F02).
    async fn name(&self, fetched: &Fetched, folder: &Path, name: &str) -> String {
        if folder.starts_with(&self.model_dir) && !has_extension(name) {
            model_name(fetched, Some(name)).await
        } else {
            name.to_owned()
        }
    }
}

/// What is behind the last dot of a version, `sd-v1.5`, is no extension.
fn has_extension(name: &str) -> bool {
    let extension = Path::new(name)
        .extension()
        .and_then(|extension| extension.to_str());
    model_extension(name).is_some()
        || extension.is_some_and(|text| text.bytes().any(|byte| byte.is_ascii_alphabetic()))
}

/// A regular file that is no link of ours: the user's, with the content they want.
async fn is_own_file(path: &Path) -> bool {
    tokio::fs::symlink_metadata(path)
        .await
        .is_ok_and(|metadata| metadata.is_file())
}
