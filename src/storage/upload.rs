//! The upload engine: in parallel, tried again, the newest file of a URL wins.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::places::{Place, Places, host_of};
use super::{ErrorKind, Inner, Progress, StorageError, Target, UploadFile, Uploaded};
use crate::config::public_url;
use crate::net::retry::retried;
use crate::telemetry::metrics;
use crate::telemetry::trace::{self, UploadSpans};

/// The uploads in progress.
pub(super) struct Uploads {
    /// `MAX_CONCURRENT_UPLOADS`.
    places: Arc<Places>,
    /// By URL: which upload it is, and how to abort it.
    current: Mutex<HashMap<String, (u64, CancellationToken)>>,
    next: AtomicU64,
}

impl Uploads {
    pub fn new(places: usize, patience: Duration) -> Self {
        Self {
            places: Places::new(places, patience),
            current: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    /// Takes over a URL: whoever is uploading to it is aborted.
    fn take_over(&self, url: &str) -> Slot<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let aborted = CancellationToken::new();
        let mut current = self.current.lock();
        if let Some((_, older)) = current.insert(url.to_owned(), (number, aborted.clone())) {
            older.cancel();
        }
        Slot {
            uploads: self,
            url: url.to_owned(),
            number,
            aborted,
        }
    }
}

/// The right to upload to a URL, until somebody newer comes.
struct Slot<'a> {
    uploads: &'a Uploads,
    url: String,
    number: u64,
    aborted: CancellationToken,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut current = self.uploads.current.lock();
        if current
            .get(&self.url)
            .is_some_and(|(number, _)| *number == self.number)
        {
            current.remove(&self.url);
        }
    }
}

pub(super) async fn upload(
    inner: &Inner,
    target: &Target,
    files: &[UploadFile],
    signed: bool,
    progress: Option<Progress>,
    cancel: &CancellationToken,
) -> Result<Vec<Uploaded>, StorageError> {
    let backend = inner.backend_for(target)?;
    let batch = Batch {
        inner,
        backend,
        target,
        signed,
        meter: Arc::new(BatchMeter::new(files, progress).await?),
        cancel,
    };
    let work = async {
        if backend.uploads_together() && !files.is_empty() {
            return batch.together(files).await;
        }
        try_join_all(files.iter().enumerate().map(|(n, file)| batch.one(n, file))).await
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(
            StorageError::new(ErrorKind::Cancelled, "the upload was cancelled")
        ),
        uploaded = work => uploaded,
    }
}

struct Batch<'a> {
    inner: &'a Inner,
    backend: &'a Arc<dyn Backend>,
    target: &'a Target,
    signed: bool,
    meter: Arc<BatchMeter>,
    cancel: &'a CancellationToken,
}

impl Batch<'_> {
    async fn one(&self, n: usize, file: &UploadFile) -> Result<Uploaded, StorageError> {
        let started = Instant::now();
        let url = self.backend.url_of(self.target, &file.filename);
        let turn = self.inner.uploads.take_over(&url);
        let size = self.meter.size(n);
        let sent = Arc::new(Sent::default());
        let spans = UploadSpans::new(self.backend.name(), &url);
        let uploading = async {
            let place = self.place(&url).await;
            let progress = self.meter.telling(vec![n], &sent);
            let (backend, target) = (self.backend, self.target);
            let attempts = retried(&self.inner.settings.retry, StorageError::asked, || {
                let upload = backend.upload(target, file, Some(&progress), &turn.aborted);
                spans.attempt(size, word, sent.attempt(upload))
            });
            self.watched(&place, &url, &sent, size, attempts).await
        };
        let result = tokio::select! {
            biased;
            () = turn.aborted.cancelled() => {
                let message = format!(
                    "the upload to {} was taken over by a newer one",
                    public_url(&url)
                );
                Err(StorageError::new(ErrorKind::Cancelled, message))
            }
            result = uploading => result,
        };
        spans.file(size, word, &result);
        metrics::upload(
            self.backend.name(),
            result.is_ok(),
            if result.is_ok() { size } else { 0 },
        );
        result?;
        self.done(file, &url, size, started).await
    }

    /// All at once, for backends where that is one act.
    async fn together(&self, files: &[UploadFile]) -> Result<Vec<Uploaded>, StorageError> {
        let started = Instant::now();
        let url = files
            .first()
            .map(|file| self.backend.url_of(self.target, &file.filename))
            .unwrap_or_default();
        let place = self.place(&url).await;
        let sent = Arc::new(Sent::default());
        let progress = self.meter.telling((0..files.len()).collect(), &sent);
        let attempts = retried(&self.inner.settings.retry, StorageError::asked, || {
            let (backend, target) = (self.backend, self.target);
            sent.attempt(backend.upload_together(target, files, Some(&progress), self.cancel))
        });
        let total = self.meter.sizes.iter().sum();
        let began = trace::now();
        let result = self.watched(&place, &url, &sent, total, attempts).await;
        let mut uploaded = Vec::with_capacity(files.len());
        for (n, file) in files.iter().enumerate() {
            let size = self.meter.size(n);
            if trace::tracer().is_some() {
                let url = self.backend.url_of(self.target, &file.filename);
                UploadSpans::together(self.backend.name(), &url, began).file(size, word, &result);
            }
            metrics::upload(
                self.backend.name(),
                result.is_ok(),
                if result.is_ok() { size } else { 0 },
            );
            if result.is_ok() {
                match self
                    .done(
                        file,
                        &self.backend.url_of(self.target, &file.filename),
                        size,
                        started,
                    )
                    .await
                {
                    Ok(done) => uploaded.push(done),
                    Err(error) => return Err(error),
                }
            }
        }
        result.map(|()| uploaded)
    }

    async fn place(&self, url: &str) -> Place {
        let host = url::Url::parse(url).map(|url| host_of(&url));
        let places = &self.inner.uploads.places;
        places.acquire(&host.unwrap_or_default()).await
    }

    /// An upload until it ends by itself or is too slow.
    async fn watched(
        &self,
        place: &Place,
        url: &str,
        sent: &Sent,
        total: u64,
        attempts: impl Future<Output = Result<(), StorageError>>,
    ) -> Result<(), StorageError> {
        let pace = self.inner.settings.pace;
        tokio::select! {
            biased;
            result = attempts => result,
            why = pace.watch(place, || sent.pace(total)) => Err(pace.error(why, &public_url(url))),
        }
    }

    async fn done(
        &self,
        file: &UploadFile,
        url: &str,
        size: u64,
        started: Instant,
    ) -> Result<Uploaded, StorageError> {
        let signed_url = match self.signed {
            true => Some(
                self.backend
                    .sign(
                        self.target,
                        &file.filename,
                        self.inner.config.signed_url_expiry,
                    )
                    .await?,
            ),
            false => None,
        };
        // A key is no syntax: nothing in it is encoded or cut (F07).
        let url = match self.target {
            Target::S3 { .. } => url.to_owned(),
            _ => public_url(url),
        };
        let duration = started.elapsed();
        let data = json!({
            "local_path": file.path,
            "url": url,
            "size": size,
            "duration": duration.as_secs_f64()
        });
        self.inner.events.storage("file_uploaded", data);
        Ok(Uploaded {
            url,
            signed_url,
            size,
            duration,
        })
    }
}

