//! The one owner of all prompts. Transports begin a prompt here and translate what comes of it;
//! none of them is known here.

mod finish;
mod handle;
mod leftovers;
mod queries;
mod run;
mod shared_names;
mod shutdown;

use leftovers::Left;
use parking_lot::Mutex;
use run::run;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;
use tracing::info;

use super::cleanup::{Claims, Cleaner, GoingOn, HistoryCleanup, Journal};
use super::deliver;
use super::policy::Submission;
use super::preprocess::Directories;
use super::registry::JobRegistry;
use super::remote::Remote;
use super::request::{PromptRequest, Source, WebhookRequest};
use super::witness::Witness;
use crate::comfy::pool::Pool;
use crate::config::{ComfyConfig, PromptConfig, public_value};
use crate::document::Document;
use crate::error::{Code, Failure};
use crate::events::Events;
use crate::health::Health;
use crate::media::Media;
use crate::net::Outbound;
use crate::storage::Storage;
use crate::store::Store;
use crate::telemetry::trace;
use crate::telemetry::trace::Context;
use crate::webhook::Webhooks;

pub use handle::{CancelOnDrop, JobHandle, stop_with};

/// What the pipeline needs.
pub struct Parts {
    /// How prompts are treated.
    pub config: PromptConfig,
    /// Where ComfyUI's directories are.
    pub comfy_config: ComfyConfig,
    /// ComfyUI, however many there are.
    pub comfy: Pool,
    /// How many runs a job may have in all when it loses its ComfyUI, where there are several.
    pub max_runs: u32,
    /// Downloads and uploads.
    pub storage: Storage,
    /// Conversion.
    pub media: Media,
    /// Webhooks.
    pub webhooks: Webhooks,
    /// The guard over addresses.
    pub outbound: Outbound,
    /// Listeners.
    pub events: Events,
    /// Whether prompts are taken.
    pub health: Health,
    /// Assets, and outputs that are kept.
    pub store: Store,
    /// Told of all prompts.
    pub witness: Arc<dyn Witness>,
    /// Where it is noted what prompts in flight write.
    pub journal_dir: PathBuf,
    /// Whoever runs the graphs, where that is not the ComfyUI here.
    pub remote: Option<Arc<dyn Remote>>,
}

pub(super) struct Inner {
    parts: Parts,
    pub jobs: JobRegistry,
    pub directories: Arc<Directories>,
    pub tasks: TaskTracker,
    pub cleaner: Cleaner,
    /// Of each ComfyUI.
    pub history_cleanup: Vec<HistoryCleanup>,
    pub claims: Claims,
    pub journal: Journal,
    /// One at a time for graphs that may write under names of others (F04).
    pub turns: Arc<Semaphore>,
    /// Classes that have been seen to do so although they did not look like it.
    sharing: Mutex<HashSet<String>>,
    /// What a process that was killed has left in each ComfyUI.
    leftovers: Mutex<Option<Arc<Left>>>,
    /// What such a process has left in an attached ComfyUI, to be watched on; by the caller's id.
    going_on: Mutex<HashMap<String, GoingOn>>,
    /// Told of every end, if anybody asked for that.
    ends: OnceLock<mpsc::UnboundedSender<End>>,
}

/// The end of a prompt.
#[derive(Debug)]
pub struct End {
    /// The caller's id.
    pub id: Arc<str>,
    /// The transport it came through.
    pub source: Source,
    /// The response body, or why not.
    pub result: Result<Document, Failure>,
    /// What goes out with it.
    pub context: Option<Context>,
}

