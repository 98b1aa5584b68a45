//! One job from its message to its end, as the gateway sees it.

mod begin;
mod ended;
mod publish;

use std::sync::Arc;
use std::time::{Duration, Instant};

use begin::{begin, taken_up};
use publish::queue_name;
use serde_json::Value;
use tracing::{info, warn};

use super::task::{Claimed, News, Task, too_often};
use super::{Inner, files, record};
use crate::error::{Code, Failure};
use crate::job::registry::Job;
use crate::job::remote::{Done, Errand, Told};
use crate::mailbox::Mailbox;
use crate::telemetry::metrics;

/// How long a cancelled job waits for the instance that has it.
const CANCELLING: Duration = Duration::from_secs(15);

/// An instance may not have listened the first time.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Runs it.
pub(super) async fn run(
    inner: &Arc<Inner>,
    errand: Box<Errand>,
    told: Arc<Mailbox<Told>>,
) -> Result<Done, Failure> {
    let job = errand.job.clone();
    let (task, mut publish) = match taken_up(inner, &errand) {
        Some((task, publish, superseded)) => {
            inner.call_off(superseded);
            (task, publish)
        }
        None => (Box::pin(begin(inner, errand)).await?, true),
    };
    if !task.take_up() {
        return Err(conflict(&task.id));
    }
    let name = queue_name(inner, task.queue);
    let rank = 9 - task.priority.unwrap_or(0);
    let queue = u16::try_from(task.queue).unwrap_or(u16::MAX);
    told.put(Told::Queue(queue, rank));
    let idle = inner.seen.any_idle(&name) && !inner.tasks.any_waiting(task.queue, &task);
    let mut running = Running {
        inner,
        task: &task,
        job: &job,
        told,
        idle,
        shown: false,
    };
    if !publish {
        running.published();
    }
    let ended = running.until_its_end(&mut publish).await;
    let suspended =
        matches!(&ended, Err(failure) if failure.code == Code::ShuttingDown) && task.kept;
    if suspended {
        return Err(job.stop_reason());
    }
    inner.end(&task);
    let outcome = match &ended {
        Ok(_) => "succeeded",
        Err(failure) if failure.code == Code::ExecutionInterrupted => "canceled",
        Err(_) => "failed",
    };
    metrics::gateway_task(&name, outcome);
    if ended.is_err() {
        files::remove(&task.dir);
    }
    ended
}

fn conflict(id: &str) -> Failure {
    Failure::new(
        Code::Conflict,
        format!("a job with the id \"{id}\" is with the fleet already"),
    )
}

async fn noted(task: &Arc<Task>, with_body: bool) -> Result<(), Failure> {
    let task = task.clone();
    let noting = tokio::task::spawn_blocking(move || record::note(&task, with_body));
    noting
        .await
        .map_err(|_| crate::error::panicked("recording a job of the fleet"))?
        .map_err(|error| files::unwritable(&error))
}

struct Running<'a> {
    inner: &'a Arc<Inner>,
    task: &'a Arc<Task>,
    job: &'a Arc<Job>,
    told: Arc<Mailbox<Told>>,
    idle: bool,
    shown: bool,
}

impl Running<'_> {
    /// It waits in its queue, as far as anybody can tell.
    fn published(&mut self) {
        if !std::mem::replace(&mut self.shown, true) {
            self.told.put(Told::Published { idle: self.idle });
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one loop over everything that may end a job"
    )]
    async fn until_its_end(&mut self, publish: &mut bool) -> Result<Done, Failure> {
        let mut asked_at: Option<Instant> = None;
        let mut cancelled_at: Option<Instant> = None;
        loop {
            if std::mem::take(publish) {
                match Box::pin(self.publish()).await {
                    Ok(()) => self.published(),
                    // It was there before, and may be there still.
                    Err(failure) if self.shown => {
                        warn!(
                            id = %self.task.id,
                            error = %failure,
                            "a job cannot be published anew"
                        );
                    }
                    Err(failure) => return Err(failure),
                }
            }
            let cancelled = self.job.cancel.is_cancelled();
            let next = async {
                if cancelled {
                    tokio::time::sleep(ASK_AGAIN / 4).await;
                } else {
                    self.job.cancel.cancelled().await;
                }
            };
            tokio::select! {
                biased;
                one = self.task.news.next() => match one {
                    News::Told(told) => self.told.put(told),
                    News::Ended(kind, data) => {
                        return Box::pin(self.ended(&kind, data)).await;
                    }
                    News::GivenUp(reason) => {
                        let mut failure = Failure::new(Code::ComfyuiUnavailable, reason);
                        failure.transient = false;
                        return Err(failure);
                    }
                    News::Publish => {
                        info!(
                            id = %self.task.id,
                            "a job is published anew: its queue is empty, and nobody has it"
                        );
                        *publish = true;
                    }
                },
                () = next => {
                    let reason = self.job.stop_reason();
                    if reason.code == Code::ShuttingDown && self.task.kept {
                        return Err(reason);
                    }
                    if self.task.end_unclaimed() {
                        return Err(reason);
                    }
                    let since = *cancelled_at.get_or_insert_with(Instant::now);
                    if asked_at.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
                        asked_at = Some(Instant::now());
                        Box::pin(self.ask_to_cancel()).await;
                    }
                    if reason.code == Code::ShuttingDown || since.elapsed() >= CANCELLING {
                        return Err(reason);
                    }
                }
            }
        }
    }
}

impl Inner {
    pub(super) async fn claim(self: &Arc<Self>, token: &str, instance: &str) -> Option<Value> {
        let task = self.tasks.by_token(token)?;
        let secrets = match task.claim(instance, self.max_attempts) {
            Claimed::Granted(secrets) => secrets,
            Claimed::Over => return None,
            Claimed::TooOften => {
                let lost = task.state().lost;
                task.tell(News::GivenUp(too_often(lost)));
                return None;
            }
            Claimed::SecretsLost => {
                let reason = "the gateway was restarted, and the job had extra_data or \
                              credentials, which are not stored: submit it again";
                task.tell(News::GivenUp(reason.to_owned()));
                return None;
            }
        };
        self.seen.busy(instance);
        if task.kept && noted(&task, false).await.is_err() {
            warn!(id = %task.id, "the claim of a job cannot be recorded");
        }
        Some(Value::Object(secrets))
    }
}
