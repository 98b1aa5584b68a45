//! Follows a queued graph to its end.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Execution;
use super::seen::Seen;
use super::shown::show_preview;
use super::stopping::{DEAF_PATIENCE, aborted, deaf, does_not_stop, overdue};
use super::submit::Queued;
use crate::comfy::Comfy;
use crate::comfy::client::CallError;
use crate::comfy::message::{Preview, TextMessage};
use crate::comfy::pool::Place;
use crate::comfy::watch::WatchEvent;
use crate::error::{Code, Failure};
use crate::job::cancelling::{Cancelled, cancel, let_go};
use crate::job::outputs::ReceivedImages;
use crate::job::registry::{Job, JobRegistry, Status};
use crate::job::stats::Timeline;

/// What following a run came to.
#[derive(Debug)]
pub enum Followed {
    /// ComfyUI is done with it, in one way or another.
    Done(Execution),
    /// It was taken out of ComfyUI's queue, because another ComfyUI is idle.
    Moved,
    /// ComfyUI died or lost it.
    Lost {
        /// For the client, if that is to be the end.
        failure: Failure,
        /// It had begun, or was thrown out by a ComfyUI that lives: not only waiting in a queue
        /// that died.
        counts: bool,
    },
}

/// How following a run ended.
enum Outcome {
    /// It was taken out for another ComfyUI.
    Moved,
    /// ComfyUI died, or does not know it any more.
    Lost {
        failure: Failure,
        /// The process that had it is gone.
        dead: bool,
        wished: bool,
        began: bool,
    },
    /// ComfyUI is done with it; what its history says of it, if that can be had.
    Done(Option<Value>),
    /// It was taken out before it began: there is no entry and never will be (comfyui.md, 12.3).
    Removed,
    /// It was given up, and may still be in ComfyUI.
    LetGo(Failure),
    /// It was cancelled, and its node does not stop.
    Deaf(Failure),
    /// It is nowhere any more.
    Gone(Failure),
}

/// How long ComfyUI may take to say that it has given a run away.
const TAKING_OUT: Duration = Duration::from_secs(10);

/// How often the history entry of an ended prompt is asked for before the messages seen have to do.
const HISTORY_TRIES: u32 = 8;

/// Follows a queued graph to its end.
///
/// # Errors
/// The reason for stopping, when it was stopped. A failed or interrupted run is an [`Execution`]
/// with a failure.
pub async fn follow(
    place: &Place,
    jobs: &JobRegistry,
    job: &Job,
    mut queued: Box<Queued>,
    timeline: &mut Timeline,
    received: &mut ReceivedImages,
) -> Result<Followed, Failure> {
    let comfy = &place.comfy;
    let mut seen = Seen {
        warnings: std::mem::take(&mut queued.warnings),
        ..Seen::default()
    };
    let mut run = Run {
        place,
        seen: &mut seen,
        timeline: &mut *timeline,
        received: &mut *received,
    };
    match watch_run(place, jobs, job, &mut queued, &mut run).await {
        Outcome::Done(entry) => {
            if let Some(entry) = &entry {
                timeline.fill_from_history(entry);
            }
            timeline.ended();
            let execution =
                seen.execution(comfy, job, queued.comfy_id(), entry, &mut timeline.client);
            Ok(Followed::Done(execution))
        }
        Outcome::Moved => Ok(Followed::Moved),
        Outcome::Lost {
            failure,
            dead,
            wished,
            began,
        } => {
            let began = began || timeline.has_begun() || job.status() == Status::Running;
            let counts = (began || !dead) && !wished;
            if !dead {
                let_go(comfy, queued.watcher, queued.cleanup_guard, None);
            }
            Ok(Followed::Lost { failure, counts })
        }
        Outcome::Removed => Err(job.stop_reason()),
        Outcome::LetGo(failure) => {
            let_go(comfy, queued.watcher, queued.cleanup_guard, None);
            Err(failure)
        }
        Outcome::Deaf(failure) => {
            let limit = Some(comfy.limits.cancelled).filter(|limit| !limit.is_zero());
            let left = limit.map(|limit| limit.saturating_sub(DEAF_PATIENCE));
            let_go(comfy, queued.watcher, queued.cleanup_guard, left);
            Err(failure)
        }
        Outcome::Gone(failure) => Err(failure),
    }
}

/// What is noted of a run while it goes on.
pub(super) struct Run<'a> {
    pub(super) place: &'a Place,
    seen: &'a mut Seen,
    pub(super) timeline: &'a mut Timeline,
    received: &'a mut ReceivedImages,
}

