//! The one owner of all prompts. Transports begin a prompt here and translate what comes of it; none of them is known here.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::cleanup::{Claims, Cleaner, GoingOn, HistoryCleanup, Journal, Leftovers, Prefix};
use super::deliver;
use super::event::JobEvent;
use super::keep::Keeping;
use super::policy::Submission;
use super::preprocess::{Directories, names};
use super::registry::{Job, JobRegistry, JobSnapshot, Status};
use super::remote::Remote;
use super::request::{Graph, PromptRequest, Source, WebhookRequest};
use super::stream::Reader;
use super::witness::{Ended, Witness};
use super::{cancelling, cleanup, deliver::Response, going_on, pipeline};
use crate::comfy::Comfy;
use crate::comfy::pool::Pool;
use crate::config::{ComfyConfig, PromptConfig, public_value};
use crate::document::Document;
use crate::error::{Code, Failure, panicked};
use crate::events::Events;
use crate::health::Health;
use crate::limits::{is_large_object, off_runtime};
use crate::media::Media;
use crate::net::Outbound;
use crate::storage::Storage;
use crate::store::{AssetRecord, Store};
use crate::telemetry::trace::Context;
use crate::telemetry::{metrics, trace};
use crate::webhook::Webhooks;

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

/// What a process that was killed has left, until every ComfyUI was asked for it.
struct Left {
    leftovers: Mutex<Option<Leftovers>>,
    runs: Vec<String>,
    unasked: Mutex<BTreeSet<usize>>,
    temp: Mutex<Vec<PathBuf>>,
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

impl Inner {
    /// Whether a graph may write under a name that others write to as well.
    pub fn shares_names(&self, graph: &Map<String, Value>, made: &[Prefix]) -> bool {
        let catalogue = self.comfy.catalogue();
        let sharing = self.sharing.lock().unwrap_or_else(PoisonError::into_inner);
        names::shares_names(
            graph,
            made,
            |class| catalogue.is_output(class),
            |class| sharing.contains(class),
        )
    }

    /// These nodes do so; the next graph with their classes is treated accordingly from the start.
    pub fn remember_shared_names(&self, graph: &Map<String, Value>, nodes: &BTreeSet<String>) {
        let classes = nodes
            .iter()
            .filter_map(|node| graph.get(node)?.get("class_type")?.as_str());
        let mut sharing = self.sharing.lock().unwrap_or_else(PoisonError::into_inner);
        sharing.extend(classes.map(str::to_owned));
    }

    /// What an earlier process has left of this prompt in ComfyUI.
    pub fn take_going_on(&self, id: &str) -> Option<GoingOn> {
        self.going_on().remove(id)
    }

    /// It could not be asked for.
    pub fn put_back_going_on(&self, one: GoingOn) {
        self.going_on().insert(one.id.clone(), one);
    }

    fn going_on(&self) -> MutexGuard<'_, HashMap<String, GoingOn>> {
        self.going_on.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long ComfyUI is waited for to let go of what a killed process has left in it, before the server is ready.
const LETTING_GO: Duration = Duration::from_secs(15);
/// How long the end of the server waits until ComfyUI has deleted its last history entries.
const HISTORY_CLEANUP: Duration = Duration::from_secs(1);

/// The owner of all prompts. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

/// A prompt that has begun. It goes on whether or not this value is kept.
pub struct JobHandle {
    /// What is known of it at any time.
    pub job: Arc<Job>,
    /// All its events from the first on, if that was asked for.
    pub reader: Option<Reader>,
    accepted: oneshot::Receiver<Graph>,
    done: oneshot::Receiver<Result<Document, Failure>>,
}

impl JobHandle {
    /// The graph as ComfyUI has queued it.
    ///
    /// # Errors
    /// Whatever ended the prompt before that.
    pub async fn accepted(&mut self) -> Result<Graph, Failure> {
        match (&mut self.accepted).await {
            Ok(graph) => Ok(graph),
            Err(_) => Err(self.done().await.err().unwrap_or_else(vanished)),
        }
    }

