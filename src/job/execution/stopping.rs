//! A run that shall end: how long is waited, and what its client is told.

use std::time::Duration;

use tokio::time::sleep;

use crate::comfy::Comfy;
use crate::config::public_text;
use crate::error::{Code, Failure};
use crate::job::cancelling::report_hang;
use crate::job::registry::Job;
use crate::job::stats::Timeline;

/// How long a cancelled prompt waits for its node to stop. The run is waited for in the background
/// from then on.
pub(super) const DEAF_PATIENCE: Duration = Duration::from_secs(15);

/// How long a prompt that must end with the server waits for its node to stop; less than the server
/// waits for the prompt.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

/// Resolves when a cancelled prompt has had its time to end.
pub(super) async fn deaf(job: &Job) {
    job.cancel.cancelled().await;
    sleep(DEAF_PATIENCE).await;
}

/// Reports a ComfyUI whose cancelled run goes on for longer than `COMFYUI_HANG_TIMEOUT_S`. Never
/// resolves.
pub(super) async fn overdue(comfy: &Comfy, job: &Job) {
    let limit = comfy.limits.cancelled;
    if limit.is_zero() {
        return std::future::pending().await;
    }
    job.cancel.cancelled().await;
    sleep(limit).await;
    report_hang(comfy);
    std::future::pending().await
}

/// The sentence for a client whose cancelled prompt goes on.
pub(super) fn does_not_stop(job: &Job, timeline: &Timeline) -> Failure {
    let mut failure = job.stop_reason();
    let who = match timeline.running_node() {
        Some(node) => match timeline.client.class_of(node) {
            Some(class) => format!("node {node} ({class})"),
            None => format!("node {node}"),
        },
        None => "its node".to_owned(),
    };
    failure.message = public_text(&format!(
        "{}, but {who} does not stop: ComfyUI goes on with it until that node ends",
        failure.message
    ));
    failure
}

/// Resolves when the server shuts down and the prompt has had its chance to end.
pub(super) async fn aborted(job: &Job) {
    job.cancel.cancelled().await;
    if job.stop_reason().code != Code::ShuttingDown {
        std::future::pending::<()>().await;
    }
    sleep(SHUTDOWN_PATIENCE).await;
}
