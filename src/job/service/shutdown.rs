//! How jobs end when the server does.

use futures_util::future::join_all;
use std::time::Duration;
use tracing::warn;

use super::Service;
use crate::error::{Code, Failure};
use crate::job::registry::Status;
use crate::telemetry::trace;

/// How long the end of the server waits until ComfyUI has deleted its last history entries.
const HISTORY_CLEANUP: Duration = Duration::from_secs(1);

impl Service {
    /// Ends what has not come as far as ComfyUI: there will be no ComfyUI for it.
    pub fn stop_all(&self, reason: &Failure) {
        for job in self
            .inner
            .jobs
            .all()
            .iter()
            .filter(|job| job.status() == Status::Preprocessing)
        {
            job.stop(reason.clone());
        }
    }

    /// At shutdown, when nobody reads a result any more: waits until the files of all requests are
    /// removed, at most so long.
    pub async fn cleaned(&self, patience: Duration) {
        self.inner.cleaner.finished(patience).await;
        let journal = self.inner.journal.clone();
        let _ = tokio::task::spawn_blocking(move || journal.close()).await;
    }

    /// At shutdown: waits until the prompts in flight have ended, at most so long; then ends those
    /// that are left and waits until they have let go. A ComfyUI that stays keeps nothing of them.
    pub async fn drain(&self, grace: Duration) {
        self.inner.tasks.close();
        if tokio::time::timeout(grace, self.inner.tasks.wait())
            .await
            .is_err()
        {
            self.abort().await;
        }
        let each = self.inner.history_cleanup.iter();
        join_all(each.map(|cleanup| cleanup.done(HISTORY_CLEANUP))).await;
    }

    async fn abort(&self) {
        for job in self.inner.jobs.all() {
            trace::with(job.trace.context().cloned(), || {
                warn!(
                    id = %job.id,
                    status = ?job.status(),
                    "prompt is given up: the server shuts down"
                );
            });
            job.stop(Failure::new(
                Code::ShuttingDown,
                "the server shut down before the prompt had ended: send it again",
            ));
        }
        // Enough to take it out of ComfyUI's queue; the rest of a running node is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(3), self.inner.tasks.wait()).await;
    }
}
