//! Jobs that survive: recorded before they are answered for, run through the ordinary pipeline, tried again when ComfyUI is lost,
//! taken up again by the next process (v2.md, "Jobs", "What survives"). The Comfy API v2 and the tools for agents stand on it.
//!
//! What a client asks for is answered from memory while a job is in flight ([`live`]) and from the store afterwards; ComfyUI is
//! never asked for it. A terminal state is shown only once it is committed.

mod ending;
pub mod live;
pub mod record;
mod recover;
mod request;
pub mod result;
mod supervise;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::timeout;

pub use live::{JobView, LiveJob};
pub use record::{NewRun, Recorder};
pub use request::{NewSubmission, unpack};

use crate::comfy::pool::Pool;
use crate::error::{Code, Failure};
use crate::health::Health;
use crate::job::request::Graph;
use crate::job::{PromptRequest, Service, Source};
use crate::store::{JobRecord, JobStatus, NewJob, Store, StoreError};
use crate::telemetry::trace;

/// How long an answer waits while inputs are fetched. For ComfyUI's verdict it waits as long as the pipeline does.
const FETCHING: Duration = Duration::from_secs(2);
/// When it is worth to ask again after the queue was full.
pub const QUEUE_FULL: Duration = Duration::from_secs(2);
/// How long a cancelling waits for the end.
const CANCELLING: Duration = Duration::from_millis(500);

/// What is decided by the configuration.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Attempts at a job in all.
    pub max_attempts: i64,
    /// A job that waits longer expires.
    pub queue_timeout: Option<Duration>,
    /// Validity of signed addresses.
    pub address_lives: Duration,
    /// ComfyUI is somebody else's: it may still have what the last process gave it.
    pub attached: bool,
    /// Jobs that have not ended, at most.
    pub max_unfinished: usize,
}

/// All durable jobs. Cheap to clone.
#[derive(Clone)]
pub struct DurableJobs {
    inner: Arc<Inner>,
}

struct Inner {
    service: Service,
    store: Store,
    comfy: Pool,
    health: Health,
    rules: Rules,
    live: Mutex<HashMap<String, Arc<LiveJob>>>,
    /// Those that are to be sent to ComfyUI again go one after the other, the oldest first.
    again: recover::Gate,
}

/// A job that is about to be recorded.
struct Prepared {
    record: NewJob,
    source: Source,
    request: PromptRequest,
}

