//! What a job waits for besides the pipeline: its expiry, its cancelling.

use tokio::time::{Instant, sleep_until};

use crate::durable::live::LiveJob;
use crate::store::JobStatus;

pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Resolves at that time, if the job still waits then.
pub(super) async fn while_queued(live: &LiveJob, expiry: Option<Instant>) {
    at(expiry).await;
    if live.status() != JobStatus::Queued {
        std::future::pending::<()>().await;
    }
}

pub(super) async fn cancelled(live: &LiveJob) {
    let mut changes = live.changes();
    while !live.state.lock().cancelled {
        if changes.changed().await.is_err() {
            return;
        }
    }
}
