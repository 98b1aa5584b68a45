//! The bridge between the AMQP transport and the pipeline: each knows nothing of the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::comfy::pool::Pool;
use crate::error::{Code, Failure};
use crate::health::{ComfyState, Health};
use crate::job::registry::{Job, Status};
use crate::job::request::WebhookRequest;
use crate::job::service::stop_with;
use crate::job::{Policy, PromptRequest, Service, Source, Submission};
use crate::limits::{is_large_object, off_runtime};
use crate::telemetry::logging::epoch_ms;
use crate::telemetry::trace;
use crate::transport::amqp::{Amqp, Load, Milestones, TaskOutcome, TaskRun, TaskRunner};

/// How long ago a death of ComfyUI still explains the loss of a prompt.
const RECENT: Duration = Duration::from_secs(2);

/// Runs tasks as prompts.
pub(super) struct Runner {
    service: Service,
    comfy: Pool,
    health: Health,
    ready: watch::Sender<bool>,
    /// When ComfyUI went down last.
    died: watch::Sender<Option<Instant>>,
}

impl Runner {
    pub fn new(service: Service, comfy: Pool, health: Health) -> Self {
        let (ready, died) = (watch::Sender::new(false), watch::Sender::new(None));
        let (mut changes, asked) = (health.watch(), health.clone());
        let (tell_ready, tell_died) = (ready.clone(), died.clone());
        tokio::spawn(async move {
            loop {
                let down = matches!(changes.borrow_and_update().comfy, ComfyState::Down(_));
                if down {
                    tell_died.send_replace(Some(Instant::now()));
                }
                // Whatever makes a prompt be refused is a reason to leave the tasks to others.
                let now = asked.accepts(false).is_ok();
                tell_ready.send_if_modified(|known| std::mem::replace(known, now) != now);
                if changes.changed().await.is_err() {
                    return;
                }
            }
        });
        Self {
            service,
            comfy,
            health,
            ready,
            died,
        }
    }

    async fn outcome(&self, task: TaskRun) -> Result<TaskOutcome, Failure> {
        let TaskRun {
            id,
            body,
            give_back,
            milestones,
        } = task;
        let (webhooks, prompt) = webhooks_of(&body);
        let large = is_large_object(&body);
        let request = match off_runtime(large, || PromptRequest::parse_with_id(&id, body)) {
            Ok(parsed) => parsed,
            Err(failure) => {
                for webhook in webhooks {
                    self.service
                        .refused(&id, &webhook, prompt.clone(), &failure);
                }
                return Err(failure);
            }
        };
        let submission = Submission {
            policy: Policy {
                webhook_tells_refusals: true,
                tried_again: true,
                given_back: true,
                published: true,
                ..Policy::default()
            },
            ..Submission::new(Source::Amqp)
        };
        let mut running = self.service.begin(request, submission)?;
        let job = running.job.clone();
        let _over = stop_with(&job, give_back);
        let ended = running.done();
        tokio::pin!(ended);
        tokio::select! {
            ended = &mut ended => ended,
            () = self.tell(&job, &milestones) => ended.await,
        }
        .map(TaskOutcome::Success)
    }

    /// Tells how far a job has come. A ComfyUI that is down already cannot die of it.
    async fn tell(&self, job: &Job, milestones: &Milestones) {
        job.reached.submitted.cancelled().await;
        if self.health.accepts(false).is_ok() {
            milestones.submitted.cancel();
        }
        job.reached.executing.cancelled().await;
        milestones.submitted.cancel();
        milestones.executing.cancel();
    }
}

/// Who is told, and the prompt as they know it.
fn webhooks_of(body: &Map<String, Value>) -> (Vec<WebhookRequest>, Value) {
    let webhooks = WebhookRequest::find(body).unwrap_or_default();
    let prompt = if webhooks.is_empty() {
        Value::Null
    } else {
        body.get("prompt").cloned().unwrap_or_default()
    };
    (webhooks, prompt)
}

#[async_trait]
impl TaskRunner for Runner {
    async fn run(&self, task: TaskRun) -> TaskOutcome {
        self.outcome(task).await.unwrap_or_else(TaskOutcome::Failed)
    }

    async fn given_up(&self, id: &str, body: Map<String, Value>, failure: &Failure) {
        let (webhooks, prompt) = webhooks_of(&body);
        for webhook in webhooks {
            self.service.refused(id, &webhook, prompt.clone(), failure);
        }
    }

    fn comfyui_has_died(&self) -> bool {
        let down = matches!(self.health.now().comfy, ComfyState::Down(_));
        down || self.died.borrow().is_some_and(|at| at.elapsed() < RECENT)
    }

    fn comfyui_was_restarted(&self) -> bool {
        {
            let mut all = self.comfy.instances().iter();
            all.any(|comfy| comfy.life.restart_was_wanted_within(RECENT))
        }
    }

    fn other_prompt_was_executing(&self) -> bool {
        let now = epoch_ms();
        let (_, _, finished) = self.service.lists();
        finished.iter().any(|entry| {
            entry.source != Source::Amqp.as_str()
                && entry.started_at.is_some()
                && entry.code == Some(Code::ComfyuiUnavailable.as_str())
                && entry
                    .finished_at
                    .is_some_and(|at| u128::from(now.saturating_sub(at)) < RECENT.as_millis())
        })
    }

    fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    fn load(&self) -> Load {
        let state = self.health.now();
        let (running, pending, _) = self.service.lists();
        let current = running
            .iter()
            .find(|entry| entry.status == Status::Running)
            .or(running.first())
            .or(pending.first())
            .map(|entry| entry.id.clone());
        Load {
            in_flight: running.len() + pending.len(),
            queue_size: self.comfy.queue_remaining(),
            current,
            one_is_idle: self.comfy.several() && self.comfy.any_idle(),
            draining: state.draining,
            available: state.comfy == ComfyState::Ready && state.unwritable.is_none(),
        }
    }
}

/// With `AMQP_PUBLISH_ALL` the ends of prompts from other transports are published too.
pub(super) fn publish_results(service: &Service, amqp: &Arc<Amqp>) {
    let mut ends = service.ends();
    let amqp = amqp.clone();
    tokio::spawn(async move {
        while let Some(end) = ends.recv().await {
            if end.source != Source::Amqp {
                let outcome = end
                    .result
                    .map_or_else(TaskOutcome::Failed, TaskOutcome::Success);
                trace::scope(end.context, amqp.publish_result(&end.id, &outcome)).await;
            }
        }
    });
}
