//! Deliveries on disk: what is in the spool survives the process, however it ends.
//!
//! One file per delivery, `<created, ms>-<uuid>.webhook`: a line of JSON ([`Header`]), then the
//! body as it is. Written to a temporary name, synced, renamed, the directory synced. Files are
//! readable by the owner only: the URL may hold secrets. One directory belongs to one instance; if
//! two share it nothing is lost, but receivers may get a delivery twice (with the same
//! `webhook-id`).

mod lock;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::TryStreamExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use url::Url;
use uuid::Uuid;

use super::body::Body;
use super::{Kind, Parcel};
use crate::document::Document;
use crate::telemetry::trace::Context;

pub use lock::SpoolLock;

const SUFFIX: &str = "webhook";

const TEMPORARY: &str = "tmp";

/// Of the files that say when a receiver has taken a delivery last.
pub(super) const TAKEN: &str = "taken";

/// A temporary file this old belongs to a process that died while it wrote.
const STALE: Duration = Duration::from_secs(3600);

/// A receiver that has taken nothing for so long has no backlog either.
const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);

/// A header is an id and a URL; anything longer is not ours.
const MAX_HEADER: u64 = 256 * 1024;

/// Bodies written at the same time.
const WRITERS: usize = 4;

/// The first line of a spool file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    kind: Kind,
    id: String,
    url: Url,
    /// Epoch milliseconds.
    created: u64,
    /// Of the body, in bytes: a file of another length is damaged.
    length: u64,
    /// The trace that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
}

/// A spool directory.
#[derive(Debug, Clone)]
pub struct Spool {
    dir: Arc<Path>,
    claimed: Arc<Mutex<HashSet<OsString>>>,
    writers: Arc<Semaphore>,
}

/// A spool file, opened.
#[derive(Debug)]
pub struct SpooledWebhook {
    /// Where it goes.
    pub parcel: Parcel,
    /// When it was written first.
    pub created: SystemTime,
    /// Its body in the file.
    pub body: Body,
}

impl Spool {
    /// A spool in this directory, which is created when it is needed.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir: dir.into(),
            claimed: Arc::default(),
            writers: Arc::new(Semaphore::new(WRITERS)),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Creates the directory, for its owner only.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn prepare(&self) -> io::Result<()> {
        let mut builder = tokio::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.dir).await
    }

    /// Writes a delivery. When this returns, it survives the process and the machine.
    ///
    /// # Errors
    /// When the disk is full or the body cannot be read; nothing is left behind then.
    pub async fn keep(&self, parcel: &Parcel, body: &Body) -> io::Result<(SpoolLock, Body)> {
        let created = now_ms();
        let name = OsString::from(format!("{created:013}-{}.{SUFFIX}", Uuid::new_v4()));
        let claim = self
            .claim(name)
            .ok_or_else(|| io::Error::other("the name is taken"))?;
        let offset = self.put(&claim.path, created, parcel, body).await?;
        let body = Body::Spooled {
            path: claim.path.clone(),
            offset,
            len: body.len(),
        };
        Ok((claim, body))
    }

    /// Writes a file of another kind, in the same form and as safely. Returns where it is.
    ///
    /// # Errors
    /// As [`Spool::keep`].
    pub async fn write(&self, name: &str, parcel: &Parcel, body: &[u8]) -> io::Result<PathBuf> {
        let path = self.dir.join(name);
        let body = Body::Document(Document::from_text(body.to_vec()));
        self.put(&path, now_ms(), parcel, &body).await?;
        Ok(path)
    }

    /// Returns where the body begins.
    async fn put(
        &self,
        path: &Path,
        created: u64,
        parcel: &Parcel,
        body: &Body,
    ) -> io::Result<u64> {
        // Never closed.
        let _writer = self.writers.acquire().await.map_err(io::Error::other)?;
        self.prepare().await?;
        let context = parcel.context.as_ref();
        let header = Header {
            version: 1,
            kind: parcel.kind,
            id: parcel.id.clone(),
            url: parcel.url.clone(),
            created,
            length: body.len(),
            traceparent: context.map(|context| context.traceparent().to_string()),
            tracestate: context.and_then(Context::tracestate).map(str::to_owned),
        };
        let mut line = serde_json::to_vec(&header).map_err(io::Error::other)?;
        line.push(b'\n');
        let temporary = Temporary(self.dir.join(format!("{}.{TEMPORARY}", Uuid::new_v4())));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary.0)
            .await?;
        file.write_all(&line).await?;
        let mut chunks = body.stream();
        while let Some(chunk) = chunks.try_next().await? {
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        file.sync_all().await?;
        tokio::fs::rename(&temporary.0, path).await?;
        // Not every file system syncs directories, and the file is there already: no reason to take
        // it for unwritten.
        if let Ok(dir) = tokio::fs::File::open(&self.dir).await {
            let _ = dir.sync_all().await;
        }
        Ok(line.len() as u64)
    }

    /// The names of the files nobody works on, oldest first. Blocks; removes temporary files left
    /// by a process that died.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            match Path::new(&name)
                .extension()
                .and_then(|extension| extension.to_str())
            {
                Some(SUFFIX) => names.push(name),
                Some(TEMPORARY) if is_older(&entry, STALE) => {
                    let _ = std::fs::remove_file(entry.path());
                }
                Some(TAKEN) if is_older(&entry, FORGOTTEN) => {
                    let _ = std::fs::remove_file(entry.path());
                }
                _ => {}
            }
        }
        let claimed = self.claimed.lock();
        names.retain(|name| !claimed.contains(name));
        names.sort();
        Ok(names)
    }

    /// Claims a file; nothing when somebody has it.
    pub fn claim(&self, name: OsString) -> Option<SpoolLock> {
        let mut claimed = self.claimed.lock();
        claimed.insert(name.clone()).then(|| SpoolLock {
            path: self.dir.join(&name),
            name,
            claimed: Arc::clone(&self.claimed),
        })
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A small file of the spool's form: for whom, and its body. Blocks.
///
/// # Errors
/// When it cannot be read, or is not whole.
pub(super) fn read_whole(path: &Path) -> io::Result<(Parcel, Vec<u8>)> {
    let text = std::fs::read(path)?;
    let end = text.iter().position(|byte| *byte == b'\n');
    let (line, body) = text.split_at(end.ok_or(io::ErrorKind::InvalidData)?);
    let header: Header = serde_json::from_slice(line)?;
    let body = &body[1..];
    if header.length != body.len() as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((header.parcel(), body.to_vec()))
}

impl Header {
    fn parcel(self) -> Parcel {
        let state = self.tracestate.as_deref();
        let context = self
            .traceparent
            .and_then(|parent| Context::parse(&parent, state));
        Parcel {
            kind: self.kind,
            url: self.url,
            id: self.id,
            context,
        }
    }
}

fn is_older(entry: &std::fs::DirEntry, limit: Duration) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified
        .ok()
        .and_then(|modified| modified.elapsed().ok())
        .is_some_and(|age| age > limit)
}

/// Removes the temporary file if it was not renamed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
