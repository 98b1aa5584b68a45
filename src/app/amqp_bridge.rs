//! The bridge between the AMQP transport and the pipeline: each knows nothing of the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::comfy::pool::Pool;
use crate::error::{Code, Failure};
use crate::health::{ComfyState, Health};
use crate::job::origin::{Handed, Origin, out_of_reach};
use crate::job::registry::{Job, Status};
use crate::job::request::WebhookRequest;
use crate::job::service::stop_with;
use crate::job::{
    JobEvent, Listener, Policy, PromptRequest, Service, Source, Submission, with_workflow,
};
use crate::limits::{is_large_object, off_runtime};
use crate::telemetry::logging::epoch_ms;
use crate::telemetry::trace;
use crate::transport::amqp::gateway::Gateway;
use crate::transport::amqp::reply::Reply;
use crate::transport::amqp::{Amqp, Load, Milestones, TaskOutcome, TaskRun, TaskRunner};
use crate::workflow::Workflows;

/// How long ago a death of ComfyUI still explains the loss of a prompt.
const RECENT: Duration = Duration::from_secs(2);

/// Runs tasks as prompts.
pub(super) struct Runner {
    service: Service,
    comfy: Pool,
    health: Health,
    workflows: Workflows,
    ready: watch::Sender<bool>,
    /// When ComfyUI went down last.
    died: watch::Sender<Option<Instant>>,
}

impl Runner {
    pub fn new(service: Service, comfy: Pool, health: Health, workflows: Workflows) -> Self {
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
            workflows,
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
            reply,
            gateway,
        } = task;
        let (webhooks, prompt) = webhooks_of(&body);
        let large = is_large_object(&body);
        let parsed = match self.generated(body).await {
            Ok((body, warnings)) => off_runtime(large, || PromptRequest::parse_with_id(&id, body))
                .map(|mut request| {
                    request.warnings.extend(warnings);
                    request
                }),
            Err(failure) => Err(failure),
        };
        let request = match parsed {
            Ok(parsed) => parsed,
            Err(failure) => {
                for webhook in webhooks {
                    self.service
                        .refused(&id, &webhook, prompt.clone(), &failure);
                }
                return Err(failure);
            }
        };
        let errand = Errand::of(&id, reply, gateway);
        let submission = Submission {
            listener: errand.clone().map(tell_states),
            origin: errand.map(|errand| errand as Arc<dyn Origin>),
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

    /// The graph of a task that names a workflow endpoint and brings its input.
    async fn generated(
        &self,
        mut body: Map<String, Value>,
    ) -> Result<(Map<String, Value>, Vec<String>), Failure> {
        let path = match body.get("workflow") {
            // A graph as a text is an object.
            Some(Value::String(path))
                if !body.contains_key("prompt") && !path.trim_start().starts_with('{') =>
            {
                path.trim_matches('/').to_owned()
            }
            _ => return Ok((body, Vec::new())),
        };
        let path = path.strip_prefix("workflow/").unwrap_or(&path);
        body.remove("workflow");
        let input = body.remove("input").filter(|input| !input.is_null());
        let input = input.unwrap_or_else(|| Value::Object(Map::new()));
        let generated = self.workflows.generate(path, input).await?;
        body.insert("input".into(), generated.input);
        body.insert("prompt".into(), generated.prompt);
        if let Some(workflow) = &generated.workflow {
            let given = body.remove("extra_data").filter(Value::is_object);
            body.insert("extra_data".into(), with_workflow(given, workflow));
        }
        Ok((body, generated.warnings))
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

/// A task with an address for answers, as the pipeline sees whoever has sent it.
#[derive(Debug)]
struct Errand {
    id: Arc<str>,
    reply: Option<Arc<Reply>>,
    gateway: Option<Arc<Gateway>>,
}

impl Errand {
    fn of(
        id: &Arc<str>,
        reply: Option<Arc<Reply>>,
        gateway: Option<Arc<Gateway>>,
    ) -> Option<Arc<Self>> {
        let some = reply.is_some() || gateway.is_some();
        let id = id.clone();
        some.then(|| Arc::new(Self { id, reply, gateway }))
    }
}

/// Whoever waits for the task sees its states as clients here do.
fn tell_states(errand: Arc<Errand>) -> Listener {
    Arc::new(move |event| {
        if let JobEvent::State(status) = event {
            let data = json!({"prompt_id": &*errand.id, "status": status});
            errand.tell("state", data);
        }
    })
}

#[async_trait]
impl Origin for Errand {
    fn owns(&self, url: &str) -> bool {
        let gateway = self.gateway.as_ref();
        gateway.is_some_and(|gateway| gateway.owns(url))
    }

    fn takes_files(&self) -> bool {
        self.gateway.is_some()
    }

    fn wants_all(&self) -> bool {
        self.gateway.as_ref().is_some_and(|gateway| gateway.keeps)
    }

    async fn fetch(&self, url: &str, into: &Path) -> Result<(PathBuf, u64), Failure> {
        match &self.gateway {
            Some(gateway) => gateway
                .fetch(url, into)
                .await
                .map_err(|why| out_of_reach("to fetch an input from", &why)),
            None => Err(out_of_reach("to fetch an input from", "there is none")),
        }
    }

    async fn put(&self, path: &Path, name: &str) -> Result<Handed, Failure> {
        let Some(gateway) = &self.gateway else {
            return Err(out_of_reach("to hand an output to", "there is none"));
        };
        match gateway.put(path, name).await {
            Ok(put) => Ok(Handed {
                name: name.to_owned(),
                size: put.size,
                hash: put.hash,
            }),
            Err((why, true)) => Err(Failure::new(Code::ExecutionInterrupted, why)),
            Err((why, false)) => Err(out_of_reach("to hand an output to", &why)),
        }
    }

    fn tell(&self, name: &str, data: Value) {
        let Some(reply) = &self.reply else { return };
        match name {
            // They are part of the result.
            "output" | "outputs_withdrawn" => reply.tell_lasting(&self.id, name, &data),
            _ => reply.tell(&self.id, name, &data),
        }
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

    fn cancel(&self, id: &str) -> bool {
        self.service.interrupt(id)
    }

    fn catalogue_hash(&self) -> Option<String> {
        let catalogue = self.comfy.catalogue();
        catalogue.described.as_ref().map(|known| known.hash.clone())
    }

    async fn catalogue(&self) -> Option<Value> {
        let catalogue = self.comfy.catalogue();
        let described = catalogue.described.clone()?;
        let models = self.comfy.list_models().await.unwrap_or_default();
        Some(json!({
            "hash": described.hash,
            "object_info": crate::document::base64(&described.gzip),
            "models": models,
            "versions": {"comfyui": catalogue.version, "comfyui_api": crate::VERSION},
        }))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is transient goes back into its queue.
    #[tokio::test]
    async fn a_task_whose_outputs_cannot_be_handed_over_goes_back() {
        crate::net::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out.png");
        std::fs::write(&file, "picture").unwrap();
        let nobody = "http://127.0.0.1:1/fleet/t".to_owned();
        let gateway = Gateway::patient(nobody, Duration::ZERO);
        let errand = Errand::of(&"task".into(), None, Some(gateway)).unwrap();
        let failure = errand.put(&file, "out.png").await.unwrap_err();
        assert!(failure.transient, "{failure}");
        let said = &failure.message;
        assert!(said.contains("hand an output to the gateway"), "{said}");
        assert!(
            !said.contains("127.0.0.1"),
            "an address is a secret: {said}"
        );
    }
}
