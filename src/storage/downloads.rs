//! The downloads of this server, for people and programs that follow or cancel them: those that
//! run, and the last that have ended. What a prompt finds in the cache is none.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Progress, StorageError};
use crate::config::public_url;
use crate::ledger::{Bound, Ledger, Listed};
use crate::limits::{MAX_ENDED_DOWNLOADS, MAX_QUOTED, text};
use crate::telemetry::logging::epoch_ms;

/// The time over which the rate of a download is measured.
const RATE_WINDOW: Duration = Duration::from_secs(3);
/// Bytes of an error in the list.
const LONGEST_ERROR: usize = 1_000;

/// How it stands with a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of console.md")]
pub enum DownloadStatus {
    Running,
    Completed,
    Failed,
    Cancelled,
}

/// One download as it is listed. Free of secrets.
#[derive(Debug, Clone, Serialize)]
pub struct DownloadEntry {
    /// Its name in the list.
    pub id: Arc<str>,
    /// Without secrets.
    pub url: String,
    /// The model folder; `input` for media of a prompt.
    pub folder: String,
    /// The file's name in the folder; of what a prompt names by URL alone, its name at the origin.
    pub filename: String,
    /// How it stands.
    pub status: DownloadStatus,
    /// Bytes so far.
    pub received: u64,
    /// Bytes in all, as soon as they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Lately; of one that is completed, on average; of one that has ended otherwise, 0.
    pub bytes_per_second: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The prompt that needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_id: Option<Arc<str>>,
    /// Epoch milliseconds.
    pub started_at: u64,
    /// Epoch milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<u64>,
    #[serde(skip)]
    cancel: CancellationToken,
}

impl Listed for DownloadEntry {
    fn id(&self) -> &str {
        &self.id
    }

    fn is_over(&self) -> bool {
        self.status != DownloadStatus::Running
    }
}

/// What a download is for.
#[derive(Debug, Clone)]
pub struct Purpose {
    /// The model folder, or `input`.
    pub folder: String,
    /// The name it shall have; `None`: as at the origin.
    pub filename: Option<String>,
    /// The prompt that needs it.
    pub prompt_id: Option<Arc<str>>,
}

/// The list of downloads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Downloads {
    ledger: Arc<Ledger<DownloadEntry>>,
}

impl Default for Downloads {
    fn default() -> Self {
        Self {
            ledger: Arc::new(Ledger::new(Bound::Over(MAX_ENDED_DOWNLOADS))),
        }
    }
}

impl Downloads {
    /// Lists a download that begins now.
    pub fn begin(&self, url: &str, purpose: Purpose) -> OngoingDownload {
        let id: Arc<str> = uuid::Uuid::new_v4().to_string().into();
        let cancel = CancellationToken::new();
        let filename = purpose.filename.unwrap_or_else(|| name_at_origin(url));
        self.ledger.add(DownloadEntry {
            id: id.clone(),
            url: public_url(url),
            folder: text::shorten(&purpose.folder, MAX_QUOTED).into_owned(),
            filename,
            status: DownloadStatus::Running,
            received: 0,
            total: None,
            bytes_per_second: 0,
            error: None,
            prompt_id: purpose.prompt_id,
            started_at: epoch_ms(),
            finished_at: None,
            cancel: cancel.clone(),
        });
        OngoingDownload {
            downloads: self.clone(),
            id,
            cancel,
            began: Instant::now(),
            ended: false,
        }
    }

    /// One download.
    pub fn get(&self, id: &str) -> Option<DownloadEntry> {
        self.ledger.get(id)
    }

    /// All, newest first.
    pub fn all(&self) -> Vec<DownloadEntry> {
        self.ledger.all()
    }

    /// The list itself, for who follows its changes.
    pub fn ledger(&self) -> &Ledger<DownloadEntry> {
        &self.ledger
    }

    /// Asks a download to end; nothing happens to one that has ended. Others who want the same file
    /// still get it.
    pub fn cancel(&self, id: &str) {
        if let Some(entry) = self.ledger.get(id) {
            entry.cancel.cancel();
        }
    }

    /// Waits for the end of a download, but no longer than `patience`, and gives it as it is then.
    pub async fn wait(&self, id: &str, patience: Duration) -> Option<DownloadEntry> {
        let mut changes = self.ledger.watch();
        let ended = async {
            loop {
                changes.borrow_and_update();
                let entry = self.ledger.get(id);
                if entry.as_ref().is_none_or(Listed::is_over) || changes.changed().await.is_err() {
                    return entry;
                }
            }
        };
        match tokio::time::timeout(patience, ended).await {
            Ok(entry) => entry,
            Err(_) => self.ledger.get(id),
        }
    }
}

/// A download that is under way. Dropping it means that nobody wants it any more.
#[derive(Debug)]
pub struct OngoingDownload {
    downloads: Downloads,
    id: Arc<str>,
    cancel: CancellationToken,
    began: Instant,
    ended: bool,
}

impl OngoingDownload {
    /// Its name in the list.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Cancelled when somebody asks for its end.
    pub fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// To be told how far it is.
    pub fn progress(&self) -> Progress {
        let (downloads, id) = (self.downloads.clone(), self.id.clone());
        let rate = Mutex::new(Rate::new(self.began));
        Arc::new(move |received, total| {
            let speed = {
                let mut rate = rate.lock();
                rate.note(Instant::now(), received)
            };
            downloads.ledger.change(&id, |entry| {
                let now = (received, total.or(entry.total), speed);
                let before = (entry.received, entry.total, entry.bytes_per_second);
                if entry.is_over() || now == before {
                    return false;
                }
                (entry.received, entry.total, entry.bytes_per_second) = now;
                true
            });
        })
    }