impl Run<'_> {
    pub(super) fn message(&mut self, jobs: &JobRegistry, job: &Job, message: TextMessage) {
        self.received.heard(&message, self.timeline);
        self.seen
            .message((self.place, jobs), job, self.timeline, message);
    }

    pub(super) async fn preview(&mut self, job: &Job, preview: &Preview) {
        if !self.received.take(preview, self.timeline).await {
            show_preview(job, preview);
        }
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "one loop over everything that may end a run"
)]
async fn watch_run(
    place: &Place,
    jobs: &JobRegistry,
    job: &Job,
    queued: &mut Queued,
    run: &mut Run<'_>,
) -> Outcome {
    let comfy = &place.comfy;
    let id = queued.watcher.id.clone();
    let mut taken_out = false;
    let cancelling = async {
        job.cancel.cancelled().await;
        Box::pin(cancel(comfy, &id)).await
    };
    let (aborted, deaf, overdue) = (aborted(job), deaf(job), overdue(comfy, job));
    tokio::pin!(cancelling, aborted, deaf, overdue);
    let limit = comfy.limits.run;
    let mut deadline: Option<Instant> = None;
    let mut printing = None;
    loop {
        let running = job.status() == Status::Running;
        if running && printing.is_none() {
            printing = Some(comfy.output.about(&job.id));
        }
        if running && deadline.is_none() && !limit.is_zero() {
            deadline = Some(Instant::now() + limit);
        }
        let late = async {
            match deadline {
                Some(deadline) if !job.cancel.is_cancelled() => sleep_until(deadline).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            event = queued.watcher.next() => match event {
                WatchEvent::Message(message) => run.message(jobs, job, message),
                WatchEvent::Preview(preview) => run.preview(job, &preview).await,
                WatchEvent::Running => {
                    place.began();
                    jobs.started(job);
                }
                WatchEvent::Ended(Some(entry)) => return Outcome::Done(Some(entry)),
                WatchEvent::Ended(None) => {
                    return Outcome::Done(Box::pin(history(comfy, &id)).await);
                }
                WatchEvent::Lost { failure, dead, wished, began } => {
                    // What was asked to end anyway ends for that reason.
                    return match job.cancel.is_cancelled() {
                        false => Outcome::Lost { failure, dead: dead || taken_out, wished, began },
                        true if dead => Outcome::Gone(job.stop_reason()),
                        true => Outcome::LetGo(job.stop_reason()),
                    };
                }
            },
            () = place.wanted_elsewhere(), if !running => {
                let dequeuing = Box::pin(dequeue(comfy, &id, &mut taken_out));
                match timeout(TAKING_OUT, dequeuing).await {
                    Ok(Ok(true)) if !job.cancel.is_cancelled() => return Outcome::Moved,
                    Ok(Ok(true)) => return Outcome::Removed,
                    Ok(_) | Err(_) => place.stays(),
                }
            }
            cancelled = &mut cancelling => return match cancelled {
                Cancelled::Gone(Some(entry)) => Outcome::Done(Some(entry)),
                Cancelled::Gone(None) => Outcome::Removed,
                Cancelled::Unanswered => Outcome::LetGo(job.stop_reason()),
            },
            () = &mut deaf => return Outcome::Deaf(does_not_stop(job, run.timeline)),
            () = &mut overdue, if running => {}
            () = late => job.stop(Failure::new(
                Code::ExecutionInterrupted,
                format!(
                    "prompt {} was stopped: it has run longer than PROMPT_TIMEOUT_S ({} s)",
                    job.id,
                    limit.as_secs_f64()
                ),
            )),
            // ComfyUI is stopped next, whatever it is doing.
            () = &mut aborted => return Outcome::Gone(job.stop_reason()),
        }
    }
}

/// Takes a run that waits out of ComfyUI's queue. `false`: it had begun meanwhile, and stays. Never
/// by the atomic cancel, which would stop one that runs.
async fn dequeue(comfy: &Comfy, id: &str, tried: &mut bool) -> Result<bool, CallError> {
    *tried = true;
    comfy.client.delete_pending(id).await?;
    // Queue before history: what is in neither then is gone for good.
    let queue = comfy.client.queue().await?;
    let there = queue
        .running
        .iter()
        .chain(&queue.pending)
        .any(|queued| queued == id);
    Ok(!there && comfy.client.history(id).await?.is_none())
}

/// The history entry, which exists by the time `executing` null is sent; a few more tries cost
/// nothing.
async fn history(comfy: &Comfy, id: &str) -> Option<Value> {
    for attempt in 0..HISTORY_TRIES {
        if let Ok(Some(entry)) = comfy.client.history(id).await {
            return Some(entry);
        }
        sleep(Duration::from_millis(5 << attempt)).await;
    }
    None
}
