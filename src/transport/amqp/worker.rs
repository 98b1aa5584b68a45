//! Where tasks are taken, run and answered (amqp.md, "Tasks"). Outlives connections.
//!
//! A run belongs to a task id, not to a delivery: when the connection breaks while a task runs and the broker hands it out
//! again, the new delivery joins the run, and whatever deliveries there are get the answer when the run has ended.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lapin::Acker;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::envelope::EventFactory;
use super::memory::{Answer, Attempts, Fingerprint, IssuedIds, ResultCache};
use super::outbox::{Body, Class, Outbox, OutboxMessage, TaskDecision};
use super::sink::StreamSink;
use super::task::{self, Task};
use super::{TaskOutcome, TaskRunner};
use crate::config::AmqpConfig;
use crate::document::Document;
use crate::error::{Code, Failure};
use crate::telemetry::logging::epoch_ms;
use crate::telemetry::metrics;

/// How long a task that failed by our fault is kept before it goes back: long enough not to spin, short enough for others.
const REQUEUE_DELAY: Duration = Duration::from_secs(1);
/// Task ids remembered after their ends, and in the count of attempts.
const MAX_IDS: usize = 4096;
/// Bytes of results remembered; at least one of the largest size always fits.
const RECENT_BYTES: u64 = 32 * 1024 * 1024;

/// The worker.
pub(super) struct Worker {
    runner: Arc<dyn TaskRunner>,
    outbox: Arc<Outbox>,
    sink: Arc<StreamSink>,
    events: EventFactory,
    max_attempts: u32,
    max_result_bytes: u64,
    /// As many as tasks may run here at a time. The broker's prefetch counts per connection; this counts over all.
    slots: Semaphore,
    /// The deliveries that wait for the end of each task that is here.
    here: Mutex<HashMap<Arc<str>, Waiting>>,
    given_ids: Mutex<IssuedIds>,
    recent: Mutex<ResultCache>,
    attempts: Mutex<Attempts>,
    tracker: TaskTracker,
    /// Cancelled at shutdown: everything that is not finished goes back.
    give_back: CancellationToken,
}

/// A task that is here, and those who wait for its end.
struct Waiting {
    task: Fingerprint,
    ackers: Vec<Acker>,
}

/// What becomes of a task at its end.
enum Verdict {
    Publish(Answer),
    Requeue,
}

impl Worker {
    pub(super) fn new(
        config: &AmqpConfig,
        runner: Arc<dyn TaskRunner>,
        outbox: Arc<Outbox>,
        sink: Arc<StreamSink>,
        events: EventFactory,
    ) -> Self {
        let recent_bytes = usize::try_from(RECENT_BYTES.max(config.max_result_bytes + 64 * 1024))
            .unwrap_or(usize::MAX);
        Self {
            runner,
            outbox,
            sink,
            events,
            max_attempts: config.max_attempts,
            max_result_bytes: config.max_result_bytes,
            slots: Semaphore::new(usize::from(config.prefetch)),
            here: Mutex::default(),
            given_ids: Mutex::new(IssuedIds::new(MAX_IDS)),
            recent: Mutex::new(ResultCache::new(MAX_IDS, recent_bytes)),
            attempts: Mutex::new(Attempts::new(MAX_IDS)),
            tracker: TaskTracker::new(),
            give_back: CancellationToken::new(),
        }
    }

