//! What is in flight: state, progress, position, streams; and the bounded memory of what is
//! finished.

mod begin;
mod job;
mod lists;
mod position;
mod signals;
mod snapshot;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use job::state_event;
use parking_lot::Mutex;
use position::{position, waits};
use signals::Signals;
use snapshot::{entry_error, last_progress};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::event::JobEvent;
use super::stream::Weight;
use super::witness::Witness;
use crate::error::{Code, Failure};
use crate::telemetry::logging::epoch_ms;

pub use job::{Job, Reached};
pub use snapshot::{JobSnapshot, Progress, Status};

/// How many ended prompts are remembered.
const FINISHED: usize = 100;

/// So many are told of each change of their places at once.
const FEW: usize = 64;
/// More are told so often: each prompt that begins moves all that wait, and ten thousand of them
/// would take more than the prompt.
const OFTEN: Duration = Duration::from_millis(500);

/// Everything in flight, and what is remembered of the rest.
#[derive(Debug, Default)]
pub struct JobRegistry {
    inner: Mutex<Inner>,
    /// Whoever remembers all jobs.
    witness: Option<Arc<dyn Witness>>,
    emptied: Notify,
    /// The places of many have changed.
    places_moved: Notify,
    signals: Signals,
    /// See [`JobRegistry::waiting`], and the change after which it was found.
    waiting: Mutex<Option<(u64, Arc<Vec<u64>>)>>,
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

    /// ComfyUI has queued it.
    pub fn accepted(&self, job: &Job) {
        let mut inner = self.inner.lock();
        inner.accepted += 1;
        // One that waited for its turn before has its place already.
        let mut state = job.state.lock();
        let number = state.lane + inner.accepted;
        let has_place = state.accepted.is_some();
        state.accepted.get_or_insert(number);
        drop(state);
        drop(inner);
        job.trace.queued();
        if job.change(Status::Pending) {
            job.streams.message(Weight::Always, || {
                state_event(&job.id, Status::Pending, position(job, &self.waiting()))
            });
            job.tell(&JobEvent::State(Status::Pending));
            job.witness(|witness| witness.changed(job));
        } else if !has_place {
            self.signals.moved();
        }
    }

    /// It has lost its ComfyUI, and waits for another in its old place.
    pub fn waits_again(&self, job: &Job) {
        job.state.lock().entry.started_at = None;
        if job.change(Status::Pending) {
            let position = position(job, &self.waiting());
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
        job.state.lock().entry.started_at = None;
        if job.enter(Status::Pending) {
            job.tell(&JobEvent::Lost(true));
            self.tell_positions();
        }
    }

    /// Tells those that are followed their places, now or, where many wait, soon.
    fn tell_positions(&self) {
        if self.count() > FEW {
            self.places_moved.notify_one();
        } else {
            self.tell_all_positions();
        }
    }

    /// Tells many their places for as long as it runs, the newest and not each.
    pub async fn keep_telling_positions(&self) {
        loop {
            self.places_moved.notified().await;
            self.tell_all_positions();
            sleep(OFTEN).await;
        }
    }

    fn tell_all_positions(&self) {
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
        let waiting = self.waiting();
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
        let mut state = job.state.lock();
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
        let mut inner = self.inner.lock();
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
}