/// What an upload failed with, for spans.
const fn word(error: &StorageError) -> &'static str {
    error.kind.as_str()
}

/// How far the files of a batch are, added up.
struct BatchMeter {
    sizes: Vec<u64>,
    sent: Vec<AtomicU64>,
    progress: Option<Progress>,
}

impl BatchMeter {
    async fn new(files: &[UploadFile], progress: Option<Progress>) -> Result<Self, StorageError> {
        let mut sizes = Vec::with_capacity(files.len());
        for file in files {
            let metadata = tokio::fs::metadata(&file.path).await;
            let metadata = metadata.map_err(|error| {
                StorageError::new(
                    ErrorKind::Failed,
                    format!(
                        "{} cannot be read for its upload: {error}",
                        file.path.display()
                    ),
                )
            })?;
            sizes.push(metadata.len());
        }
        Ok(Self {
            sent: files.iter().map(|_| AtomicU64::new(0)).collect(),
            sizes,
            progress,
        })
    }

    fn size(&self, n: usize) -> u64 {
        self.sizes.get(n).copied().unwrap_or_default()
    }

    /// Counts what was sent of some of the files, for the watch and for whoever wants to know.
    fn telling(self: &Arc<Self>, of: Vec<usize>, count: &Arc<Sent>) -> Progress {
        let (meter, count) = (Arc::clone(self), Arc::clone(count));
        Arc::new(move |done, _| {
            count.note(done);
            let Some(tell) = &meter.progress else {
                return;
            };
            // What goes together is counted as one.
            if let Some(sent) = of.first().and_then(|n| meter.sent.get(*n)) {
                sent.store(done, Ordering::Relaxed);
            }
            let so_far = meter.sent.iter().map(|sent| sent.load(Ordering::Relaxed));
            tell(so_far.sum(), Some(meter.sizes.iter().sum()));
        })
    }
}

/// Bytes that a receiver takes in, once it has them all, within the window of [`super::Pace`].
/// Larger ones are assembled first, and the backends know how long that may take.
const SOON_TAKEN: u64 = 64 * 1024 * 1024;

/// Bytes that were sent.
#[derive(Default)]
struct Sent {
    /// Of this attempt.
    now: AtomicU64,
    /// Of all attempts.
    all: AtomicU64,
}

impl Sent {
    fn note(&self, done: u64) {
        let before = self.now.swap(done, Ordering::Relaxed);
        self.all
            .fetch_add(done.saturating_sub(before), Ordering::Relaxed);
    }

    async fn attempt<T, E>(&self, attempt: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let result = attempt.await;
        if result.is_err() {
            self.now.store(0, Ordering::Relaxed);
        }
        result
    }

    /// Bytes in all, and whether the receiver is to do something now: take more, or answer to a
    /// file that nobody needs long for. Not between attempts.
    fn pace(&self, total: u64) -> (u64, bool) {
        let now = self.now.load(Ordering::Relaxed);
        let due = now > 0 && (now < total || total <= SOON_TAKEN);
        (self.all.load(Ordering::Relaxed), due)
    }
}
