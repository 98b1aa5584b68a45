//! A job in flight: what is known of it, and what it is told.

use std::borrow::Cow;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::position::{LANE_BITS, ORDER_BITS, position};
use super::signals::{Listeners, Signals};
use super::snapshot::{JobSnapshot, Progress, Status};
use crate::error::{Code, Failure};
use crate::job::event::{JobEvent, Listener};
use crate::job::keep::Keeping;
use crate::job::origin::Origin;
use crate::job::policy::Policy;
use crate::job::progress::Tracker;
use crate::job::request::Source;
use crate::job::stream::{Streams, Weight};
use crate::job::witness::Witness;
use crate::limits::{MAX_NAME, text};
use crate::telemetry::logging::epoch_ms;
use crate::telemetry::trace::JobTrace;

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
    pub tracker: Mutex<Option<Box<Tracker>>>,
    /// Keeps its outputs, if they are kept.
    pub keeping: Option<Box<Keeping>>,
    /// Whoever has given it to this server and takes its files.
    pub origin: Option<Arc<dyn Origin>>,
    /// The path of the workflow endpoint that its graph comes from.
    pub workflow: Option<Arc<str>>,
    pub(super) witness: Option<Arc<dyn Witness>>,
    pub(in crate::job) listeners: Listeners,
    /// Its inputs are in place, and whoever is to run it is being asked.
    pub(in crate::job) submitting: std::sync::atomic::AtomicBool,
    /// How far it has come in ComfyUI.
    pub reached: Reached,
    pub(super) signals: Signals,
    /// Its spans, and the context of what it sends.
    pub trace: JobTrace,
    pub(super) state: Mutex<State>,
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
pub(super) struct State {
    pub(super) entry: JobSnapshot,
    /// Order of acceptance by ComfyUI, for positions.
    pub(super) accepted: Option<u64>,
    /// What its number begins with: the queue, and what comes first there.
    pub(super) lane: u64,
    /// The number of the ComfyUI that it is in.
    pub(super) comfy: usize,
    pub(super) reason: Option<Failure>,
    /// Stops the stages after a run that `cancel` did not stop in time.
    pub(super) later: Option<CancellationToken>,
}

impl Job {
    /// Asks it to end. The first reason counts.
    pub fn stop(&self, reason: Failure) {
        let later = {
            let mut state = self.state.lock();
            state.reason.get_or_insert(reason);
            state.later.clone()
        };
        self.cancel.cancel();
        if let Some(later) = later {
            later.cancel();
        }
    }

    /// What stops the stages after the run. A prompt that was cancelled while it ran and finished
    /// all the same is reported as what it is: a success, which that cancellation stops no more,
    /// but the next one does. When the server ends there is no time for that.
    pub fn outlives_cancelling(&self) -> CancellationToken {
        let mut state = self.state.lock();
        if state
            .reason
            .take_if(|reason| reason.code == Code::ExecutionInterrupted)
            .is_none()
        {
            return self.cancel.clone();
        }
        state.later.insert(CancellationToken::new()).clone()
    }

    /// Whether it was asked to end, and has not outlived that.
    pub fn is_stopped(&self) -> bool {
        self.state.lock().reason.is_some()
    }

    /// Why it was asked to end.
    pub fn stop_reason(&self) -> Failure {
        let reason = self.state.lock().reason.clone();
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
    pub(in crate::job) fn witness(&self, tell: impl FnOnce(&dyn Witness)) {
        if let Some(witness) = &self.witness {
            tell(witness.as_ref());
        }
    }

    /// What is known of it, without its place in the queue.
    pub fn snapshot(&self) -> JobSnapshot {
        self.state.lock().entry.clone()
    }

    /// Whether the state is another one than before.
    pub(super) fn change(&self, status: Status) -> bool {
        let mut state = self.state.lock();
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
    pub(in crate::job) fn waits_in(&self, queue: u16, rank: u8) {
        self.state.lock().lane = (u64::from(queue) << LANE_BITS) | (u64::from(rank) << ORDER_BITS);
    }

    /// It is given to this ComfyUI.
    pub fn goes_to(&self, index: usize, label: Option<usize>) {
        let mut state = self.state.lock();
        state.comfy = index;
        state.entry.instance = label;
    }

    /// The number of the ComfyUI that it is in.
    pub fn comfy(&self) -> usize {
        self.state.lock().comfy
    }

    /// Its number in ComfyUI's queue, while it waits there.
    pub(super) fn waits_as(&self) -> Option<u64> {
        let state = self.state.lock();
        state
            .accepted
            .filter(|_| state.entry.status == Status::Pending)
    }

    /// Where it is.
    pub fn status(&self) -> Status {
        self.state.lock().entry.status
    }

    pub(super) fn entry(&self, waiting: &[u64]) -> JobSnapshot {
        let position = position(self, waiting);
        JobSnapshot {
            position,
            ..self.state.lock().entry.clone()
        }
    }

    /// Notes how far it is.
    pub fn progress(&self, mut progress: Progress) {
        if let Some(node) = &mut progress.node
            && let Cow::Owned(short) = text::shorten_escaped(node, MAX_NAME)
        {
            *node = short;
        }
        self.state.lock().entry.progress = Some(progress);
        self.signals.changed();
    }
}

pub(super) fn state_event(id: &str, status: Status, position: Option<usize>) -> String {
    let mut data = json!({"prompt_id": id, "status": status});
    if let Some(position) = position {
        data["position"] = position.into();
    }
    json!({"type": "state", "data": data}).to_string()
}
