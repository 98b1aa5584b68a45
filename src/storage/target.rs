//! Where outputs go.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

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
