//! The bridge between the AMQP transport and the pipeline: each knows nothing of the other.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::comfy::Comfy;
use crate::error::Failure;
use crate::health::{ComfyState, Health};
use crate::job::registry::Status;
use crate::job::request::WebhookRequest;
use crate::job::service::stop_with;
use crate::job::{Policy, PromptRequest, Service, Source, Submission};
use crate::limits::{is_large_object, off_runtime};
use crate::transport::amqp::{Amqp, Load, TaskOutcome, TaskRunner};

/// Runs tasks as prompts.
pub(super) struct Runner {
    service: Service,
    comfy: Comfy,
    health: Health,
    ready: watch::Sender<bool>,
}

impl Runner {
    pub fn new(service: Service, comfy: Comfy, health: Health) -> Self {
        let ready = watch::Sender::new(false);
        let (mut changes, told) = (health.watch(), ready.clone());
        tokio::spawn(async move {
            loop {
                let now = {
                    let state = changes.borrow_and_update();
                    state.comfy == ComfyState::Ready && !state.draining
                };
                told.send_if_modified(|known| std::mem::replace(known, now) != now);
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
        }
    }

    async fn outcome(
        &self,
        id: &str,
        body: Map<String, Value>,
        last: bool,
        give_back: CancellationToken,
    ) -> Result<TaskOutcome, Failure> {
        let webhooks = WebhookRequest::find(&body).unwrap_or_default();
        let prompt =
            (!webhooks.is_empty()).then(|| body.get("prompt").cloned().unwrap_or_default());
        let large = is_large_object(&body);
        let request = match off_runtime(large, || PromptRequest::parse_with_id(id, body)) {
            Ok(parsed) => parsed,
            Err(failure) => {
                for webhook in webhooks {
                    let prompt = prompt.clone().unwrap_or_default();
                    self.service.refused(id, &webhook, prompt, &failure);
                }
                return Err(failure);
            }
        };
        let submission = Submission {
            policy: Policy {
                webhook_tells_refusals: true,
                tried_again: !last,
                given_back: true,
                published: true,
                ..Policy::default()
            },
            ..Submission::new(Source::Amqp)
        };
        let mut running = self.service.begin(request, submission)?;
        let _over = stop_with(&running.job, give_back);
        running.done().await.map(TaskOutcome::Success)
    }
}

#[async_trait]
impl TaskRunner for Runner {
    async fn run(
        &self,
        id: &str,
        body: Map<String, Value>,
        last: bool,
        give_back: CancellationToken,
    ) -> TaskOutcome {
        self.outcome(id, body, last, give_back)
            .await
            .unwrap_or_else(TaskOutcome::Failed)
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
            queue_size: *self.comfy.watch.queue_remaining().borrow(),
            current,
            draining: state.draining,
            available: state.comfy == ComfyState::Ready,
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
                amqp.publish_result(&end.id, &outcome).await;
            }
        }
    });
}
