//! Files in and out: downloads through the cache, uploads, credentials.
//!
//! Four backends (S3, Azure Blob, Hugging Face, HTTP), each one module behind one trait and one line in one list.

pub mod azure;
pub mod backend;
mod backends;
mod cache;
mod cloud;
mod content;
mod credentials;
mod download;
pub mod downloads;
mod error;
mod fetch;
mod git;
mod http;
pub mod huggingface;
mod model_name;
mod names;
mod pace;
mod place;
mod places;
pub mod s3;
mod transfer_settings;
mod upload;

pub use cache::show::{CacheEntry, CacheFigures, Evicted};
pub use cloud::hex;
pub use credentials::{Auth, Credential, Credentials};
pub use error::{ErrorKind, StorageError};
pub use model_name::{MODEL_EXTENSIONS, model_extension, model_name};
pub use names::check_file_name;
pub use pace::Pace;
pub use place::{PlacedModel, Replace};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
pub use transfer_settings::TransferSettings;
use url::Url;

use self::backend::Backend;
use self::cache::Cache;
use self::download::SingleFlights;
use self::downloads::{Downloads, Purpose};
use self::places::Places;
use self::upload::Uploads;
use crate::config::{StorageConfig, public, public_url};
use crate::events::Events;
use crate::net::Outbound;

/// How far a transfer is: `(bytes so far, bytes in all if known)`. Called from time to time, must return at once.
pub type Progress = Arc<dyn Fn(u64, Option<u64>) + Send + Sync>;

/// A file to fetch.
#[derive(Clone)]
pub struct Fetch {
    /// An `http(s)://` or `s3://` URL.
    pub url: String,
    /// Credentials given for exactly this download; they win over `credentials`.
    pub auth: Option<Auth>,
    /// The request's credentials, first matching pattern wins.
    pub credentials: Credentials,
    /// Gives up waiting; the download itself goes on while somebody else waits for it.
    pub cancel: CancellationToken,
    /// Told how far it is.
    pub progress: Option<Progress>,
    /// Lists it among the downloads of this server, if it is one and not in the cache. `None` where the caller does so.
    pub purpose: Option<Purpose>,
}

/// A file in the cache. It is not evicted while this value lives.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// The file's own name at the origin (`Content-Disposition`, else the URL's last segment), for placing it; never a path.
    pub origin_name: String,
    /// Bytes.
    pub size: u64,
    /// How long this caller waited.
    pub duration: Duration,
    /// It was there already.
    pub cached: bool,
    /// Keeps the file from eviction.
    pub lease: Arc<dyn std::any::Any + Send + Sync>,
    /// Of a file that was just downloaded: tells where it is placed.
    arrival: Option<Arrived>,
}

/// What is told once a downloaded file has been placed.
#[derive(Clone)]
struct Arrived(Arc<cache::Arrival>);

impl std::fmt::Debug for Arrived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Arrived")
    }
}

impl Fetched {
    /// A file that has come in another way than through the cache.
    pub fn local(path: PathBuf, size: u64, duration: Duration) -> Self {
        let name = path.file_name();
        Self {
            origin_name: name.map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            path,
            size,
            duration,
            cached: false,
            lease: Arc::new(()),
            arrival: None,
        }
    }
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fetch({})", crate::config::public_url(&self.url))
    }
}

/// Where outputs go, as requests name it (storage.md, "Uploads").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `s3://<bucket>/<prefix><filename>`
    S3 {
        /// Bucket name.
        bucket: String,
        /// Put in front of the file name as it is.
        prefix: String,
    },
    /// `<blob endpoint>/<container>/<blob_prefix><filename>`
    Azure {
        /// Container name.
        container: String,
        /// Put in front of the file name; a leading `/` is dropped.
        blob_prefix: String,
    },
    /// A repository on the hub.
    HuggingFace(HfTarget),
    /// PUT below a URL.
    Http {
        /// The URL; a trailing `/` is dropped.
        url_prefix: String,
    },
}

/// A repository on the hub.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HfTarget {
    /// `owner/name`.
    pub repo: String,
    /// `model` or `dataset`.
    #[serde(default)]
    pub repo_type: HfRepoType,
    /// Branch.
    #[serde(default = "main_branch")]
    pub revision: String,
    /// Directory in the repository.
    #[serde(default)]
    pub directory: String,
}

fn main_branch() -> String {
    "main".to_owned()
}