/// Why a job was not taken.
#[derive(Debug)]
pub enum Refused {
    /// The pipeline or ComfyUI refuses it; there is no job.
    Failure(Failure),
    /// The store does.
    Store(StoreError),
    /// Assets that are not there.
    MissingAssets(Vec<String>),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl DurableJobs {
    /// Nothing runs yet; see [`DurableJobs::take_up`].
    pub fn new(service: Service, store: Store, comfy: Pool, health: Health, rules: Rules) -> Self {
        let inner = Inner {
            service,
            store,
            comfy,
            health,
            rules,
            live: Mutex::default(),
            again: recover::Gate::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Validity of signed addresses.
    pub fn address_lives(&self) -> Duration {
        self.inner.rules.address_lives
    }

    /// The address of an asset that needs no key, and until when it is good (seconds since 1970).
    pub fn address(&self, base: &str, asset: &str) -> (String, i64) {
        address(
            &self.inner.store,
            self.inner.rules.address_lives,
            base,
            asset,
        )
    }

    /// Records a job, runs it, and waits for ComfyUI's verdict, but not for ever.
    ///
    /// # Errors
    /// Whatever keeps it from becoming a job: nothing of it is left then.
    pub async fn submit(&self, new: NewSubmission) -> Result<JobView, Refused> {
        let inner = &self.inner;
        if let Some(key) = &new.key
            && let Some(made) = inner.store.key_made(crate::store::keys::JOBS, key).await?
        {
            return Err(StoreError::KeyReuse(made).into());
        }
        let prepared = self.prepare(new).await?;
        // A client that leaves now leaves a job, not a record that nobody runs.
        let this = self.clone();
        let (tell, verdict) = oneshot::channel();
        let begun = async move { this.begin(prepared, Some(tell)).await };
        let begun = tokio::spawn(trace::scope(trace::current(), begun));
        let live = begun
            .await
            .map_err(|error| StoreError::Failed(error.to_string()))??;
        match self.wait_for_verdict(&live, verdict).await {
            Some(refusal) => Err(refusal.into()),
            None => Ok(live.view(inner)),
        }
    }

    /// Records a job and runs it. Whatever comes, it is a job from now on: a refusal of the pipeline or of ComfyUI is its end.
    ///
    /// # Errors
    /// Whatever keeps it from being recorded.
    pub async fn start(&self, new: NewSubmission) -> Result<Arc<LiveJob>, Refused> {
        let prepared = self.prepare(new).await?;
        let this = self.clone();
        let begun = async move { this.begin(prepared, None).await };
        let begun = tokio::spawn(trace::scope(trace::current(), begun));
        let live = begun
            .await
            .map_err(|error| StoreError::Failed(error.to_string()))??;
        Ok(live)
    }

    /// Why no job is taken now, if ComfyUI's queue or ours is as long as it may be (0: without limit).
    pub fn full_queue(&self, limit: u64) -> Option<String> {
        let (_, waiting) = self.unfinished();
        let queued = self.inner.comfy.queue_remaining();
        (limit > 0 && queued.max(waiting as u64) >= limit).then(|| {
            format!("the queue holds {queued} prompts; MAX_QUEUE_DEPTH is {limit}: try again later")
        })
    }

    async fn prepare(&self, new: NewSubmission) -> Result<Prepared, Refused> {
        let inner = &self.inner;
        inner.health.accepts(false)?;
        if lock(&inner.live).len() >= inner.rules.max_unfinished {
            return Err(StoreError::TooManyJobs.into());
        }
        let id_is_fresh = new.id.is_none();
        let id = new.id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let mut body = new.body;
        body.insert("id".into(), id.clone().into());
        let (mut hashes, missing) = request::assets_of(&body, &inner.store).await?;
        if !missing.is_empty() {
            return Err(Refused::MissingAssets(missing));
        }
        let (stored, blobs) = request::pack(&body, &inner.store).await?;
        hashes.extend(blobs);
        let needs_secrets = body
            .iter()
            .any(|(name, value)| request::is_secret(name, value));
        let mut request = PromptRequest::parse(body)?;
        request.warnings.extend(new.warnings);
        request.id_is_callers = false;
        request.id_is_fresh = id_is_fresh;
        request.echo.insert("job_id".into(), id.clone().into());
        let record = NewJob {
            id,
            source: new.source.as_str(),
            metadata: new.metadata.as_ref().map(Value::to_string),
            labels: new.labels,
            priority: new.priority,
            request: stored,
            blobs: hashes,
            needs_secrets,
            base_url: new.base_url,
            key: new.key,
            workflow: new.workflow,
            resumes: true,
            created_at: None,
            trace: trace::current().map(|context| context.to_text()),
        };
        Ok(Prepared {
            record,
            source: new.source,
            request,
        })
    }

    /// Records a run that nobody waits for the end of, runs it, and waits for ComfyUI's verdict; the graph as ComfyUI has it, if it
    /// has it by now. `body` is what `parsed` was read from.
    ///
    /// # Errors
    /// Whatever keeps it from being run: nothing of it is left then.
    pub async fn submit_in_background(
        &self,
        new: NewSubmission,
        parsed: PromptRequest,
    ) -> Result<Option<Graph>, Refused> {
        let inner = &self.inner;
        inner.health.accepts(false)?;
        if parsed.id_is_callers {
            self.check_id(&parsed.id).await?;
        }
        if lock(&inner.live).len() >= inner.rules.max_unfinished {
            return Err(StoreError::TooManyJobs.into());
        }
        let id = parsed.id.to_string();
        let mut body = new.body;
        body.insert("id".into(), id.clone().into());
        // Those that are missing are named by the pipeline, with the input.
        let (mut hashes, _) = request::assets_of(&body, &inner.store).await?;
        let (stored, blobs) = request::pack(&body, &inner.store).await?;
        hashes.extend(blobs);
        let record = NewJob {
            id,
            source: new.source.as_str(),
            metadata: None,
            labels: Vec::new(),
            priority: None,
            request: stored,
            blobs: hashes,
            needs_secrets: body
                .iter()
                .any(|(name, value)| request::is_secret(name, value)),
            base_url: new.base_url,
            key: None,
            workflow: new.workflow,
            resumes: true,
            created_at: None,
            trace: trace::current().map(|context| context.to_text()),
        };
        let prepared = Prepared {
            record,
            source: new.source,
            request: parsed,
        };
        let this = self.clone();
        let (tell, verdict) = oneshot::channel();
        let begun = async move { this.begin(prepared, Some(tell)).await };
        let begun = tokio::spawn(trace::scope(trace::current(), begun));
        let live = begun
            .await
            .map_err(|error| StoreError::Failed(error.to_string()))??;
        match verdict.await {
            Ok(Some(refusal)) => Err(refusal.into()),
            Ok(None) | Err(_) => Ok(live.graph()),
        }
    }

    /// Without somebody to tell the verdict to, it is answered for already.
    async fn begin(
        &self,
        prepared: Prepared,
        tell: Option<supervise::Verdict>,
    ) -> Result<Arc<LiveJob>, StoreError> {
        let record = self.inner.store.create_job(prepared.record).await?;
        let live = LiveJob::new(record, prepared.source);
        if tell.is_none() {
            live.change(|state| state.answered = true);
        }
        lock(&self.inner.live).insert(live.id.clone(), live.clone());
        supervise::start(
            self.inner.clone(),
            live.clone(),
            Some(prepared.request),
            tell,
        );
        Ok(live)
    }

    /// `None`: it is a job.
    async fn wait_for_verdict(
        &self,
        live: &LiveJob,
        mut verdict: oneshot::Receiver<Option<Failure>>,
    ) -> Option<Failure> {
        if let Ok(told) = timeout(FETCHING, &mut verdict).await {
            return told.ok().flatten();
        }
        if live.is_preparing(&self.inner) {
            return live.answered(&mut verdict);
        }
        verdict.await.ok().flatten()
    }

    /// A job in flight.
    pub fn live(&self, id: &str) -> Option<Arc<LiveJob>> {
        self.live_run(id).filter(|live| live.is_job())
    }

    /// The same, also of other transports than those whose jobs these are.
    pub fn live_run(&self, id: &str) -> Option<Arc<LiveJob>> {
        lock(&self.inner.live).get(id).cloned()
    }

    /// Cancels a run that may wait to be sent to ComfyUI again; `false` when there is no such run.
    pub fn interrupt(&self, id: &str) -> bool {
        let live = self.live_run(id);
        live.iter().for_each(|live| live.cancel(&self.inner));
        live.is_some()
    }

    /// A job, in flight or not.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn view(&self, id: &str) -> Result<Option<JobView>, StoreError> {
        let view = self.view_run(id).await?;
        Ok(view.filter(|view| record::is_job(&view.record.source)))
    }

    /// The same, also of kept runs of other transports than those whose jobs these are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn view_run(&self, id: &str) -> Result<Option<JobView>, StoreError> {
        if let Some(live) = self.live_run(id) {
            return Ok(Some(live.view(&self.inner)));
        }
        let record = self.inner.store.job(id).await?;
        // Of one that ends with the process the pipeline knows more until it has ended.
        let known = |record: &JobRecord| record.resumes || record.status.has_ended();
        let Some(record) = record.filter(known) else {
            return Ok(None);
        };
        let outputs = self.inner.store.outputs(id).await?;
        Ok(Some(JobView::of_record(record, outputs)))
    }

    /// What a job in flight looks like now.
    pub fn view_of(&self, live: &LiveJob) -> JobView {
        live.view(&self.inner)
    }

    /// The status of a recorded job as it is now.
    pub fn status_now(&self, id: &str) -> Option<JobStatus> {
        self.live(id).map(|live| live.status())
    }

    /// Cancels a job wherever it is, and waits a moment for its end.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn cancel(&self, id: &str) -> Result<Option<JobView>, StoreError> {
        if let Some(live) = self.live(id) {
            live.cancel(&self.inner);
            let _ = timeout(CANCELLING, live.ended()).await;
            if !live.status().has_ended() {
                return Ok(Some(live.view(&self.inner)));
            }
        }
        self.view(id).await
    }

