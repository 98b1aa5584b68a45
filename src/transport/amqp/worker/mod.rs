//! Where tasks are taken, run and answered (amqp.md, "Tasks"). Outlives connections.
//!
//! A run belongs to a task id, not to a delivery: when the connection breaks while a task runs and
//! the broker hands it out again, the new delivery joins the run, and whatever deliveries there are
//! get the answer when the run has ended.
//!
//! The count of attempts belongs to the task (attack.md, A41): a task that is charged with one goes
//! back as a new message that says so, see [`attempts`]; a death that leaves no time for that is
//! found in the [`Notes`], or was counted by the broker.

mod admit;
mod answer;
mod hand_back;
mod judge;
mod past;
mod run;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lapin::{Acker, BasicProperties};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::TaskRunner;
use super::answers::Answers;
use super::attempts::Past;
use super::custody::Custody;
use super::memory::{Attempts, Fingerprint, IssuedIds, ResultCache};
use super::notes::Notes;
use super::reply::Replies;
use super::sink::StreamSink;
use super::task::Task;
use crate::broker::outbox::Outbox;
use crate::config::AmqpConfig;

/// Task ids remembered after their ends, and in the count of attempts.
const MAX_IDS: usize = 4096;

/// Bytes of results remembered; at least one of the largest size always fits.
const RECENT_BYTES: u64 = 32 * 1024 * 1024;

/// What the worker is made of.
pub(super) struct Parts {
    pub(super) runner: Arc<dyn TaskRunner>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) sink: Arc<StreamSink>,
    pub(super) answers: Answers,
    pub(super) notes: Notes,
    pub(super) replies: Replies,
    /// Without proxy and guard, for gateways.
    pub(super) http: reqwest::Client,
}

/// The worker.
pub(super) struct Worker {
    parts: Parts,
    queue: Arc<str>,
    max_attempts: u32,
    max_body_bytes: usize,
    /// As many as tasks may run here at a time. The broker's prefetch counts per connection; this
    /// counts over all.
    slots: Semaphore,
    prefetch: u32,
    /// The queue counts every return of a message, also of one that is not to be charged.
    queue_counts: AtomicBool,
    /// The deliveries that wait for the end of each task that is here.
    here: Mutex<HashMap<Arc<str>, Waiting>>,
    /// Somebody has left `here`.
    left: Notify,
    custody: Custody,
    given_ids: Mutex<IssuedIds>,
    recent: Mutex<ResultCache>,
    attempts: Mutex<Attempts>,
    /// Tasks that were published again and whose old message could not be acknowledged: how many
    /// copies there are.
    replaced: Mutex<Attempts>,
    tracker: TaskTracker,
    /// Cancelled at shutdown: everything that is not finished goes back.
    give_back: CancellationToken,
}

/// A task that is here, and those who wait for its end.
struct Waiting {
    task: Fingerprint,
    copy: u32,
    ackers: Vec<Acker>,
}

/// A task with what is known of its past.
struct Case {
    task: Task,
    properties: BasicProperties,
    past: Past,
    redelivered: bool,
    /// Cancelled when tasks that were not started shall go back: the consumer has stopped.
    recall: CancellationToken,
}

impl Worker {
    pub(super) fn new(config: &AmqpConfig, parts: Parts) -> Self {
        let recent_bytes = usize::try_from(RECENT_BYTES.max(config.max_result_bytes + 64 * 1024))
            .unwrap_or(usize::MAX);
        Self {
            parts,
            queue: config.queue.as_str().into(),
            max_attempts: config.max_attempts,
            max_body_bytes: config.max_body_bytes,
            slots: Semaphore::new(usize::from(config.prefetch)),
            prefetch: config.prefetch.into(),
            queue_counts: AtomicBool::new(false),
            here: Mutex::default(),
            left: Notify::new(),
            custody: Custody::default(),
            given_ids: Mutex::new(IssuedIds::new(MAX_IDS)),
            recent: Mutex::new(ResultCache::new(MAX_IDS, recent_bytes)),
            attempts: Mutex::new(Attempts::new(MAX_IDS)),
            replaced: Mutex::new(Attempts::new(MAX_IDS)),
            tracker: TaskTracker::new(),
            give_back: CancellationToken::new(),
        }
    }

    /// Whether the input queue is one that counts deliveries.
    pub(super) fn queue_counts_deliveries(&self, counts: bool) {
        self.queue_counts.store(counts, Ordering::Relaxed);
    }

    /// Begins to end: what runs is told to give back.
    pub(super) fn give_everything_back(&self) {
        self.give_back.cancel();
        self.tracker.close();
    }

    /// Resolves when no task is here any more. Only after [`Worker::give_everything_back`] does it
    /// stay so.
    pub(super) async fn empty(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// The task that runs here and was sent with this id for answers.
    pub(super) fn task_of(&self, correlation: &str) -> Option<Arc<str>> {
        self.parts.sink.task_of(correlation)
    }

    /// How many tasks are here: running, or waiting for a slot or a confirm.
    pub(super) fn len(&self) -> usize {
        self.here.lock().len()
    }
}
