//! Whoever has given a job to this server and keeps its files: a gateway (fleet.md). The pipeline
//! fetches that job's inputs from it and hands the outputs over to it; how, it does not know.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::outputs::OutputFile;
use super::registry::Job;
use crate::error::{Code, Failure};

/// An output as its new keeper knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// Under which it was handed over.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// `blake3:` and 64 hexadecimal digits.
    pub hash: String,
}

/// The origin of one job.
#[async_trait]
pub trait Origin: Send + Sync + std::fmt::Debug {
    /// Whether an address is one of this job's own at the origin. Only such are fetched without the
    /// guard over addresses.
    fn owns(&self, url: &str) -> bool;

    /// Files are handed over instead of being put into the answer.
    fn takes_files(&self) -> bool;

    /// Everything is wanted as soon as it is made, and although it is uploaded.
    fn wants_all(&self) -> bool;

    /// Brings one of its files into a directory under a name of its own; returns its place and its
    /// size.
    ///
    /// # Errors
    /// When it cannot be had.
    async fn fetch(&self, url: &str, into: &Path) -> Result<(std::path::PathBuf, u64), Failure>;

    /// Hands a file over.
    ///
    /// # Errors
    /// A transient one when that was tried long enough.
    async fn put(&self, path: &Path, name: &str) -> Result<Handed, Failure>;

    /// Tells it something that nobody else is told: `state`, `upload_progress`, ...
    fn tell(&self, name: &str, data: Value);
}

/// A job that was cancelled, but had finished by then, tries for so long to hand its files over:
/// whoever has cancelled it may be gone, and its ComfyUI must not wait for them.
const LAST_TRY: Duration = Duration::from_secs(5);
/// Between two looks at whether somebody waits for the files.
const LOOK: Duration = Duration::from_millis(200);

/// Hands the files of a result over to the origin of the job, if it has one that wants them.
/// `uploaded`: the client's target has them.
///
/// # Errors
/// When that fails, or the job is stopped meanwhile.
pub(super) async fn hand_over(
    job: &Arc<Job>,
    files: &[OutputFile],
    uploaded: bool,
    stop: &CancellationToken,
) -> Result<Option<Vec<Handed>>, Failure> {
    let wanted =
        |origin: &&Arc<dyn Origin>| origin.takes_files() && (!uploaded || origin.wants_all());
    let Some(origin) = job.origin.as_ref().filter(wanted) else {
        return Ok(None);
    };
    let work = async {
        if let Some(keeping) = job.keeping.as_ref().filter(|_| origin.wants_all()) {
            let known = keeping
                .results(files)
                .await
                .map_err(|error| out_of_reach("to hand an output to", &error.to_string()))?;
            let known = known.into_iter().map(|asset| Handed {
                name: asset.file_path,
                size: asset.size,
                hash: format!("blake3:{}", asset.hash.unwrap_or_default()),
            });
            return Ok(known.collect());
        }
        let mut handed = Vec::with_capacity(files.len());
        for file in files {
            handed.push(origin.put(&file.path, &file.filename).await?);
        }
        Ok(handed)
    };
    let observed = Arc::downgrade(job);
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(job.stop_reason()),
        handed = work => handed.map(Some),
        () = unwanted(&observed) => Err(job.stop_reason()),
    }
}

/// Resolves when nobody waits for the files of a job any more.
pub(super) async fn unwanted(job: &Weak<Job>) {
    let mut cancelled = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(job) = job.upgrade().filter(|job| !job.is_stopped()) else {
            return;
        };
        if job.cancel.is_cancelled()
            && cancelled.get_or_insert_with(Instant::now).elapsed() >= LAST_TRY
        {
            return;
        }
    }
}

/// A file of the origin that cannot be had, or handed over to it.
pub fn out_of_reach(what: &str, why: &str) -> Failure {
    Failure::new(
        Code::DownloadFailed,
        format!("{what} the gateway that has sent the task is not possible: {why}"),
    )
    .transient()
}