impl std::ops::Deref for Inner {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// The owner of all prompts. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

impl Service {
    /// Sets it up. Needs a runtime: the clean-up of ComfyUI's history runs in the background.
    pub fn new(parts: Parts) -> Self {
        let each = parts.comfy.instances().iter();
        let history_cleanup = each
            .map(|comfy| HistoryCleanup::start(comfy.client.clone()))
            .collect();
        let directories = Arc::new(Directories::new(&parts.comfy_config, &parts.config));
        let inner = Inner {
            journal: Journal::new(parts.journal_dir.clone()),
            claims: Claims::default(),
            turns: Arc::new(Semaphore::new(1)),
            sharing: Mutex::default(),
            leftovers: Mutex::default(),
            going_on: Mutex::default(),
            jobs: JobRegistry::witnessed_by(parts.witness.clone()),
            parts,
            directories,
            tasks: TaskTracker::new(),
            cleaner: Cleaner::default(),
            history_cleanup,
            ends: OnceLock::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The ends of all prompts from now on. There can be one listener.
    pub fn ends(&self) -> mpsc::UnboundedReceiver<End> {
        let (sender, ends) = mpsc::unbounded_channel();
        let _ = self.inner.ends.set(sender);
        ends
    }

    /// Begins a prompt; with `stream` its events are kept for a reader from the first on.
    ///
    /// # Errors
    /// 503 when none is taken, 409 when its id is in flight.
    pub fn begin(
        &self,
        request: impl Into<Box<PromptRequest>>,
        submission: Submission,
    ) -> Result<JobHandle, Failure> {
        let request = request.into();
        self.inner.health.accepts(submission.policy.before_ready)?;
        let stream = submission.stream;
        let job = self.inner.jobs.begin(&request, submission)?;
        let reader = stream.then(|| job.streams.attach(true));
        let (tell_accepted, accepted) = oneshot::channel();
        let (tell_done, done) = oneshot::channel();
        let task = run(
            self.inner.clone(),
            job.clone(),
            request,
            tell_accepted,
            tell_done,
        );
        let context = job.trace.context().cloned();
        self.inner.tasks.spawn(trace::scope(context, task));
        Ok(JobHandle {
            job,
            reader,
            accepted,
            done,
        })
    }

    /// Tells the receiver of a request that could not even be parsed, for a transport that has no
    /// other answer.
    pub fn refused(&self, id: &str, webhook: &WebhookRequest, prompt: Value, failure: &Failure) {
        self.tell_failure(id, webhook, prompt, failure, false);
    }

    /// Tells the receiver of a kept job that the pipeline has not told, because another attempt was
    /// to follow.
    pub fn given_up(&self, id: &str, webhook: &WebhookRequest, prompt: Value, failure: &Failure) {
        self.tell_failure(id, webhook, prompt, failure, true);
    }

    fn tell_failure(
        &self,
        id: &str,
        webhook: &WebhookRequest,
        prompt: Value,
        failure: &Failure,
        kept: bool,
    ) {
        let prompt = public_value(prompt);
        let trace = trace::current().into();
        let notice = deliver::Notice {
            id,
            graph: &prompt,
            failure,
            kept,
        };
        deliver::failed(&self.inner, webhook, notice, None, trace);
    }

    /// Cancels a prompt wherever it is; `false` when no such prompt is in flight.
    pub fn interrupt(&self, id: &str) -> bool {
        let Some(job) = self.inner.jobs.get(id) else {
            return false;
        };
        trace::with(job.trace.context().cloned(), || {
            info!(id, "prompt is cancelled on request");
        });
        job.stop(Failure::new(
            Code::ExecutionInterrupted,
            format!("prompt {id} was cancelled"),
        ));
        true
    }

    /// Nobody will begin this job here again.
    pub fn forget_elsewhere(&self, id: &str) {
        if let Some(remote) = self.inner.remote.as_ref().filter(|remote| remote.has(id)) {
            remote.forget(id);
        }
    }

    /// Whether somebody else works on a job already, for the process before this one.
    pub fn is_elsewhere(&self, id: &str) -> bool {
        let remote = self.inner.remote.as_ref();
        remote.is_some_and(|remote| remote.has(id))
    }
}