    /// Takes a delivery. `recall` is cancelled when tasks that were not started shall go back: the consumer has stopped.
    pub(super) async fn accept(
        self: &Arc<Self>,
        mut delivery: Delivery,
        recall: &CancellationToken,
    ) {
        let redelivered = delivery.redelivered;
        let body = std::mem::take(&mut delivery.data);
        let acker = delivery.acker;
        let worker = Arc::clone(self);
        let task = match task::parse(body).await {
            Ok(task) => task,
            Err(problem) => {
                self.tracker
                    .spawn(async move { worker.refuse(&acker, problem).await });
                return;
            }
        };
        let id = self.id_of(&task, redelivered);
        match lock(&self.here).entry(Arc::clone(&id)) {
            Entry::Occupied(mut waiting) if waiting.get().task == task.fingerprint => {
                tracing::info!(id = %id, "task was delivered again while it is here; it is not started twice");
                waiting.get_mut().ackers.push(acker);
                return;
            }
            Entry::Occupied(_) => {
                tracing::debug!(id = %id, "another task with the id of one that is here was delivered; it goes back until that one has ended");
                self.tracker
                    .spawn(async move { worker.send_back(&acker).await });
                return;
            }
            Entry::Vacant(place) => {
                place.insert(Waiting {
                    task: task.fingerprint,
                    ackers: vec![acker],
                });
            }
        }
        let known = if redelivered {
            lock(&self.recent).get(&id, task.fingerprint)
        } else {
            None
        };
        if known.is_none() {
            // What this id stood for before says nothing about this task.
            lock(&self.recent).forget(&id);
        }
        if !redelivered {
            lock(&self.attempts).forget(&id);
        }
        let recall = recall.clone();
        self.tracker.spawn(async move {
            match known {
                Some(answer) => worker.answer_again(&id, answer).await,
                None => worker.run(&id, task, &recall).await,
            }
        });
    }

    /// The task's id: its own, or the one it was given, now or when it was delivered before.
    fn id_of(&self, task: &Task, redelivered: bool) -> Arc<str> {
        if let Some(id) = &task.id {
            return Arc::clone(id);
        }
        let here = lock(&self.here);
        // One whose delivery is still outstanding is another task with the same bytes.
        let taken = |id: &str| {
            here.get(id)
                .is_some_and(|waiting| waiting.ackers.iter().any(Acker::usable))
        };
        let mut given = lock(&self.given_ids);
        let known = if redelivered {
            given.recall(task.fingerprint, taken)
        } else {
            None
        };
        known.unwrap_or_else(|| {
            let id = Uuid::new_v4().to_string().into();
            given.note(task.fingerprint, &id);
            id
        })
    }

    /// Begins to end: what runs is told to give back.
    pub(super) fn give_everything_back(&self) {
        self.give_back.cancel();
        self.tracker.close();
    }

