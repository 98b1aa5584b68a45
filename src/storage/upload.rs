//! The upload engine: in parallel, tried again, the newest file of a URL wins.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::future::try_join_all;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::{ErrorKind, Inner, Progress, StorageError, Target, UploadFile, Uploaded};
use crate::config::public_url;
use crate::telemetry::metrics;

/// The uploads in progress.
pub(super) struct Uploads {
    /// `MAX_CONCURRENT_UPLOADS`.
    slots: Semaphore,
    /// By URL: which upload it is, and how to abort it.
    current: Mutex<HashMap<String, (u64, CancellationToken)>>,
    next: AtomicU64,
}

impl Uploads {
    pub fn new(slots: usize) -> Self {
        Self {
            slots: Semaphore::new(slots),
            current: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    /// Takes over a URL: whoever is uploading to it is aborted.
    fn take_over(&self, url: &str) -> Slot<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let aborted = CancellationToken::new();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut current = self
            .uploads
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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
        if let Some(together) = batch.together(files).await {
            return together;
        }
        try_join_all(files.iter().enumerate().map(|(n, file)| batch.one(n, file))).await
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(StorageError::new(ErrorKind::Cancelled, "the upload was cancelled")),
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
        let uploading = async {
            let _slot = self.inner.uploads.slots.acquire().await;
            let progress = self.meter.for_file(n);
            self.retried(|| {
                self.backend
                    .upload(self.target, file, progress.as_ref(), &turn.aborted)
            })
            .await
        };
        let result = tokio::select! {
            biased;
            () = turn.aborted.cancelled() => {
                let message = format!("the upload to {} was taken over by a newer one", public_url(&url));
                Err(StorageError::new(ErrorKind::Cancelled, message))
            }
            result = uploading => result,
        };
        metrics::upload(
            self.backend.name(),
            result.is_ok(),
            if result.is_ok() { size } else { 0 },
        );
        result?;
        self.done(file, &url, size, started).await
    }

    /// All at once, for backends where that is one act.
    async fn together(&self, files: &[UploadFile]) -> Option<Result<Vec<Uploaded>, StorageError>> {
        let started = Instant::now();
        let _slot = self.inner.uploads.slots.acquire().await;
        let mut failures = 0;
        let result = loop {
            let error = match self
                .backend
                .upload_together(self.target, files, self.cancel)
                .await?
            {
                Ok(()) => break Ok(()),
                Err(error) => error,
            };
            failures += 1;
            let delay = self
                .inner
                .settings
                .retry
                .delay(failures, error.retry_after)
                .filter(|_| error.kind == ErrorKind::Transient);
            let Some(delay) = delay else { break Err(error) };
            tokio::time::sleep(delay).await;
        };
        let mut uploaded = Vec::with_capacity(files.len());
        for (n, file) in files.iter().enumerate() {
            let size = self.meter.size(n);
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
                    Err(error) => return Some(Err(error)),
                }
            }
        }
        Some(result.map(|()| uploaded))
    }

    async fn retried<F: Future<Output = Result<(), StorageError>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<(), StorageError> {
        let mut failures = 0;
        loop {
            let Err(error) = attempt().await else {
                return Ok(());
            };
            failures += 1;
            let delay = self
                .inner
                .settings
                .retry
                .delay(failures, error.retry_after)
                .filter(|_| error.kind == ErrorKind::Transient);
            let Some(delay) = delay else {
                return Err(error);
            };
            tracing::debug!(%error, delay_ms = delay.as_millis() as u64, "an upload is tried again");
            tokio::time::sleep(delay).await;
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
        let (url, duration) = (public_url(url), started.elapsed());
        let data = json!({"local_path": file.path, "url": url, "size": size, "duration": duration.as_secs_f64()});
        self.inner.events.storage("file_uploaded", data);
        Ok(Uploaded {
            url,
            signed_url,
            size,
            duration,
        })
    }
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

    fn for_file(self: &Arc<Self>, n: usize) -> Option<Progress> {
        let tell = self.progress.clone()?;
        let meter = Arc::clone(self);
        Some(Arc::new(move |done, _| {
            if let Some(sent) = meter.sent.get(n) {
                sent.store(done, Ordering::Relaxed);
            }
            tell(
                meter
                    .sent
                    .iter()
                    .map(|sent| sent.load(Ordering::Relaxed))
                    .sum(),
                Some(meter.sizes.iter().sum()),
            );
        }))
    }
}
