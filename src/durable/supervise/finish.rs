//! The end of a job: recorded first, then shown.

use std::time::Duration;

use serde_json::Value;
use tracing::warn;

use super::Verdict;
use crate::durable::Inner;
use crate::durable::ending::End;
use crate::durable::live::LiveJob;
use crate::error::Failure;
use crate::net::retry::Pauses;
use crate::store::jobs::Logs;
use crate::store::{JobStatus, now_ms};
use crate::telemetry::metrics;

/// Of what ComfyUI printed, bytes.
const LONGEST_LOG: usize = 64 * 1024;

/// Records the end, then shows it.
pub(super) async fn finish(inner: &Inner, live: &LiveJob, end: End) {
    let_go(inner, live);
    let mut update = live.update();
    update.status = end.status;
    update.completed_at = Some(now_ms().max(update.started_at.unwrap_or(0)));
    update.error = end.error.as_ref().map(Value::to_string);
    let progress = {
        let state = live.state.lock();
        state.progress.as_ref().map(|progress| {
            if end.status == JobStatus::Succeeded {
                progress.completed()
            } else {
                progress.clone()
            }
        })
    };
    update.progress = progress
        .as_ref()
        .map(|progress| crate::durable::live::shown_progress(progress).to_string());
    keep_logs(inner, live);
    if let Some(failure) = end.failure {
        crate::durable::result::keep_failure(inner, live, failure);
    }
    let completed_at = update.completed_at;
    let mut pauses = Pauses::new(Duration::from_millis(100), Duration::from_secs(10));
    // An end that is not recorded is not shown: after a restart it would be another one.
    while !matches!(
        inner.store.update_job(&live.id, update.clone()).await,
        Ok(Ok(()))
    ) {
        warn!(id = %live.id, "the end of a job cannot be recorded; trying again");
        pauses.wait().await;
    }
    live.change(|state| {
        state.status = end.status;
        state.completed_at = completed_at;
        state.error = end.error;
        state.progress = progress;
        state.job = None;
        state.preview = None;
    });
    inner.forget(&live.id);
    metrics::job_ended(end.status.as_str());
    metrics::store_size(inner.store.used());
}

/// Takes a job back that never was, then tells its submitter why: whoever has the answer finds
/// nothing of it any more, and its idempotency key free.
pub(super) async fn revoke(inner: &Inner, live: &LiveJob, failure: Failure, tell: Verdict) {
    let_go(inner, live);
    // One that cannot be removed is taken for a job after a restart, and refused again.
    if let Err(error) = inner.store.revoke_job(&live.id).await {
        warn!(id = %live.id, %error, "a job that was refused cannot be removed from the store");
    }
    inner.forget(&live.id);
    live.change(|state| state.status = JobStatus::Failed);
    // A submitter that has left has no job either.
    let _ = tell.send(Some(failure));
}

fn let_go(inner: &Inner, live: &LiveJob) {
    inner.again.sent(live.record.seq);
    inner.service.forget_elsewhere(&live.id);
    inner.service.lets_go_of(&live.id);
}

/// What ComfyUI printed meanwhile. Written before the end, which waits for it.
fn keep_logs(inner: &Inner, live: &LiveJob) {
    let Some((comfy, from)) = live.state.lock().log_from else {
        return;
    };
    let output = &inner.comfy.instance(comfy).output;
    let (text, truncated) = output.since(from, LONGEST_LOG);
    if !text.is_empty() {
        inner.store.job_logs(&live.id, Logs { text, truncated });
    }
}

/// The process ends; the record says `queued`.
pub(super) fn leave(inner: &Inner, live: &LiveJob) {
    inner.again.sent(live.record.seq);
    let mut update = live.update();
    update.status = JobStatus::Queued;
    update.started_at = None;
    drop(inner.store.update_job(&live.id, update));
    live.change(|state| {
        state.job = None;
        state.suspended = true;
    });
}
