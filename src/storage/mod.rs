//! Files in and out: downloads through the cache, uploads, credentials.
//!
//! Four backends (S3, Azure Blob, Hugging Face, HTTP), each one module behind one trait and one
//! line in one list.

mod auth_headers;
pub mod azure;
pub mod backend;
mod backends;
mod cache;
mod cached;
mod cloud;
mod content;
mod credentials;
mod download;
pub mod downloads;
mod error;
mod fetch;
mod fetched;
mod git;
mod http;
pub mod huggingface;
mod model_name;
mod names;
mod pace;
mod place;
mod places;
mod placing;
pub mod s3;
mod target;
mod transfer_settings;
mod upload;

use std::sync::Arc;

use fetched::Arrived;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::backend::Backend;
use self::cache::Cache;
use self::download::SingleFlights;
use self::downloads::Downloads;
use self::places::Places;
use self::upload::Uploads;
use crate::config::{StorageConfig, public, public_url};
use crate::events::Events;
use crate::net::Outbound;

pub use cache::show::{CacheEntry, CacheFigures, Evicted};
pub use credentials::{Auth, Credential, Credentials};
pub use error::{ErrorKind, StorageError};
pub use fetched::{Fetch, Fetched, Progress};
pub use model_name::{MODEL_EXTENSIONS, model_extension, model_name};
pub use names::check_file_name;
pub use pace::Pace;
pub use place::{PlacedModel, Replace};
pub use target::{HfRepoType, HfTarget, Target, UploadFile, Uploaded};
pub use transfer_settings::TransferSettings;

/// Downloads, uploads, cache. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Inner>,
}

struct Inner {
    config: StorageConfig,
    settings: TransferSettings,
    outbound: Outbound,
    events: Events,
    backends: Vec<Arc<dyn Backend>>,
    cache: Arc<Cache>,
    flights: SingleFlights,
    downloads: Downloads,
    clones: git::Clones,
    /// `MAX_CONCURRENT_DOWNLOADS`.
    download_places: Arc<Places>,
    uploads: Uploads,
}

impl Storage {
    /// Sets up the backends; touches neither network nor disk.
    pub fn new(config: &StorageConfig, outbound: Outbound, events: Events) -> Self {
        Self::with_tuning(config, outbound, events, TransferSettings::default())
    }

    /// [`Storage::new`] with other sizes and times: for tests and benchmarks.
    pub fn with_tuning(
        config: &StorageConfig,
        outbound: Outbound,
        events: Events,
        settings: TransferSettings,
    ) -> Self {
        let inner = Inner {
            backends: backends::all(config, &outbound),
            cache: Arc::new(Cache::new(&config.cache, events.clone())),
            flights: SingleFlights::default(),
            downloads: Downloads::default(),
            clones: git::Clones::default(),
            download_places: Places::new(config.max_concurrent_downloads, settings.pace.patience),
            uploads: Uploads::new(config.max_concurrent_uploads, settings.pace.patience),
            config: config.clone(),
            settings,
            outbound,
            events,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Makes the cache directory, removes old partial files, reads what is there, evicts down to
    /// the limit.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub async fn prepare(&self) -> Result<(), StorageError> {
        let cache = Arc::clone(&self.inner.cache);
        let prepared = tokio::task::spawn_blocking(move || cache.prepare())
            .await
            .map_err(std::io::Error::other)
            .and_then(|prepared| prepared);
        prepared.map_err(|error| {
            let dir = self.inner.config.cache.dir.display();
            StorageError::new(
                ErrorKind::Failed,
                format!(
                    "the cache directory {dir} cannot be used: {error}. Set CACHE_DIR to a \
                     directory that can be written"
                ),
            )
        })
    }

    /// The downloads that run, and the last that have ended.
    pub fn downloads(&self) -> &Downloads {
        &self.inner.downloads
    }

    /// Whether a text is a URL that [`Storage::fetch`] takes.
    pub fn is_url(text: &str) -> bool {
        ["http://", "https://", "s3://"].iter().any(|scheme| {
            text.get(..scheme.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(scheme))
        })
    }

    /// Says what is wrong with a URL before anything is fetched: that no backend takes it, or that
    /// it may not be reached.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with that sentence.
    pub async fn check_url(&self, text: &str) -> Result<(), StorageError> {
        let (url, backend) = self.inner.resolve(text)?;
        // The others' own endpoints are the operator's, and what a request brings is checked when
        // it is used.
        if backend.name() != "http" {
            return Ok(());
        }
        self.inner
            .outbound
            .check(&url)
            .await
            .map_err(|refused| StorageError::new(ErrorKind::Invalid, refused.to_string()))
    }

    /// Brings a file into the cache, or finds it there.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn fetch(&self, fetch: Fetch) -> Result<Fetched, StorageError> {
        fetch::fetch(&self.inner, fetch, None).await
    }

    /// [`Storage::fetch`] of a file that the client wants under a name, which may ask for a text.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn fetch_named(&self, fetch: Fetch, name: &str) -> Result<Fetched, StorageError> {
        fetch::fetch(&self.inner, fetch, Some(name)).await
    }

    /// Checks, before anything runs, that a target is well-formed, configured, reachable by rule,
    /// and able to sign if asked.
    ///
    /// # Errors
    /// A sentence that says which variables to set.
    pub async fn check_target(&self, target: &Target, signed: bool) -> Result<(), StorageError> {
        self.inner.backend_for(target)?.check(target, signed).await
    }

    /// Uploads the files of one prompt, in parallel, all or nothing. Results are in the order of
    /// `files`.
    ///
    /// # Errors
    /// When one of them fails after its retries.
    pub async fn upload(
        &self,
        target: &Target,
        files: &[UploadFile],
        signed: bool,
        progress: Option<Progress>,
        cancel: &CancellationToken,
    ) -> Result<Vec<Uploaded>, StorageError> {
        upload::upload(&self.inner, target, files, signed, progress, cancel).await
    }
}

impl Inner {
    /// What a text means as a URL to fetch, and who fetches it.
    fn resolve(&self, text: &str) -> Result<(Url, &Arc<dyn Backend>), StorageError> {
        let url = Url::parse(text.trim()).map_err(|error| {
            StorageError::new(
                ErrorKind::Invalid,
                format!("{} is not a URL: {error}", public_url(text)),
            )
        })?;
        if !url.has_host() {
            return Err(StorageError::new(
                ErrorKind::Invalid,
                format!("{} has no host", public(&url)),
            ));
        }
        match self.backend_of(&url) {
            Some(backend) => Ok((url, backend)),
            None => {
                let message = format!(
                    "{} cannot be fetched: its URL must begin with http://, https:// or s3://",
                    public(&url)
                );
                Err(StorageError::new(ErrorKind::Invalid, message))
            }
        }
    }

    /// The first backend in the list that claims a URL.
    fn backend_of(&self, url: &Url) -> Option<&Arc<dyn Backend>> {
        self.backends.iter().find(|backend| backend.claims(url))
    }

    fn backend_for(&self, target: &Target) -> Result<&Arc<dyn Backend>, StorageError> {
        let found = self.backends.iter().find(|backend| backend.takes(target));
        found.ok_or_else(|| {
            StorageError::new(
                ErrorKind::Invalid,
                "there is no backend for this upload target",
            )
        })
    }
}
