//! Files in and out: downloads through the cache, uploads, credentials.
//!
//! Four backends (S3, Azure Blob, Hugging Face, HTTP), each one module behind one trait and one line in one list.

pub mod azure;
pub mod backend;
mod cloud;
mod credentials;
pub mod huggingface;
pub mod s3;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use credentials::{Auth, Credential};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::config::StorageConfig;
use crate::events::Events;
use crate::net::Outbound;

/// Why a download or upload did not happen. The message is fit to be shown: no secrets.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct StorageError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// One sentence: what happened, to which URL, what to do.
    pub message: String,
    /// The origin asked to wait so long before the next try.
    pub retry_after: Option<Duration>,
}

/// What kind of failure a [`StorageError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot work: bad URL, address not allowed, backend not configured, bad file name.
    Invalid,
    /// The origin wants (other) credentials.
    Unauthorized,
    /// The origin does not have it.
    NotFound,
    /// The network, the origin or the disk failed after all retries; another try, here or elsewhere, may succeed.
    Transient,
    /// Failed for good for another reason.
    Failed,
    /// The caller's token was cancelled.
    Cancelled,
}

impl StorageError {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

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
    pub credentials: Arc<[Credential]>,
    /// Gives up waiting; the download itself goes on while somebody else waits for it.
    pub cancel: CancellationToken,
    /// Told how far it is.
    pub progress: Option<Progress>,
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
    _inner: Arc<()>,
}

impl Storage {
    /// Sets up the backends; touches neither network nor disk.
    pub fn new(config: &StorageConfig, outbound: Outbound, events: Events) -> Self {
        let _ = (config, outbound, events);
        Self { _inner: Arc::new(()) }
    }

    /// Makes the cache directory, removes old partial files, reads what is there, evicts down to the limit.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub async fn prepare(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Whether a text is a URL that [`Storage::fetch`] takes.
    pub fn is_url(text: &str) -> bool {
        ["http://", "https://", "s3://"].iter().any(|scheme| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme)))
    }

    /// Brings a file into the cache, or finds it there.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn fetch(&self, fetch: Fetch) -> Result<Fetched, StorageError> {
        Err(StorageError::new(ErrorKind::Failed, format!("{fetch:?}: not built yet")))
    }

    /// Makes a fetched file visible as `folder/name` by a symlink, replacing a link to something else atomically. A regular
    /// file of the user's is left alone; then the returned sentence says so.
    ///
    /// # Errors
    /// When the link cannot be made.
    pub async fn place_model(&self, fetched: &Fetched, folder: &Path, name: &str) -> Result<Option<String>, StorageError> {
        let _ = (fetched, folder, name);
        Ok(None)
    }

    /// Makes a fetched file available at `destination` by hard link, else reflink, else copy; parents are made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn place_input(&self, fetched: &Fetched, destination: &Path) -> Result<(), StorageError> {
        let _ = (fetched, destination);
        Ok(())
    }

    /// Clones a git repository into `destination`, or updates the clone that is there.
    ///
    /// # Errors
    /// With git's last lines when it fails.
    pub async fn clone_repository(&self, url: &str, destination: &Path, cancel: &CancellationToken) -> Result<(), StorageError> {
        let _ = (url, destination, cancel);
        Ok(())
    }

    /// Checks, before anything runs, that a target is well-formed, configured, reachable by rule, and able to sign if asked.
    ///
    /// # Errors
    /// A sentence that says which variables to set.
    pub async fn check_target(&self, target: &Target, signed: bool) -> Result<(), StorageError> {
        let _ = (target, signed);
        Ok(())
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
        let _ = (target, files, signed, progress, cancel);
        Err(StorageError::new(ErrorKind::Failed, "not built yet"))
    }
}

/// Checks a name that a client chose for a model: one file name or a relative path inside the folder (http-api.md). Returns it
/// normalised.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn check_file_name(name: &str) -> Result<String, StorageError> {
    Ok(name.to_owned())
}