/// What kind of repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HfRepoType {
    /// A model.
    #[default]
    Model,
    /// A dataset.
    Dataset,
}

/// A file to upload.
#[derive(Debug, Clone)]
pub struct UploadFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its name at the target.
    pub filename: String,
    /// Its content type.
    pub content_type: String,
}

/// A file that has been uploaded.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// The stable URL (storage.md, "Uploads"), no secrets.
    pub url: String,
    /// A URL with a signature, when asked for.
    pub signed_url: Option<String>,
    /// Bytes.
    pub size: u64,
    /// How long it took.
    pub duration: Duration,
}

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

    /// Makes the cache directory, removes old partial files, reads what is there, evicts down to the limit.
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
            StorageError::new(ErrorKind::Failed, format!("the cache directory {dir} cannot be used: {error}. Set CACHE_DIR to a directory that can be written"))
        })
    }

    /// The cached files, the most lately used first, and how much is cached.
    ///
    /// # Errors
    /// When looking fails by a defect.
    pub async fn cached(&self) -> Result<(Vec<CacheEntry>, CacheFigures), StorageError> {
        let cache = Arc::clone(&self.inner.cache);
        tokio::task::spawn_blocking(move || cache.entries())
            .await
            .map_err(|error| StorageError::new(ErrorKind::Defect, error.to_string()))
    }

    /// How much is cached.
    pub fn cache_figures(&self) -> CacheFigures {
        self.inner.cache.figures()
    }

    /// A number that changes with what is cached.
    pub fn cache_changes(&self) -> watch::Receiver<u64> {
        self.inner.cache.watch()
    }

    /// Takes a file out of the cache, with its links, unless somebody needs it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn evict(&self, name: &str) -> Result<Evicted, StorageError> {
        let (cache, name) = (Arc::clone(&self.inner.cache), name.to_owned());
        let shown = name.clone();
        let evicted = tokio::task::spawn_blocking(move || cache.evict_named(&name)).await;
        match evicted {
            Ok(Ok(evicted)) => Ok(evicted),
            Ok(Err(error)) => Err(StorageError::local(
                format!("the cached file {shown} cannot be removed: {error}"),
                &error,
            )),
            Err(error) => Err(StorageError::new(ErrorKind::Defect, error.to_string())),
        }
    }

    /// Where downloaded files are.
    pub fn cache_dir(&self) -> &Path {
        &self.inner.config.cache.dir
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

    /// Says what is wrong with a URL before anything is fetched: that no backend takes it, or that it may not be reached.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with that sentence.
    pub async fn check_url(&self, text: &str) -> Result<(), StorageError> {
        let (url, backend) = self.inner.resolve(text)?;
        // The others' own endpoints are the operator's, and what a request brings is checked when it is used.
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

    /// Makes a fetched file visible as `<dir>/<name>` by a symlink, in the first of a model folder's directories in which that can be done.
    /// What `replace` does not cover keeps its name; [`PlacedModel::kept`] says so then.
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

    /// The name belongs to a model of the manifest, which may not be there yet: no client's call takes it.
    pub async fn reserve_model(&self, link: &Path, url: &str) {
        let (cache, link) = (Arc::clone(&self.inner.cache), link.to_owned());
        let base = cache::naming::base(url);
        let noting = tokio::task::spawn_blocking(move || cache.reserved.note(&link, &base));
        if let Err(error) = noting.await {
            tracing::warn!(%error, "the names of the manifest's models could not be noted");
        }
    }

    /// Leases of the cached files that these paths are links to, as far as they are; that counts as a use of them.
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

    /// Looks through model folders, once at start: links into the cache that dangle are removed, the others (an older server's too) are
    /// known from then on and go when their file goes.
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

    /// Makes a fetched file available at `destination` by hard link, else reflink, else copy; parents are made.
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

    /// Clones a git repository into a folder of its name in the first of the directories that takes it, or updates our clone of it that is
    /// there. A fragment of the URL is a branch, tag or commit. Returns the folder's name: another one when the plain name is taken.
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

    /// Checks, before anything runs, that a target is well-formed, configured, reachable by rule, and able to sign if asked.
    ///
    /// # Errors
    /// A sentence that says which variables to set.
    pub async fn check_target(&self, target: &Target, signed: bool) -> Result<(), StorageError> {
        self.inner.backend_for(target)?.check(target, signed).await
    }

    /// Uploads the files of one prompt, in parallel, all or nothing. Results are in the order of `files`.
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