    /// The file is there, and has this name if that is another one than was foreseen.
    pub fn completed(mut self, size: u64, cached: bool, filename: Option<&str>) {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        self.end(DownloadStatus::Completed, |entry| {
            (entry.received, entry.total) = (size, Some(size));
            if let Some(filename) = filename {
                filename.clone_into(&mut entry.filename);
            }
            // Nothing has come where it was there already.
            let came = if cached { 0 } else { size };
            entry.bytes_per_second = (came as f64 / seconds) as u64;
        });
    }

    /// It did not come.
    pub fn failed(mut self, error: &StorageError) {
        if self.cancel.is_cancelled() || error.kind == super::ErrorKind::Cancelled {
            return self.end(DownloadStatus::Cancelled, |_| {});
        }
        let message = text::shorten(&error.message, LONGEST_ERROR).into_owned();
        self.end(DownloadStatus::Failed, |entry| entry.error = Some(message));
    }

    fn end(&mut self, status: DownloadStatus, more: impl FnOnce(&mut DownloadEntry)) {
        self.ended = true;
        self.downloads.ledger.change(&self.id, |entry| {
            entry.status = status;
            entry.finished_at = Some(epoch_ms().max(entry.started_at));
            entry.bytes_per_second = 0;
            more(entry);
            true
        });
    }
}

impl Drop for OngoingDownload {
    fn drop(&mut self) {
        if !self.ended {
            self.end(DownloadStatus::Cancelled, |_| {});
        }
    }
}

/// The last segment of a URL's path, else its host.
fn name_at_origin(url: &str) -> String {
    let name = Url::parse(url).ok().and_then(|url| {
        let segment = url.path().rsplit('/').next().unwrap_or_default();
        let decoded = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
        let decoded = decoded.trim();
        match decoded.is_empty() {
            true => url.host_str().map(str::to_owned),
            false => Some(decoded.to_owned()),
        }
    });
    let name = name.unwrap_or_else(|| "file".to_owned());
    let plain: String = name.chars().filter(|c| !c.is_control()).collect();
    text::shorten(&plain, MAX_QUOTED).into_owned()
}

/// How fast bytes came lately.
#[derive(Debug)]
struct Rate {
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    fn new(began: Instant) -> Self {
        Self {
            samples: [(began, 0)].into(),
        }
    }

    /// Bytes per second, after so many in all.
    fn note(&mut self, now: Instant, received: u64) -> u64 {
        // A download that began anew has fewer than before.
        if self
            .samples
            .back()
            .is_some_and(|(_, last)| *last > received)
        {
            self.samples.clear();
        }
        self.samples.push_back((now, received));
        while self.samples.len() > 2
            && self
                .samples
                .get(1)
                .is_some_and(|(at, _)| now.duration_since(*at) >= RATE_WINDOW)
        {
            self.samples.pop_front();
        }
        let Some((at, before)) = self.samples.front() else {
            return 0;
        };
        let seconds = now.duration_since(*at).as_secs_f64();
        if seconds <= 0.0 {
            return 0;
        }
        (received.saturating_sub(*before) as f64 / seconds) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::ErrorKind;
    use super::*;

    fn begin(downloads: &Downloads) -> OngoingDownload {
        downloads.begin(
            "https://u:p@h.example/a%20b.bin?token=marked",
            Purpose {
                folder: "loras".into(),
                filename: None,
                prompt_id: None,
            },
        )
    }

    #[tokio::test]
    async fn a_download_ends_once_and_whoever_waits_is_told() {
        let downloads = Downloads::default();
        let ongoing = begin(&downloads);
        let id = ongoing.id().clone();
        ongoing.progress()(5, Some(10));
        let entry = downloads.wait(&id, Duration::from_millis(1)).await.unwrap();
        assert_eq!(
            (entry.status, entry.received, entry.total, &*entry.filename),
            (DownloadStatus::Running, 5, Some(10), "a b.bin")
        );
        assert_eq!(entry.url, "https://h.example/a%20b.bin");
        ongoing.completed(10, false, Some("c.bin"));
        let entry = downloads.wait(&id, Duration::from_secs(9)).await.unwrap();
        assert_eq!(
            (entry.status, &*entry.filename, entry.received),
            (DownloadStatus::Completed, "c.bin", 10)
        );
        assert!(entry.finished_at >= Some(entry.started_at));
        drop(begin(&downloads));
        begin(&downloads).failed(&StorageError::new(ErrorKind::NotFound, "gone"));
        let cancelled = begin(&downloads);
        downloads.cancel(cancelled.id());
        assert!(cancelled.cancel().is_cancelled());
        cancelled.failed(&StorageError::new(ErrorKind::Transient, "broke off"));
        let ends: Vec<_> = downloads
            .all()
            .into_iter()
            .map(|entry| (entry.status, entry.error))
            .collect();
        assert_eq!(
            ends,
            [
                (DownloadStatus::Cancelled, None),
                (DownloadStatus::Failed, Some("gone".to_owned())),
                (DownloadStatus::Cancelled, None),
                (DownloadStatus::Completed, None),
            ]
        );
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let began = Instant::now();
        let mut rate = Rate::new(began);
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        assert_eq!(rate.note(at(1), 100), 100);
        for second in 2..10 {
            rate.note(at(second), 100 + (second - 1) * 1000);
        }
        assert_eq!(rate.note(at(10), 9_100), 1000);
        for second in 11..20 {
            rate.note(at(second), 9_100);
        }
        assert_eq!(rate.note(at(20), 9_100), 0, "it stands still");
        assert_eq!(rate.note(at(21), 50), 0, "it has begun anew");
    }
}