    /// How many have not ended, and how many of them wait.
    pub fn unfinished(&self) -> (usize, usize) {
        let live = lock(&self.inner.live);
        let waiting = live
            .values()
            .filter(|job| job.status() == JobStatus::Queued)
            .count();
        (live.len(), waiting)
    }

    /// Jobs that have not ended and that a ComfyUI which is not our child may have since an earlier process.
    pub fn may_go_on(&self) -> HashSet<String> {
        if !self.inner.rules.attached {
            return HashSet::new();
        }
        lock(&self.inner.live).keys().cloned().collect()
    }

    /// Takes up what the last process has left, oldest first. They are known when this returns, and run once ComfyUI is ready.
    pub async fn take_up(&self) {
        recover::take_up(&self.inner).await;
    }
}

impl Inner {
    fn forget(&self, id: &str) {
        lock(&self.live).remove(id);
    }
}

fn address(store: &Store, lives: Duration, base: &str, asset: &str) -> (String, i64) {
    let now = crate::store::now_ms() / 1000;
    let until = now + i64::try_from(lives.as_secs()).unwrap_or(0);
    let signature = store.sign_asset(asset, until);
    (
        format!("{base}/api/v2/assets/{asset}/content?expires={until}&signature={signature}"),
        until,
    )
}

/// The last word about a job that the next process takes up.
fn left_for_later(failure: &Failure) -> bool {
    failure.code == Code::ShuttingDown
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The transport of a recorded job.
fn source_of(word: &str) -> Source {
    let all = [Source::Mcp, Source::Http, Source::Workflow];
    all.into_iter()
        .find(|source| source.as_str() == word)
        .unwrap_or(Source::V2)
}
