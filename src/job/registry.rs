//! What is in flight: state, progress, position, streams; and the bounded memory of what is finished.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::event::{JobEvent, Listener};
use super::keep::Keeping;
use super::origin::Origin;
use super::policy::{Policy, Submission};
use super::progress::Tracker;
use super::request::{PromptRequest, Source};
use super::stream::{Streams, Weight};
use super::witness::Witness;
use crate::error::{Code, Failure};
use crate::limits::{MAX_NAME, MAX_QUEUE_ENTRY, text};
use crate::telemetry::logging::epoch_ms;
use crate::telemetry::trace::{JobTrace, PromptFacts};

/// How many ended prompts are remembered.
const FINISHED: usize = 100;
/// How many callers' ids are remembered, to know one that comes again.
const RECENT_IDS: usize = 10_000;

/// A number in a queue has these bits for the order, and above them the queue's own number, where there are several.
const LANE_BITS: u32 = 48;
/// Below them the order of acceptance; between, what comes first.
const ORDER_BITS: u32 = 40;

/// The greatest percentage of a prompt that has not succeeded.
const BELOW_ALL: f64 = 99.9;

/// Where a prompt is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of http-api.md")]
pub enum Status {
    Preprocessing,
    Pending,
    Running,
    Postprocessing,
    Uploading,
    Succeeded,
    Failed,
    Interrupted,
}

/// How far the running prompt is.
#[derive(Debug, Clone, Default, Serialize, PartialEq, ToSchema)]
#[schema(as = EntryProgress)]
pub struct Progress {
    /// Of the node that works, as ComfyUI reports it.
    pub value: f64,
    /// See `value`.
    pub max: f64,
    /// The node that works.
    pub node: Option<String>,
    /// Of the whole graph, 0 to 100.
    pub percent: f64,
}

/// One prompt as `/queue` and `/prompt/{id}` show it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct JobSnapshot {
    /// The caller's id.
    #[schema(value_type = String, example = "order-1234")]
    pub id: Arc<str>,
    /// Where it is in its life.
    pub status: Status,
    /// Its place in the queue, 1 = next; only while pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub position: Option<usize>,
    /// The ComfyUI that it is in, or was, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub instance: Option<usize>,
    /// Where it came from: `http`, `amqp`, `workflow`, `v2`, `mcp` or `warmup`.
    #[schema(value_type = String, pattern = "^(http|amqp|workflow|v2|mcp|warmup)$")]
    pub source: &'static str,
    /// Epoch milliseconds.
    pub created_at: u64,
    /// When ComfyUI began, epoch milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub started_at: Option<u64>,
    /// Epoch milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub finished_at: Option<u64>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub progress: Option<Progress>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
    /// The stable word for why it failed.
    #[serde(skip)]
    pub code: Option<&'static str>,
}

/// A prompt in flight.
#[derive(Debug)]
pub struct Job {
    /// The caller's id.
    pub id: Arc<str>,
    /// The id as file names hold it.
    pub file_id: Arc<str>,
    /// The transport it came through.
    pub source: Source,
    /// How it is treated.
    pub policy: Policy,
    /// Cancelled by a client, a caller that left, or shutdown.
    pub cancel: CancellationToken,
    /// Its streams.
    pub streams: Streams,
    /// The id was used before: ComfyUI may answer from its cache with files that are gone.
    pub repeated: bool,
    /// Counts up: a later job has a greater one.
    pub number: u64,
    /// How far it is, for those who listen.
    pub tracker: Mutex<Option<Tracker>>,
    /// Keeps its outputs, if they are kept.
    pub keeping: Option<Keeping>,
    /// Whoever has given it to this server and takes its files.
    pub origin: Option<Arc<dyn Origin>>,
    /// The path of the workflow endpoint that its graph comes from.
    pub workflow: Option<Arc<str>>,
    witness: Option<Arc<dyn Witness>>,
    pub(super) listeners: Listeners,
    /// Its inputs are in place and ComfyUI is being asked.
    pub(super) submitting: std::sync::atomic::AtomicBool,
    /// How far it has come in ComfyUI.
    pub reached: Reached,
    signals: Signals,
    /// Its spans, and the context of what it sends.
    pub trace: JobTrace,
    state: Mutex<State>,
}