    /// Resolves when no task is here any more. Only after [`Worker::give_everything_back`] does it stay so.
    pub(super) async fn empty(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// How many tasks are here: running, or waiting for a slot or a confirm.
    pub(super) fn len(&self) -> usize {
        lock(&self.here).len()
    }

    /// Publishes the end of a prompt that came through another transport (`AMQP_PUBLISH_ALL`). Nobody waits for the confirm.
    pub(super) async fn publish_result(&self, id: &str, outcome: &TaskOutcome) {
        let answer = match outcome {
            TaskOutcome::Success(document) => match self.success(id, document).await {
                Ok(answer) => answer,
                Err(failure) => self.failure(id, &failure),
            },
            TaskOutcome::Failed(failure) => self.failure(id, failure),
        };
        self.sink.ended(id);
        self.outbox.post(OutboxMessage::new(
            answer.routing_key,
            Body::Ready(answer.body),
            Class::Event,
        ));
    }

    async fn run(&self, id: &Arc<str>, task: Task, recall: &CancellationToken) {
        let slot = tokio::select! {
            biased;
            () = recall.cancelled() => None,
            () = self.give_back.cancelled() => None,
            slot = self.slots.acquire() => slot.ok(),
        };
        let Some(slot) = slot else {
            self.requeue(id).await;
            return;
        };
        let attempt = lock(&self.attempts).start(id);
        let fingerprint = task.fingerprint;
        self.sink.started(id);
        let outcome = self
            .run_guarded(id, task.body, attempt >= self.max_attempts)
            .await;
        self.sink.ended(id);
        let verdict = self.judge(id, attempt, outcome).await;
        match verdict {
            Verdict::Publish(answer) => {
                // The slot is free for the next one while the broker confirms.
                drop(slot);
                lock(&self.attempts).forget(id);
                if let Some(answer) = self.deliver(id, answer).await {
                    lock(&self.recent).insert(id, fingerprint, answer);
                    self.acknowledge(id).await;
                }
            }
            Verdict::Requeue => {
                drop(slot);
                self.hesitate().await;
                self.requeue(id).await;
            }
        }
    }

    /// Publishes an answer until it is confirmed and returns it, or the error that had to take its place.
    async fn deliver(&self, id: &str, answer: Answer) -> Option<Answer> {
        match self
            .outbox
            .post_confirmed(Arc::clone(&answer.routing_key), answer.body.clone())
            .await
            .ok()?
        {
            TaskDecision::Confirmed => Some(answer),
            TaskDecision::TooLarge => {
                let mib = answer.body.len().div_ceil(1 << 20);
                let message = format!(
                    "The result has {mib} MiB, more than the broker takes (max_message_size): upload it instead, with an upload target such as s3, azure_blob, hf or http in the task."
                );
                let error = self.failure(id, &Failure::new(Code::PayloadTooLarge, message));
                let decision = self
                    .outbox
                    .post_confirmed(Arc::clone(&error.routing_key), error.body.clone())
                    .await
                    .ok()?;
                (decision == TaskDecision::Confirmed).then_some(error)
            }
        }
    }

    /// A run that panics is our fault like any other.
    async fn run_guarded(
        &self,
        id: &Arc<str>,
        body: Map<String, Value>,
        last: bool,
    ) -> TaskOutcome {
        let (runner, id, give_back) = (
            Arc::clone(&self.runner),
            Arc::clone(id),
            self.give_back.child_token(),
        );
        let run = tokio::spawn(async move { runner.run(&id, body, last, give_back).await });
        run.await.unwrap_or_else(|_| {
            TaskOutcome::Failed(
                Failure::new(
                    Code::Internal,
                    "The task ended unexpectedly; the log of the instance says more.",
                )
                .transient(),
            )
        })
    }

    async fn judge(&self, id: &str, attempt: u32, outcome: TaskOutcome) -> Verdict {
        let failure = match outcome {
            TaskOutcome::Success(document) => match self.success(id, &document).await {
                Ok(answer) => return Verdict::Publish(answer),
                Err(failure) => failure,
            },
            TaskOutcome::Failed(failure) => failure,
        };
        if !failure.transient {
            return Verdict::Publish(self.failure(id, &failure));
        }
        // Shutting down is no attempt of the task's: it goes back, however often it was tried.
        if self.give_back.is_cancelled() || failure.code == Code::ShuttingDown {
            return Verdict::Requeue;
        }
        if attempt < self.max_attempts {
            tracing::warn!(id, attempt, reason = %failure, "task goes back into the queue");
            return Verdict::Requeue;
        }
        tracing::error!(id, attempt, reason = %failure, "task is given up (AMQP_MAX_ATTEMPTS)");
        Verdict::Publish(self.failure(id, &failure))
    }

    /// # Errors
    /// Too large for a message, or a file of it is gone.
    async fn success(&self, id: &str, document: &Document) -> Result<Answer, Failure> {
        let name = "execution_success";
        if document.len() > self.max_result_bytes {
            let (have, max) = (
                document.len().div_ceil(1 << 20),
                self.max_result_bytes >> 20,
            );
            let message = format!(
                "The result has {have} MiB, more than a message may carry ({max} MiB, AMQP_MAX_RESULT_MB): upload it instead, with an upload target such as s3, azure_blob, hf or http in the task."
            );
            return Err(Failure::new(Code::PayloadTooLarge, message));
        }
        let (prefix, suffix) = self.events.around(Some(id), name, epoch_ms());
        let body = document.surrounded(prefix, suffix).collect().await;
        let body = body.map_err(|error| {
            Failure::new(
                Code::Internal,
                format!("The result could not be read for its event: {error}."),
            )
            .transient()
        })?;
        Ok(Answer {
            routing_key: "event.result.execution_success".into(),
            body,
        })
    }

    fn failure(&self, id: &str, failure: &Failure) -> Answer {
        let interrupted = failure.code == Code::ExecutionInterrupted;
        let name = if interrupted {
            "execution_interrupted"
        } else {
            "execution_error"
        };
        let body: Bytes = self
            .events
            .of(Some(id), name, epoch_ms(), &failure_data(id, failure));
        Answer {
            routing_key: format!("event.result.{name}").into(),
            body,
        }
    }

    async fn refuse(&self, acker: &Acker, problem: String) {
        tracing::warn!(reason = %problem, "task cannot be read; it is rejected");
        let answer = self.failure("unknown", &Failure::new(Code::InvalidRequest, problem));
        if self
            .outbox
            .post_confirmed(answer.routing_key, answer.body)
            .await
            .is_ok()
        {
            metrics::amqp_task("reject");
            note(acker.reject(BasicRejectOptions { requeue: false }).await);
        }
    }

    async fn answer_again(&self, id: &Arc<str>, answer: Option<Answer>) {
        tracing::info!(id = %id, "task was delivered again after its end; it is answered from memory");
        if let Some(answer) = answer
            && self
                .outbox
                .post_confirmed(answer.routing_key, answer.body)
                .await
                .is_err()
        {
            return;
        }
        self.acknowledge(id).await;
    }

    async fn acknowledge(&self, id: &str) {
        metrics::amqp_task("ack");
        let waiting = self.leave(id);
        // An answer that cannot be given will be asked for again, by the same id.
        if waiting.iter().any(Acker::usable) {
            lock(&self.given_ids).forget(id);
        }
        for acker in waiting {
            note(acker.ack(BasicAckOptions::default()).await);
        }
    }

    async fn requeue(&self, id: &str) {
        metrics::amqp_task("requeue");
        for acker in self.leave(id) {
            give_back(&acker).await;
        }
    }

    /// Requeues a delivery that was not taken.
    async fn send_back(&self, acker: &Acker) {
        metrics::amqp_task("requeue");
        self.hesitate().await;
        give_back(acker).await;
    }

    /// Before something goes back into the queue.
    async fn hesitate(&self) {
        tokio::select! {
            () = tokio::time::sleep(REQUEUE_DELAY) => {}
            () = self.give_back.cancelled() => {}
        }
    }

    fn leave(&self, id: &str) -> Vec<Acker> {
        lock(&self.here)
            .remove(id)
            .map(|waiting| waiting.ackers)
            .unwrap_or_default()
    }
}

async fn give_back(acker: &Acker) {
    note(
        acker
            .nack(BasicNackOptions {
                requeue: true,
                ..BasicNackOptions::default()
            })
            .await,
    );
}

/// `{id, type, message, details?, node_errors?, stack?}`
fn failure_data(id: &str, failure: &Failure) -> Value {
    let mut data = Map::from_iter([
        ("id".to_owned(), json!(id)),
        ("type".to_owned(), failure.code.as_str().into()),
        ("message".to_owned(), failure.message.clone().into()),
    ]);
    let traceback = failure
        .details
        .as_ref()
        .and_then(|details| details.get("traceback"))
        .map(|traceback| match traceback {
            Value::Array(lines) => lines
                .iter()
                .filter_map(Value::as_str)
                .collect::<String>()
                .into(),
            other => other.clone(),
        });
    let optional = [
        ("location", failure.location.clone().map(Value::from)),
        ("details", failure.details.clone()),
        ("node_errors", failure.node_errors.clone()),
        ("stack", traceback),
    ];
    data.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?))),
    );
    Value::Object(data)
}

/// An answer that could not be given: the channel is gone, and the broker hands the task out again by itself.
fn note(answered: lapin::Result<bool>) {
    match answered {
        Ok(true) => {}
        Ok(false) => tracing::debug!("the channel of a task is gone; the broker delivers it again"),
        Err(error) => {
            tracing::debug!(%error, "a task could not be answered; the broker delivers it again")
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