    /// The response body, when all is delivered.
    ///
    /// # Errors
    /// Whatever ended the prompt.
    pub async fn done(&mut self) -> Result<Document, Failure> {
        (&mut self.done).await.unwrap_or_else(|_| Err(vanished()))
    }
}

fn vanished() -> Failure {
    Failure::new(
        Code::Internal,
        "the prompt ended without a result; this is a defect of the server, please report it",
    )
    .transient()
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

    /// At the start, before any prompt: removes what a process that was killed has left of its prompts on the disk (A44). Those
    /// in `goes_on` are spared if they had come as far as ComfyUI: when they begin here, they are watched on.
    pub async fn remove_leftovers(&self, goes_on: HashSet<String>) {
        let (journal, claims) = (self.inner.journal.clone(), self.inner.claims.clone());
        let removing = tokio::task::spawn_blocking(move || {
            cleanup::remove_files_of_the_dead(&journal, &claims, &goes_on)
        });
        let (left, going_on) = removing.await.ok().unzip();
        for one in going_on.into_iter().flatten() {
            self.inner.put_back_going_on(one);
        }
        let unasked = 0..self.inner.comfy.instances().len();
        let left = left.map(|leftovers: Leftovers| {
            Arc::new(Left {
                runs: leftovers.runs(),
                leftovers: Mutex::new(Some(leftovers)),
                unasked: Mutex::new(unasked.collect()),
                temp: Mutex::default(),
            })
        });
        *self
            .inner
            .leftovers
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = left;
    }

    /// A ComfyUI answers: what such a process has left in it is taken out, tidied up after and forgotten. Waits for that, but not
    /// long.
    pub async fn forget_leftovers(&self, comfy: &Comfy) {
        let left = self
            .inner
            .leftovers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(left) = left else { return };
        if !lock(&left.unasked).remove(&comfy.index()) {
            return;
        }
        let comfy = comfy.clone();
        let forgetting = tokio::spawn(async move {
            for id in &left.runs {
                let entry = cancelling::abandon(&comfy, id).await;
                if let (Some(entry), Some(known)) = (&entry, &*lock(&left.leftovers)) {
                    lock(&left.temp).extend(cleanup::temp_files(entry, known));
                }
            }
            if !lock(&left.unasked).is_empty() {
                return;
            }
            let finishing = move || {
                for path in std::mem::take(&mut *lock(&left.temp)) {
                    let _ = std::fs::remove_file(path);
                }
                if let Some(leftovers) = lock(&left.leftovers).take() {
                    leftovers.finish();
                }
            };
            let _ = tokio::task::spawn_blocking(finishing).await;
        });
        let _ = tokio::time::timeout(LETTING_GO, forgetting).await;
    }

    /// Whether ComfyUI may have this prompt since an earlier process.
    pub fn goes_on(&self, id: &str) -> bool {
        self.inner.going_on().contains_key(id)
    }

    /// Whether ComfyUI has it still.
    pub async fn is_still_there(&self, id: &str) -> bool {
        let Some(one) = self.inner.take_going_on(id) else {
            return false;
        };
        let there = going_on::still_there(&self.inner.comfy, &one).await;
        self.inner.put_back_going_on(one);
        there.is_ok_and(|run| run.is_some())
    }

    /// A prompt of an earlier process ends without going on here.
    pub fn lets_go_of(&self, id: &str) {
        if let Some(one) = self.inner.take_going_on(id) {
            let comfy = self.inner.comfy.clone();
            self.inner
                .tasks
                .spawn(async move { going_on::let_go(&comfy, one).await });
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
        request: PromptRequest,
        submission: Submission,
    ) -> Result<JobHandle, Failure> {
        self.inner.health.accepts(submission.policy.before_ready)?;
        let stream = submission.stream;
        let job = self.inner.jobs.begin(&request, submission)?;
        let reader = stream.then(|| job.streams.attach(true));
        let (tell_accepted, accepted) = oneshot::channel();
        let (tell_done, done) = oneshot::channel();
        let task = drive(
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

    /// Tells the receiver of a request that could not even be parsed, for a transport that has no other answer.
    pub fn refused(&self, id: &str, webhook: &WebhookRequest, prompt: Value, failure: &Failure) {
        let prompt = public_value(prompt);
        let trace = trace::current().into();
        let notice = deliver::Notice {
            id,
            graph: &prompt,
            failure,
            kept: false,
        };
        deliver::failed(&self.inner, webhook, notice, None, trace);
    }

    /// Tells the receiver of a kept job that the pipeline has not told, because another attempt was to follow.
    pub fn given_up(&self, id: &str, webhook: &WebhookRequest, prompt: Value, failure: &Failure) {
        let prompt = public_value(prompt);
        let trace = trace::current().into();
        let notice = deliver::Notice {
            id,
            graph: &prompt,
            failure,
            kept: true,
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

    /// A prompt in flight.
    pub fn job(&self, id: &str) -> Option<Arc<Job>> {
        self.inner.jobs.get(id)
    }

    /// One prompt, in flight or remembered.
    pub fn entry(&self, id: &str) -> Option<JobSnapshot> {
        self.inner.jobs.entry(id)
    }

    /// The place of a job that waits, 1 = next.
    pub fn place(&self, job: &Job) -> Option<usize> {
        self.inner.jobs.place(job)
    }

    /// `(running, pending, finished)`
    pub fn lists(&self) -> (Vec<JobSnapshot>, Vec<JobSnapshot>, Vec<JobSnapshot>) {
        self.inner.jobs.lists()
    }

    /// How many of those in flight run or are on their way out, and how many come before that.
    pub fn counts(&self) -> (usize, usize) {
        self.inner.jobs.counts()
    }

    /// A number that rises with every change of [`Service::lists`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.jobs.changes()
    }

    /// A number that rises when a prompt comes, begins or ends.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.inner.jobs.moves()
    }

    /// How many are in flight.
    pub fn in_flight(&self) -> usize {
        self.inner.jobs.count()
    }

    /// Waits until the last prompt in flight has ended. For one waiter.
    pub async fn emptied(&self) {
        self.inner.jobs.emptied().await;
    }

    /// Ends what has not come as far as ComfyUI: there will be no ComfyUI for it.
    pub fn stop_all(&self, reason: &Failure) {
        for job in self
            .inner
            .jobs
            .all()
            .iter()
            .filter(|job| job.status() == Status::Preprocessing)
        {
            job.stop(reason.clone());
        }
    }

    /// At shutdown, when nobody reads a result any more: waits until the files of all requests are removed, at most so long.
    pub async fn cleaned(&self, patience: Duration) {
        self.inner.cleaner.finished(patience).await;
        let journal = self.inner.journal.clone();
        let _ = tokio::task::spawn_blocking(move || journal.close()).await;
    }

    /// At shutdown: waits until the prompts in flight have ended, at most so long; then ends those that are left and waits until
    /// they have let go. A ComfyUI that stays keeps nothing of them.
    pub async fn drain(&self, grace: Duration) {
        self.inner.tasks.close();
        if tokio::time::timeout(grace, self.inner.tasks.wait())
            .await
            .is_err()
        {
            self.abort().await;
        }
        let each = self.inner.history_cleanup.iter();
        join_all(each.map(|cleanup| cleanup.done(HISTORY_CLEANUP))).await;
    }

    async fn abort(&self) {
        for job in self.inner.jobs.all() {
            trace::with(job.trace.context().cloned(), || {
                warn!(id = %job.id, status = ?job.status(), "prompt is given up: the server shuts down");
            });
            job.stop(Failure::new(
                Code::ShuttingDown,
                "the server shut down before the prompt had ended: send it again",
            ));
        }
        // Enough to take it out of ComfyUI's queue; the rest of a running node is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(3), self.inner.tasks.wait()).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One prompt from beginning to end, with everything that must happen however it ends.
async fn drive(
    inner: Arc<Inner>,
    job: Arc<Job>,
    mut request: PromptRequest,
    accepted: oneshot::Sender<Graph>,
    done: oneshot::Sender<Result<Document, Failure>>,
) {
    let began = std::time::Instant::now();
    // A request may carry its inputs in base64: nobody but a task's last word needs them once they are in place.
    let graph = if job.policy.webhook_tells_refusals && !request.webhooks.is_empty() {
        request.graph.clone()
    } else {
        std::mem::take(&mut request.graph)
    };
    let (tell, mut heard) = oneshot::channel::<Graph>();
    // The graph as queued is needed for failure webhooks too.
    let mut queued = None;
    let mut promises = Vec::new();
    let result = {
        let running =
            std::panic::AssertUnwindSafe(pipeline::run(&inner, &job, &request, graph, tell))
                .catch_unwind();
        tokio::pin!(running);
        let mut accepted = Some(accepted);
        loop {
            tokio::select! {
                biased;
                result = &mut running => break result,
                Ok(graph) = &mut heard, if queued.is_none() => {
                    // A task that is given back is handed out again by its broker.
                    if !job.policy.given_back {
                        let context = job.trace.context();
                        promises = deliver::promise(&inner, &request, &*graph, context).await;
                    }
                    job.witness(|witness| witness.accepted(&job, &graph));
                    if let Some(accepted) = accepted.take() {
                        let _ = accepted.send(graph.clone());
                    }
                    queued = Some(graph);
                }
            }
        }
    };
    if queued.is_none() {
        queued = heard.try_recv().ok();
        queued
            .iter()
            .for_each(|graph| job.witness(|witness| witness.accepted(&job, graph)));
    }
    let result = result.unwrap_or_else(|_| {
        error!(id = %job.id, "the pipeline panicked; this is a defect, please report it");
        Err(panicked(&format!("prompt {}", job.id)))
    });
    // What was asked for by address is there when it is told of; else nobody waits for it.
    let awaited = |keeping: &&Keeping| keeping.by_address();
    let kept = match job.keeping.as_ref().filter(awaited) {
        Some(keeping) => {
            keeping.settled().await;
            match keeping.keep() {
                Some(_) => keeping.kept(&job.id).await.0,
                // They are the origin's.
                None => Vec::new(),
            }
        }
        None => Vec::new(),
    };
    let mut ended = end(
        &inner,
        &job,
        &request,
        queued.as_deref(),
        &result,
        began.elapsed(),
        (promises, kept),
    );
    let result = result.map(|response| response.document);
    if let Some(ends) = inner.ends.get() {
        let _ = ends.send(End {
            id: job.id.clone(),
            source: job.source,
            result: result.clone(),
            context: job.trace.context().cloned(),
        });
    }
    // What a client sent may be large, and dropping it long.
    let large = is_large_object(&request.graph)
        || queued.as_ref().is_some_and(|graph| is_large_object(graph));
    off_runtime(large, || drop((request, queued)));
    let _ = done.send(result);
    if let Some(keeping) = &job.keeping {
        if !keeping.by_address() {
            keeping.settled().await;
            let (kept, urls) = keeping.kept(&job.id).await;
            ended.keep(&kept);
            let ids = kept.into_iter().map(|asset| asset.id);
            job.tell(&JobEvent::Uploaded(ids.zip(urls).collect()));
        }
        job.witness(|witness| witness.kept(&job, &ended));
        job.tell(&JobEvent::Ended(Arc::new(ended)));
    }
}

fn end(
    inner: &Inner,
    job: &Job,
    request: &PromptRequest,
    queued: Option<&Map<String, Value>>,
    result: &Result<Response, Failure>,
    took: Duration,
    (promises, kept): (deliver::Promises, Vec<AssetRecord>),
) -> Ended {
    let source = job.source.as_str();
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    inner.jobs.finish(job, result.as_ref().err());
    let mut ended = Ended {
        snapshot: job.snapshot(),
        result: result.as_ref().map(Response::summary).map_err(Clone::clone),
    };
    ended.keep(&kept);
    let comes_again = |failure: &Failure| {
        failure.transient
            && (job.policy.tried_again
                || (job.policy.given_back && failure.code == Code::ShuttingDown))
    };
    let again = result.as_ref().is_err_and(comes_again);
    job.witness(|witness| witness.ended(job, &ended, again));
    match result {
        Ok(response) => {
            metrics::prompt_ended("succeeded", source);
            let types = response.files.iter().map(|file| &*file.content_type);
            job.trace
                .delivered(response.files.len(), trace::output_type(types));
            let delivered = request
                .upload
                .as_ref()
                .map_or("inline", |upload| upload.field);
            info!(id = %job.id, duration_ms, files = response.files.len(), delivered, webhook = !request.webhooks.is_empty(), "prompt succeeded");
            job.streams.end("complete", &response.document);
            let trace = job.trace.carried();
            deliver::succeeded(inner, request, response, promises, &trace);
        }
        Err(failure) => {
            let interrupted = failure.code == Code::ExecutionInterrupted;
            if failure.status.is_server_error() {
                // Whatever it was: a full disk shows in many ways, and looking costs little.
                inner.health.suspect_folders();
            }
            metrics::prompt_ended(if interrupted { "interrupted" } else { "failed" }, source);
            job.trace.failed(failure);
            warn!(id = %job.id, duration_ms, code = failure.code.as_str(), error = %failure.message, location = failure.location, "prompt failed");
            let body = Value::Object(failure.body()).to_string();
            job.streams.end("error", &Document::from_text(body));
            // Before ComfyUI had it an HTTP client learns of the failure from its own answer; a task from the queue has none. One
            // that will be tried again has not failed yet.
            let transport_tells = queued.is_none() && !job.policy.webhook_tells_refusals;
            let comes_again = again;
            let mut promises = promises.into_iter();
            for webhook in &request.webhooks {
                let promise = promises.next().flatten();
                if transport_tells || comes_again {
                    inner.webhooks.release(promise);
                    continue;
                }
                // The URLs of its inputs are still in it, where it was not queued.
                let graph = queued.map_or_else(
                    || public_value(Value::Object(request.sent())),
                    |graph| Value::Object(graph.clone()),
                );
                let keeping = job.keeping.as_ref();
                let is_job = keeping
                    .and_then(|keeping| keeping.keep())
                    .is_some_and(|keep| keep.is_job);
                let notice = deliver::Notice {
                    id: &request.id,
                    graph: &graph,
                    failure,
                    kept: is_job,
                };
                deliver::failed(inner, webhook, notice, promise, job.trace.carried());
            }
        }
    }
    job.trace.release();
    ended
}

/// Cancels a prompt when dropped, unless it was disarmed: for callers whose leaving ends the prompt.
pub struct CancelOnDrop {
    job: Option<Arc<Job>>,
}

impl CancelOnDrop {
    /// Armed.
    pub fn new(job: Arc<Job>) -> Self {
        Self { job: Some(job) }
    }

    /// The caller got its answer.
    pub fn disarm(mut self) {
        self.job = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(job) = &self.job {
            trace::with(job.trace.context().cloned(), || {
                info!(id = %job.id, "prompt is cancelled: its client has gone away");
            });
            job.stop(Failure::new(
                Code::ExecutionInterrupted,
                format!("prompt {} was cancelled: its client has gone away", job.id),
            ));
        }
    }
}

/// Ends a prompt as given back when `give_back` is cancelled: for tasks that another instance shall run.
pub fn stop_with(job: &Arc<Job>, give_back: CancellationToken) -> tokio_util::sync::DropGuard {
    let over = CancellationToken::new();
    let (guard, job) = (over.clone().drop_guard(), job.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = over.cancelled() => {}
            () = give_back.cancelled() => job.stop(Failure::new(Code::ShuttingDown, "the task is given back to the queue")),
        }
    });
    guard
}
