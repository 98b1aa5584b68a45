//! Waiting for a job, and telling how far it is meanwhile.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::context::{Context, Progress};
use crate::durable::{JobView, LiveJob};
use crate::store::JobStatus;

/// A client that knows tasks gets one after so long.
const BEFORE_A_TASK: Duration = Duration::from_secs(2);

/// Why the waiting is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The job has ended.
    Ended,
    /// The time is over, or this process ends.
    Over,
    /// The client gets a task.
    Task,
}

/// Waits for the end of a job, but not for ever.
pub async fn wait(context: &Context, live: &LiveJob, patience: Duration, tasks: bool) -> Waited {
    let began = Instant::now();
    let until = began + patience;
    let task = if tasks { began + BEFORE_A_TASK } else { until };
    let ended = live.ended();
    tokio::pin!(ended);
    let mut changes = live.changes();
    let mut untold = context.progress.is_some();
    loop {
        let next = context.progress.as_ref().map_or(until, Progress::next);
        if untold
            && let Some(progress) = &context.progress
            && next <= Instant::now()
        {
            tell(progress, &context.state.jobs.view_of(live));
            untold = false;
        }
        tokio::select! {
            biased;
            () = &mut ended => {
                let over = live.status().has_ended();
                return if over { Waited::Ended } else { Waited::Over };
            }
            () = sleep_until(until) => return Waited::Over,
            () = sleep_until(task), if tasks => return Waited::Task,
            Ok(()) = changes.changed(), if context.progress.is_some() && !untold => untold = true,
            () = sleep_until(next), if untold => {}
        }
    }
}

/// Tells how far a job is.
pub fn tell(progress: &Progress, view: &JobView) {
    let value = view
        .progress
        .as_ref()
        .and_then(|progress| progress.get("value"))
        .and_then(Value::as_f64)
        .unwrap_or_default();
    progress.tell(value * 100.0, &message(view));
}

fn message(view: &JobView) -> String {
    match view.record.status {
        JobStatus::Queued if view.download.is_none() => {
            format!("job {}: {}", view.record.id, said(view))
        }
        _ => said(view),
    }
}

/// The first one always has the id, whatever the job does by then.
pub fn tell_first(progress: &Progress, view: &JobView) {
    progress.tell(0.0, &format!("job {}: {}", view.record.id, said(view)));
}

/// Where a job is, in words.
pub fn said(view: &JobView) -> String {
    let now = || {
        let message = view.progress.as_ref()?.get("message")?.as_str()?;
        Some(message.to_owned())
    };
    match view.record.status {
        JobStatus::Queued => match (&view.download, view.queue_position) {
            (Some((name, Some(percent))), _) => format!("downloading {name} {percent} %"),
            (Some((name, None)), _) => format!("downloading {name}"),
            (None, Some(position)) => format!("position {position} in the queue"),
            (None, None) => "in the queue".to_owned(),
        },
        JobStatus::Running => now().unwrap_or_else(|| "running".to_owned()),
        JobStatus::Canceling => "being cancelled".to_owned(),
        ended => ended.as_str().to_owned(),
    }
}
