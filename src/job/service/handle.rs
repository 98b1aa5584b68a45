//! A job that has begun, as its transport holds it.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::document::Document;
use crate::error::{Code, Failure};
use crate::job::registry::Job;
use crate::job::request::Graph;
use crate::job::stream::Reader;
use crate::telemetry::trace;

/// A prompt that has begun. It goes on whether or not this value is kept.
pub struct JobHandle {
    /// What is known of it at any time.
    pub job: Arc<Job>,
    /// All its events from the first on, if that was asked for.
    pub reader: Option<Reader>,
    pub(super) accepted: oneshot::Receiver<Graph>,
    pub(super) done: oneshot::Receiver<Result<Document, Failure>>,
}

impl JobHandle {
    /// The graph as ComfyUI has queued it.
    ///
    /// # Errors
    /// Whatever ended the prompt before that.
    pub async fn accepted(&mut self) -> Result<Graph, Failure> {
        match (&mut self.accepted).await {
            Ok(graph) => Ok(graph),
            Err(_) => Err(self.done().await.err().unwrap_or_else(vanished)),
        }
    }

    /// The response body, when all is delivered.
    ///
    /// # Errors
    /// Whatever ended the prompt.
    pub async fn done(&mut self) -> Result<Document, Failure> {
        (&mut self.done).await.unwrap_or_else(|_| Err(vanished()))
    }
}

fn vanished() -> Failure {
    Failure::new(
        Code::Internal,
        "the prompt ended without a result; this is a defect of the server, please report it",
    )
    .transient()
}

/// Cancels a prompt when dropped, unless it was disarmed: for callers whose leaving ends the
/// prompt.
pub struct CancelOnDrop {
    pub(super) job: Option<Arc<Job>>,
}

impl CancelOnDrop {
    /// Armed.
    pub fn new(job: Arc<Job>) -> Self {
        Self { job: Some(job) }
    }

    /// The caller got its answer.
    pub fn disarm(mut self) {
        self.job = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(job) = &self.job {
            trace::with(job.trace.context().cloned(), || {
                info!(id = %job.id, "prompt is cancelled: its client has gone away");
            });
            job.stop(Failure::new(
                Code::ExecutionInterrupted,
                format!("prompt {} was cancelled: its client has gone away", job.id),
            ));
        }
    }
}

/// Ends a prompt as given back when `give_back` is cancelled: for tasks that another instance shall
/// run.
pub fn stop_with(job: &Arc<Job>, give_back: CancellationToken) -> tokio_util::sync::DropGuard {
    let over = CancellationToken::new();
    let (guard, job) = (over.clone().drop_guard(), job.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = over.cancelled() => {}
            () = give_back.cancelled() => job.stop(
                Failure::new(Code::ShuttingDown, "the task is given back to the queue")
            ),
        }
    });
    guard
}