/// Tell whoever follows all prompts that something has changed.
#[derive(Debug, Clone)]
struct Signals {
    /// Rises with everything.
    changes: watch::Sender<u64>,
    /// Rises when a prompt comes, enters another state or ends.
    moves: watch::Sender<u64>,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            changes: watch::Sender::new(0),
            moves: watch::Sender::new(0),
        }
    }
}

impl Signals {
    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn moved(&self) {
        self.moves.send_modify(|moves| *moves += 1);
        self.changed();
    }
}

/// Whoever listens to a job.
#[derive(Default)]
pub(super) struct Listeners {
    some: std::sync::atomic::AtomicBool,
    all: Mutex<Vec<Listener>>,
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners")
            .field("some", &self.some)
            .finish_non_exhaustive()
    }
}

impl Listeners {
    pub(super) fn any(&self) -> bool {
        self.some.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn add(&self, listener: Listener) {
        lock(&self.all).push(listener);
        self.some.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    pub(super) fn tell(&self, event: &JobEvent) {
        if self.any() {
            // Called without the lock: a listener may look at the job.
            let all = lock(&self.all).clone();
            all.iter().for_each(|listener| listener(event));
        }
    }
}

/// Points that a job passes once.
#[derive(Debug, Default)]
pub struct Reached {
    /// It is being given to ComfyUI.
    pub submitted: CancellationToken,
    /// ComfyUI executes it.
    pub executing: CancellationToken,
}

#[derive(Debug)]
struct State {
    entry: JobSnapshot,
    /// Order of acceptance by ComfyUI, for positions.
    accepted: Option<u64>,
    /// What its number begins with: the queue, and what comes first there.
    lane: u64,
    /// The number of the ComfyUI that it is in.
    comfy: usize,
    reason: Option<Failure>,
    /// Stops the stages after a run that `cancel` did not stop in time.
    later: Option<CancellationToken>,
}

impl Job {
    /// Asks it to end. The first reason counts.
    pub fn stop(&self, reason: Failure) {
        let later = {
            let mut state = lock(&self.state);
            state.reason.get_or_insert(reason);
            state.later.clone()
        };
        self.cancel.cancel();
        if let Some(later) = later {
            later.cancel();
        }
    }

    /// What stops the stages after the run. A prompt that was cancelled while it ran and finished all the same is reported as what it
    /// is: a success, which that cancellation stops no more, but the next one does. When the server ends there is no time for that.
    pub fn outlives_cancelling(&self) -> CancellationToken {
        let mut state = lock(&self.state);
        if state
            .reason
            .take_if(|reason| reason.code == Code::ExecutionInterrupted)
            .is_none()
        {
            return self.cancel.clone();
        }
        state.later.insert(CancellationToken::new()).clone()
    }

    /// Why it was asked to end.
    pub fn stop_reason(&self) -> Failure {
        let reason = lock(&self.state).reason.clone();
        reason.unwrap_or_else(|| {
            Failure::new(
                Code::ExecutionInterrupted,
                format!("prompt {} was cancelled", self.id),
            )
        })
    }

    /// Whether its inputs are in place.
    pub fn is_submitting(&self) -> bool {
        self.submitting.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Tells whoever listens of everything from now on.
    pub fn subscribe(&self, listener: Listener) {
        self.listeners.add(listener);
    }

    /// Tells whoever listens what is worth making only then.
    pub fn tell_with(&self, event: impl FnOnce() -> JobEvent) {
        if self.listeners.any() {
            self.listeners.tell(&event());
        }
    }

    /// Tells whoever listens.
    pub fn tell(&self, event: &JobEvent) {
        self.listeners.tell(event);
    }

    /// Moves on to another state and tells the streams; `false` when it was in that state already.
    pub fn enter(&self, status: Status) -> bool {
        let changed = self.change(status);
        if changed {
            self.streams
                .message(Weight::Always, || state_event(&self.id, status, None));
            self.tell(&JobEvent::State(status));
            self.witness(|witness| witness.changed(self));
        }
        changed
    }

    /// Tells whoever remembers all jobs.
    pub(super) fn witness(&self, tell: impl FnOnce(&dyn Witness)) {
        if let Some(witness) = &self.witness {
            tell(witness.as_ref());
        }
    }

    /// What is known of it, without its place in the queue.
    pub fn snapshot(&self) -> JobSnapshot {
        lock(&self.state).entry.clone()
    }

    /// Whether the state is another one than before.
    fn change(&self, status: Status) -> bool {
        let mut state = lock(&self.state);
        if status == Status::Running {
            state.entry.started_at.get_or_insert_with(epoch_ms);
        }
        let changed = std::mem::replace(&mut state.entry.status, status) != status;
        drop(state);
        if changed {
            self.signals.moved();
        }
        changed
    }

    /// It waits in one of several queues; those with a lower `rank` come first there.
    pub(super) fn waits_in(&self, queue: u16, rank: u8) {
        lock(&self.state).lane = (u64::from(queue) << LANE_BITS) | (u64::from(rank) << ORDER_BITS);
    }

    /// It is given to this ComfyUI.
    pub fn goes_to(&self, index: usize, label: Option<usize>) {
        let mut state = lock(&self.state);
        state.comfy = index;
        state.entry.instance = label;
    }

    /// The number of the ComfyUI that it is in.
    pub fn comfy(&self) -> usize {
        lock(&self.state).comfy
    }

    /// Its number in ComfyUI's queue, while it waits there.
    fn waits_as(&self) -> Option<u64> {
        let state = lock(&self.state);
        state
            .accepted
            .filter(|_| state.entry.status == Status::Pending)
    }

    /// Where it is.
    pub fn status(&self) -> Status {
        lock(&self.state).entry.status
    }

    fn entry(&self, waiting: &[u64]) -> JobSnapshot {
        let position = position(self, waiting);
        JobSnapshot {
            position,
            ..lock(&self.state).entry.clone()
        }
    }

    /// Notes how far it is.
    pub fn progress(&self, mut progress: Progress) {
        if let Some(node) = &mut progress.node
            && let Cow::Owned(short) = text::shorten_escaped(node, MAX_NAME)
        {
            *node = short;
        }
        lock(&self.state).entry.progress = Some(progress);
        self.signals.changed();
    }
}

/// An error as lists keep it: for [`MAX_QUEUE_ENTRY`] the id, the node and everything else need the rest.
fn entry_error(message: &str) -> String {
    text::shorten_escaped(message, MAX_QUEUE_ENTRY / 2 - 512).into_owned()
}

fn state_event(id: &str, status: Status, position: Option<usize>) -> String {
    let mut data = json!({"prompt_id": id, "status": status});
    if let Some(position) = position {
        data["position"] = position.into();
    }
    json!({"type": "state", "data": data}).to_string()
}

/// Everything in flight, and what is remembered of the rest.
#[derive(Debug, Default)]
pub struct JobRegistry {
    inner: Mutex<Inner>,
    /// Whoever remembers all jobs.
    witness: Option<Arc<dyn Witness>>,
    emptied: Notify,
    signals: Signals,
}

#[derive(Debug, Default)]
struct Inner {
    active: HashMap<Arc<str>, Arc<Job>>,
    /// Of those in flight.
    file_ids: HashSet<Arc<str>>,
    accepted: u64,
    begun: u64,
    finished: VecDeque<JobSnapshot>,
    recent: VecDeque<u64>,
    /// The number of the last job of each id in `recent`.
    last_of: HashMap<u64, u64>,
}

impl JobRegistry {
    /// Nothing is in flight; whatever will be is told to this one.
    pub fn witnessed_by(witness: Arc<dyn Witness>) -> Self {
        Self {
            witness: Some(witness),
            ..Self::default()
        }
    }

    /// Begins a job.
    ///
    /// # Errors
    /// 409 when the id is in flight already.
    pub fn begin(
        &self,
        request: &PromptRequest,
        submission: Submission,
    ) -> Result<Arc<Job>, Failure> {
        let job = self.begin_as(
            &request.id,
            &request.file_id,
            request.id_is_callers,
            submission,
        )?;
        job.witness(|witness| witness.begun(&job, request));
        Ok(job)
    }

    fn begin_as(
        &self,
        id: &Arc<str>,
        file_id: &Arc<str>,
        id_is_callers: bool,
        submission: Submission,
    ) -> Result<Arc<Job>, Failure> {
        let entry = JobSnapshot {
            id: id.clone(),
            status: Status::Preprocessing,
            position: None,
            instance: None,
            source: submission.source.as_str(),
            created_at: epoch_ms(),
            started_at: None,
            finished_at: None,
            progress: None,
            error: None,
            code: None,
        };
        let mut inner = lock(&self.inner);
        if inner.active.contains_key(id) {
            return Err(Failure::new(Code::Conflict, format!("a prompt with the id \"{id}\" is in flight already: wait for it, or use another id")).at("id"));
        }
        // An id may be chosen so that it looks like what file names hold of another one.
        if !inner.file_ids.insert(file_id.clone()) {
            return Err(Failure::new(Code::Conflict, format!("a prompt whose files have the same names as those of \"{id}\" is in flight: wait for it, or use another id")).at("id"));
        }
        inner.begun += 1;
        let listeners = Listeners::default();
        submission
            .listener
            .into_iter()
            .for_each(|listener| listeners.add(listener));
        let facts = PromptFacts {
            id,
            source: submission.source.as_str(),
            workflow: submission.workflow.as_deref(),
        };
        let trace = JobTrace::begin(submission.context.as_ref(), facts);
        let job = Job {
            id: id.clone(),
            file_id: file_id.clone(),
            source: submission.source,
            policy: submission.policy,
            tracker: Mutex::default(),
            keeping: match (submission.keep, &submission.origin) {
                (Some(keep), _) => Some(Keeping::new(keep)),
                (None, Some(origin)) if origin.wants_all() => {
                    Some(Keeping::for_origin(origin.clone()))
                }
                (None, _) => None,
            },
            origin: submission.origin,
            workflow: submission.workflow,
            witness: self.witness.clone(),
            listeners,
            submitting: std::sync::atomic::AtomicBool::default(),
            cancel: CancellationToken::new(),
            streams: Streams::default(),
            repeated: id_is_callers && inner.seen_before(id),
            number: inner.begun,
            reached: Reached::default(),
            signals: self.signals.clone(),
            trace,
            state: Mutex::new(State {
                entry,
                accepted: None,
                lane: 0,
                comfy: 0,
                reason: None,
                later: None,
            }),
        };
        let job = Arc::new(job);
        inner.active.insert(id.clone(), job.clone());
        drop(inner);
        self.signals.moved();
        Ok(job)
    }

    /// ComfyUI has queued it.
    pub fn accepted(&self, job: &Job) {
        let mut inner = lock(&self.inner);
        inner.accepted += 1;
        // One that waited for its turn before has its place already.
        let mut state = lock(&job.state);
        let number = state.lane + inner.accepted;
        state.accepted.get_or_insert(number);
        drop(state);
        drop(inner);
        job.trace.queued();
        if job.change(Status::Pending) {
            job.streams.message(Weight::Always, || {
                state_event(
                    &job.id,
                    Status::Pending,
                    position(job, &waiting(&self.all())),
                )
            });
            job.tell(&JobEvent::State(Status::Pending));
            job.witness(|witness| witness.changed(job));
        }
    }

    /// It has lost its ComfyUI, and waits for another in its old place.
    pub fn waits_again(&self, job: &Job) {
        lock(&job.state).entry.started_at = None;
        if job.change(Status::Pending) {
            let position = position(job, &waiting(&self.all()));
            job.streams.message(Weight::Always, || {
                state_event(&job.id, Status::Pending, position)
            });
            job.tell(&JobEvent::State(Status::Pending));
            self.tell_positions();
        }
    }

    /// ComfyUI has begun with it: those behind it have moved up.
    pub fn started(&self, job: &Job) {
        job.reached.executing.cancel();
        job.trace.started();
        if job.enter(Status::Running) {
            self.tell_positions();
        }
    }

    /// Whoever ran it has gone: it waits again, in its old place.
    pub fn requeued(&self, job: &Job) {
        lock(&job.state).entry.started_at = None;
        if job.enter(Status::Pending) {
            job.tell(&JobEvent::Lost(true));
            self.tell_positions();
        }
    }

    fn tell_positions(&self) {
        let all = self.all();
        for job in all.iter().filter(|job| job.listeners.any()) {
            if waits(job.status()) {
                job.tell(&JobEvent::Moved);
            }
        }
        if !all
            .iter()
            .any(|job| job.waits_as().is_some() && job.streams.has_readers())
        {
            return;
        }
        let waiting = waiting(&all);
        for job in all {
            if let Some(position) = position(&job, &waiting) {
                job.streams.message(Weight::Newest(10), || {
                    state_event(&job.id, Status::Pending, Some(position))
                });
            }
        }
    }

    /// It has ended, well (`None`) or not; it is remembered for a while.
    pub fn finish(&self, job: &Job, failure: Option<&Failure>) {
        let waited = job.waits_as().is_some();
        let mut state = lock(&job.state);
        state.entry.status = match failure {
            None => Status::Succeeded,
            Some(failure) if failure.code == Code::ExecutionInterrupted => Status::Interrupted,
            Some(_) => Status::Failed,
        };
        state.entry.finished_at = Some(epoch_ms());
        state.entry.progress = last_progress(state.entry.progress.take(), failure.is_none());
        state.entry.error = failure.map(|failure| entry_error(&failure.message));
        state.entry.code = failure.map(|failure| failure.code.as_str());
        let entry = state.entry.clone();
        drop(state);
        let mut inner = lock(&self.inner);
        inner.active.remove(&job.id);
        inner.file_ids.remove(&job.file_id);
        inner.finished.push_front(entry);
        inner.finished.truncate(FINISHED);
        let empty = inner.active.is_empty();
        drop(inner);
        self.signals.moved();
        if waited {
            self.tell_positions();
        }
        if empty {
            self.emptied.notify_one();
        }
    }

    /// Waits until the last prompt in flight has ended. For one waiter.
    pub async fn emptied(&self) {
        self.emptied.notified().await;
    }

    /// A prompt in flight.
    pub fn get(&self, id: &str) -> Option<Arc<Job>> {
        lock(&self.inner).active.get(id).cloned()
    }

    /// Whether another job with that id has begun since.
    pub fn is_superseded(&self, id: &str, number: u64) -> bool {
        lock(&self.inner)
            .last_of
            .get(&hash(id))
            .is_some_and(|last| *last > number)
    }

    /// All prompts in flight.
    pub fn all(&self) -> Vec<Arc<Job>> {
        lock(&self.inner).active.values().cloned().collect()
    }

    /// How many are in flight.
    pub fn count(&self) -> usize {
        lock(&self.inner).active.len()
    }

    /// A number that rises with every change of [`JobRegistry::lists`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.signals.changes.subscribe()
    }

    /// A number that rises when a prompt comes, enters another state or ends.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.signals.moves.subscribe()
    }

    /// How many are in the first and in the second of [`JobRegistry::lists`].
    pub fn counts(&self) -> (usize, usize) {
        let all = self.all();
        let pending = all.iter().filter(|job| waits(job.status())).count();
        (all.len() - pending, pending)
    }

    /// One prompt, in flight or remembered.
    pub fn entry(&self, id: &str) -> Option<JobSnapshot> {
        if let Some(job) = self.get(id) {
            return Some(job.entry(&waiting(&self.all())));
        }
        lock(&self.inner)
            .finished
            .iter()
            .find(|entry| &*entry.id == id)
            .cloned()
    }

    /// The place of a job that waits, 1 = next: behind those in ComfyUI's queue come those whose inputs are still fetched.
    pub fn place(&self, job: &Job) -> Option<usize> {
        let all = self.all();
        let waiting = waiting(&all);
        match job.status() {
            Status::Pending => position(job, &waiting),
            Status::Preprocessing => {
                let before = all
                    .iter()
                    .filter(|other| {
                        other.number < job.number && other.status() == Status::Preprocessing
                    })
                    .count();
                Some(waiting.len() + before + 1)
            }
            _ => None,
        }
    }

    /// `(running, pending, finished)`: those that ComfyUI works on or that are on their way out, those before that in queue
    /// order, and the remembered ones, newest first.
    pub fn lists(&self) -> (Vec<JobSnapshot>, Vec<JobSnapshot>, Vec<JobSnapshot>) {
        let all = self.all();
        let waiting = waiting(&all);
        let (mut pending, mut running): (Vec<_>, Vec<_>) = all
            .iter()
            .map(|job| job.entry(&waiting))
            .partition(|entry| waits(entry.status));
        pending.sort_by_key(|entry| (entry.position.unwrap_or(usize::MAX), entry.created_at));
        running.sort_by_key(|entry| entry.started_at);
        let finished = lock(&self.inner).finished.iter().cloned().collect();
        (running, pending, finished)
    }
}

/// ComfyUI has not begun with it.
const fn waits(status: Status) -> bool {
    matches!(status, Status::Preprocessing | Status::Pending)
}

/// All of it for a success, also when everything came from ComfyUI's cache and no node ever said how far it was; else what it
/// had reached, which is less than all.
fn last_progress(reached: Option<Progress>, succeeded: bool) -> Option<Progress> {
    if succeeded {
        return Some(Progress {
            percent: 100.0,
            ..reached.unwrap_or_default()
        });
    }
    reached.map(|reached| Progress {
        percent: reached.percent.min(BELOW_ALL),
        ..reached
    })
}

/// The numbers of those that wait in ComfyUI's queue, next first.
fn waiting(jobs: &[Arc<Job>]) -> Vec<u64> {
    let mut waiting: Vec<u64> = jobs.iter().filter_map(|job| job.waits_as()).collect();
    waiting.sort_unstable();
    waiting
}

/// The place of a prompt among those that wait, 1 = next.
fn position(job: &Job, waiting: &[u64]) -> Option<usize> {
    let mine = job.waits_as()?;
    let lane = mine >> LANE_BITS << LANE_BITS;
    let before = |number: u64| waiting.partition_point(|other| *other < number);
    Some(before(mine) - before(lane) + 1)
}

impl Inner {
    /// Whether a caller's id was used lately; remembers it.
    fn seen_before(&mut self, id: &str) -> bool {
        let hash = hash(id);
        if self.last_of.insert(hash, self.begun).is_some() {
            return true;
        }
        if self.recent.len() >= RECENT_IDS
            && let Some(oldest) = self.recent.pop_front()
        {
            self.last_of.remove(&oldest);
        }
        self.recent.push_back(hash);
        false
    }
}

fn hash(id: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_that_outlived_a_cancellation_is_stopped_by_the_next() {
        let jobs = JobRegistry::default();
        let job = jobs
            .begin_as(
                &"a".into(),
                &"a".into(),
                true,
                Submission::new(Source::Http),
            )
            .unwrap();
        assert!(!job.outlives_cancelling().is_cancelled());
        job.stop(Failure::new(Code::ExecutionInterrupted, "first"));
        let later = job.outlives_cancelling();
        assert!(!later.is_cancelled());
        job.stop(Failure::new(Code::ShuttingDown, "second"));
        assert!(later.is_cancelled());
        assert_eq!(job.stop_reason().code, Code::ShuttingDown);
        assert!(
            job.outlives_cancelling().is_cancelled(),
            "a shutdown is not outlived"
        );
    }

    /// A11
    #[test]
    fn entries_are_small_whatever_is_in_them() {
        let jobs = JobRegistry::default();
        let id: Arc<str> = "\"".repeat(256).into();
        let job = jobs
            .begin_as(&id, &id, true, Submission::new(Source::Http))
            .unwrap();
        job.progress(Progress {
            node: Some("ü\"".repeat(100_000)),
            ..Progress::default()
        });
        let mut failure = Failure::new(Code::Internal, "");
        failure.message = "ü\n\"".repeat(1_000_000);
        jobs.finish(&job, Some(&failure));
        let written = serde_json::to_string(&jobs.lists().2).unwrap();
        assert!(written.len() <= MAX_QUEUE_ENTRY, "{}", written.len());
    }

    /// D01
    #[test]
    fn files_of_two_prompts_never_have_the_same_names() {
        let jobs = JobRegistry::default();
        let begin = |id: &str| {
            let file_id = crate::job::request::file_name(id).into();
            jobs.begin_as(&id.into(), &file_id, true, Submission::new(Source::Http))
        };
        let first = begin("a/b").unwrap();
        let twin = first.file_id.to_string();
        assert!(begin(&twin).is_err_and(|failure| failure.code == Code::Conflict));
        jobs.finish(&first, None);
        assert!(begin(&twin).is_ok());
    }

    #[test]
    fn positions_follow_the_order_of_acceptance() {
        let jobs = JobRegistry::default();
        let begin = |id: &str| {
            jobs.begin_as(&id.into(), &id.into(), true, Submission::new(Source::Http))
                .unwrap()
        };
        let [first, second, third] = ["b", "c", "a"].map(begin);
        assert!(
            jobs.begin_as(
                &"a".into(),
                &"a".into(),
                true,
                Submission::new(Source::Http)
            )
            .is_err_and(|failure| failure.code == Code::Conflict)
        );
        [&first, &second, &third]
            .into_iter()
            .for_each(|job| jobs.accepted(job));
        let reader = third.streams.attach(false);
        jobs.started(&first);
        jobs.started(&first);
        let (running, pending, _) = jobs.lists();
        let ids = |entries: &[JobSnapshot]| {
            entries
                .iter()
                .map(|entry| (entry.id.to_string(), entry.position))
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&running), [("b".to_owned(), None)]);
        assert_eq!(
            ids(&pending),
            [("c".to_owned(), Some(1)), ("a".to_owned(), Some(2))]
        );
        let told = reader.waiting();
        assert_eq!(told.len(), 1, "told once that it has moved up: {told:?}");
        assert!(told[0].contains(r#""position":2"#), "{told:?}");
        jobs.finish(&first, None);
        assert_eq!(
            jobs.entry("b").map(|entry| entry.status),
            Some(Status::Succeeded)
        );
        assert!(!jobs.is_superseded("b", first.number));
        assert!(
            !begin("z").repeated && begin("b").repeated,
            "an id that comes again is known"
        );
        assert!(jobs.is_superseded("b", first.number) && !jobs.is_superseded("c", second.number));
    }
}
