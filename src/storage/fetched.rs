//! What is fetched, and what came.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::cache;
use super::credentials::{Auth, Credentials};
use super::downloads::Purpose;

/// How far a transfer is: `(bytes so far, bytes in all if known)`. Called from time to time, must
/// return at once.
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
    /// Lists it among the downloads of this server, if it is one and not in the cache. `None`
    /// where the caller does so.
    pub purpose: Option<Purpose>,
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fetch({})", crate::config::public_url(&self.url))
    }
}

/// A file in the cache. It is not evicted while this value lives.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// The file's own name at the origin (`Content-Disposition`, else the URL's last segment), for
    /// placing it; never a path.
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
    pub(super) arrival: Option<Arrived>,
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

/// What is told once a downloaded file has been placed.
#[derive(Clone)]
pub(super) struct Arrived(pub(super) Arc<cache::Arrival>);

impl std::fmt::Debug for Arrived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Arrived")
    }
}
