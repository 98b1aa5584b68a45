//! Jobs that survive: recorded before they are answered for, run through the ordinary pipeline,
//! tried again when ComfyUI is lost, taken up again by the next process (v2.md, "Jobs", "What
//! survives"). The Comfy API v2 and the tools for agents stand on it.
//!
//! What a client asks for is answered from memory while a job is in flight ([`live`]) and from the
//! store afterwards; ComfyUI is never asked for it. A terminal state is shown only once it is
//! committed.

mod ending;
pub mod live;
pub mod record;
mod recover;
mod request;
pub mod result;
mod submit;
mod supervise;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;

use crate::comfy::pool::Pool;
use crate::error::{Code, Failure};
use crate::health::Health;
use crate::job::{Service, Source};
use crate::store::{JobRecord, JobStatus, Store, StoreError};

pub use live::{JobView, LiveJob};
pub use record::{NewRun, Recorder};
pub use request::{NewSubmission, unpack};

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

    /// Why no job is taken now, if ComfyUI's queue or ours is as long as it may be (0: without
    /// limit).
    pub fn full_queue(&self, limit: u64) -> Option<String> {
        let (_, waiting) = self.unfinished();
        let queued = self.inner.comfy.queue_remaining();
        (limit > 0 && queued.max(waiting as u64) >= limit).then(|| {
            format!("the queue holds {queued} prompts; MAX_QUEUE_DEPTH is {limit}: try again later")
        })
    }

    /// A job in flight.
    pub fn live(&self, id: &str) -> Option<Arc<LiveJob>> {
        self.live_run(id).filter(|live| live.is_job())
    }

    /// The same, also of other transports than those whose jobs these are.
    pub fn live_run(&self, id: &str) -> Option<Arc<LiveJob>> {
        self.inner.live.lock().get(id).cloned()
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
        let live = self.inner.live.lock();
        let waiting = live
            .values()
            .filter(|job| job.status() == JobStatus::Queued)
            .count();
        (live.len(), waiting)
    }

    /// Jobs that have not ended and that a ComfyUI which is not our child may have since an earlier
    /// process.
    pub fn may_go_on(&self) -> HashSet<String> {
        if !self.inner.rules.attached {
            return HashSet::new();
        }
        self.inner.live.lock().keys().cloned().collect()
    }

    /// Takes up what the last process has left, oldest first. They are known when this returns, and
    /// run once ComfyUI is ready.
    pub async fn take_up(&self) {
        recover::take_up(&self.inner).await;
    }
}

impl Inner {
    fn forget(&self, id: &str) {
        self.live.lock().remove(id);
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

/// The transport of a recorded job.
fn source_of(word: &str) -> Source {
    let all = [Source::Mcp, Source::Http, Source::Workflow];
    all.into_iter()
        .find(|source| source.as_str() == word)
        .unwrap_or(Source::V2)
}
