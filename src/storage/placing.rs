//! Files for ComfyUI: models, inputs, repositories.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use url::Url;

use super::error::{ErrorKind, StorageError};
use super::fetched::{Arrived, Fetched};
use super::place::{PlacedModel, Replace};
use super::{Storage, cache, git, pace, place, places};
use crate::config::public_url;

impl Storage {
    /// Makes a fetched file visible as `<dir>/<name>` by a symlink, in the first of a model
    /// folder's directories in which that can be done. What `replace` does not cover keeps its
    /// name; [`PlacedModel::kept`] says so then.
    ///
    /// # Errors
    /// When the link can be made in none of them.
    pub async fn place_model(
        &self,
        fetched: &Fetched,
        dirs: &[PathBuf],
        name: &str,
        replace: Replace,
    ) -> Result<PlacedModel, StorageError> {
        let placed = place::model(&self.inner.cache, fetched, dirs, name, replace).await?;
        if let Some(Arrived(arrival)) = &fetched.arrival {
            arrival.placed(&placed.path());
        }
        Ok(placed)
    }

    /// Takes a link of [`Storage::place_model`] away again.
    pub async fn withdraw_model(&self, fetched: &Fetched, placed: &PlacedModel) {
        place::withdraw(fetched, placed).await;
    }

    /// The name belongs to a model of the manifest, which may not be there yet: no client's call
    /// takes it.
    pub async fn reserve_model(&self, link: &Path, url: &str) {
        let (cache, link) = (Arc::clone(&self.inner.cache), link.to_owned());
        let base = cache::naming::base(url);
        let noting = tokio::task::spawn_blocking(move || cache.reserved.note(&link, &base));
        if let Err(error) = noting.await {
            tracing::warn!(%error, "the names of the manifest's models could not be noted");
        }
    }

    /// Leases of the cached files that these paths are links to, as far as they are; that counts as
    /// a use of them.
    pub async fn hold_linked(
        &self,
        paths: Vec<PathBuf>,
    ) -> Vec<Arc<dyn std::any::Any + Send + Sync>> {
        if paths.is_empty() {
            return Vec::new();
        }
        let cache = Arc::clone(&self.inner.cache);
        let holding = move || {
            paths
                .iter()
                .filter_map(|path| cache.hold_linked(path))
                .map(|lease| lease as Arc<dyn std::any::Any + Send + Sync>)
                .collect()
        };
        tokio::task::spawn_blocking(holding)
            .await
            .unwrap_or_default()
    }

    /// Looks through model folders, once at start: links into the cache that dangle are removed,
    /// the others (an older server's too) are known from then on and go when their file goes.
    pub async fn adopt_links(&self, folders: Vec<PathBuf>) {
        let cache = Arc::clone(&self.inner.cache);
        let work = move || {
            folders
                .iter()
                .for_each(|folder| place::adopt_links(&cache, folder, 0))
        };
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            tracing::warn!(%error, "the model folders could not be looked through");
        }
    }

    /// Makes a fetched file available at `destination` by hard link, else reflink, else copy;
    /// parents are made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn place_input(
        &self,
        fetched: &Fetched,
        destination: &Path,
    ) -> Result<(), StorageError> {
        place::input(fetched, destination).await?;
        if let Some(Arrived(arrival)) = &fetched.arrival {
            arrival.placed(destination);
        }
        Ok(())
    }

    /// Clones a git repository into a folder of its name in the first of the directories that takes
    /// it, or updates our clone of it that is there. A fragment of the URL is a branch, tag or
    /// commit. Returns the folder's name: another one when the plain name is taken.
    ///
    /// # Errors
    /// With git's last lines when it fails.
    pub async fn clone_repository(
        &self,
        url: &str,
        dirs: &[PathBuf],
        name: &str,
        cancel: &CancellationToken,
    ) -> Result<String, StorageError> {
        let host = Url::parse(url).map_or_else(|_| String::new(), |url| places::host_of(&url));
        let place = tokio::select! {
            place = self.inner.download_places.acquire(&host) => place,
            () = cancel.cancelled() => {
                return Err(StorageError::new(ErrorKind::Cancelled, "the clone was cancelled"));
            }
        };
        let inner = &self.inner;
        let cloning = git::clone(&inner.clones, &inner.outbound, url, dirs, name, cancel);
        // How fast it gets on, git alone knows; it ends a transfer that stands still.
        let aside = async {
            tokio::time::sleep(inner.settings.pace.window).await;
            place.step_aside();
            place.end.cancelled().await;
        };
        tokio::select! {
            biased;
            cloned = cloning => cloned,
            () = aside => Err(inner.settings.pace.error(pace::TooSlow::Slowest, &public_url(url))),
        }
    }
}
