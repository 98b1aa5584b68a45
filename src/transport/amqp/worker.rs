//! Where tasks are taken, run and answered (amqp.md, "Tasks"). Outlives connections.
//!
//! A run belongs to a task id, not to a delivery: when the connection breaks while a task runs and the broker hands it out
//! again, the new delivery joins the run, and whatever deliveries there are get the answer when the run has ended.
//!
//! The count of attempts belongs to the task (attack.md, A41): a task that is charged with one goes back as a new message that
//! says so, see [`attempts`]; a death that leaves no time for that is found in the [`Notes`], or was counted by the broker.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use lapin::{Acker, BasicProperties};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::answers::{Answers, too_large_for_broker};
use super::attempts::{self, Past};
use super::custody::{Blame, Custody};
use super::gateway::{Claim, Gateway};
use super::memory::{Answer, Attempts, Fingerprint, IssuedIds, ResultCache};
use super::notes::Notes;
use super::reply::{Replies, Reply};
use super::sink::StreamSink;
use super::task::{self, MessageIds, Refusal, Task};
use super::{Milestones, TaskOutcome, TaskRun, TaskRunner};
use crate::broker::outbox::{Body, Class, Outbox, OutboxMessage, Receipt};
use crate::broker::spans;
use crate::config::AmqpConfig;
use crate::error::{Code, Failure, panicked};
use crate::telemetry::logging::epoch_ms;
use crate::telemetry::metrics;
use crate::telemetry::trace::{self, Span};

/// How long a task that failed by our fault is kept before it goes back: long enough not to spin, short enough for others.
const REQUEUE_DELAY: Duration = Duration::from_secs(1);
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
    /// As many as tasks may run here at a time. The broker's prefetch counts per connection; this counts over all.
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
    /// Tasks that were published again and whose old message could not be acknowledged: how many copies there are.
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

/// What becomes of a task at its end.
enum Verdict {
    Publish(Answer),
    /// As it came.
    Return,
    /// As a new message that tells this.
    Replace(Past),
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

    /// Takes a delivery. `recall` is cancelled when tasks that were not started shall go back: the consumer has stopped.
    pub(super) async fn accept(
        self: &Arc<Self>,
        mut delivery: Delivery,
        recall: &CancellationToken,
    ) {
        let redelivered = delivery.redelivered;
        let bytes = std::mem::take(&mut delivery.data);
        let (acker, properties) = (delivery.acker, delivery.properties);
        let worker = Arc::clone(self);
        let ids = MessageIds::of(&properties);
        let task = match task::parse(bytes, ids, self.max_body_bytes).await {
            Ok(task) => task,
            Err(refusal) => {
                let reply = self.parts.replies.of(&properties);
                let mut span = spans::process(&self.queue, &properties, &refusal.id, redelivered);
                span.fail(refusal.failure.code.as_str());
                let context = span.context().cloned();
                let refusing = async move {
                    worker.refuse(&acker, refusal, reply.as_deref()).await;
                    drop(span);
                };
                self.tracker.spawn(trace::scope(context, refusing));
                return;
            }
        };
        let (id, past) = self.past_of(&task, &properties, redelivered).await;
        let case = Case {
            task,
            properties,
            past,
            redelivered,
            recall: recall.clone(),
        };
        self.admit(id, case, acker);
    }

    /// Takes a task that is understood: begins with it, unless it is here already.
    fn admit(self: &Arc<Self>, id: Arc<str>, case: Case, acker: Acker) {
        let (task, past) = (case.task.fingerprint, case.past);
        if case.redelivered && past.copy < lock(&self.replaced).get(&id) {
            tracing::info!(id = %id, "task was delivered again although it was published again; the old message is done with");
            self.tracker
                .spawn(async move { note(acker.ack(BasicAckOptions::default()).await) });
            return;
        }
        let worker = Arc::clone(self);
        match lock(&self.here).entry(Arc::clone(&id)) {
            Entry::Occupied(waiting)
                if waiting.get().task == task && waiting.get().copy < past.copy =>
            {
                // The message that takes the place of the one that is still here came faster than its confirm.
                self.tracker
                    .spawn(async move { worker.admit_later(id, case, acker).await });
                return;
            }
            Entry::Occupied(mut waiting) if waiting.get().task == task => {
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
                    task,
                    copy: past.copy,
                    ackers: vec![acker],
                });
            }
        }
        let crowded = self.len() > 1;
        let known = if case.redelivered {
            lock(&self.recent).get(&id, task)
        } else {
            None
        };
        if known.is_none() {
            // What this id stood for before says nothing about this task.
            lock(&self.recent).forget(&id);
        }
        if !case.redelivered {
            lock(&self.attempts).forget(&id);
        }
        let mut span = spans::process(&self.queue, &case.properties, &id, case.redelivered);
        let context = span.context().cloned();
        let processing = async move {
            match known {
                Some(answer) => {
                    let reply = worker.parts.replies.of(&case.properties);
                    worker.answer_again(&id, answer, reply.as_deref()).await;
                }
                None => worker.run(&id, case, crowded, &mut span).await,
            }
        };
        self.tracker.spawn(trace::scope(context, processing));
    }

    /// Takes a task when the one in whose place it comes has left.
    async fn admit_later(self: &Arc<Self>, id: Arc<str>, case: Case, acker: Acker) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if !lock(&self.here).contains_key(&id) {
                break;
            }
            left.await;
        }
        self.admit(id, case, acker);
    }

    /// The task's id: its own, or the one it was given, now or when it was delivered before; and what is known of its past: the
    /// greatest of what the message, the broker, the notes and this process have counted.
    async fn past_of(
        &self,
        task: &Task,
        properties: &BasicProperties,
        redelivered: bool,
    ) -> (Arc<str>, Past) {
        let mut past = Past::of(properties);
        if !redelivered {
            past.deliveries = None;
            return (self.id_of(task, false, None), past);
        }
        let noted = self
            .parts
            .notes
            .find(task.id.clone(), task.fingerprint)
            .await;
        let given = noted.as_ref().map(|noted| Arc::from(noted.id.as_str()));
        let id = self.id_of(task, true, given);
        let remembered = lock(&self.attempts).get(&id);
        past.attempts = past.attempts.max(remembered);
        if let Some(noted) = noted {
            past.attempts = past.attempts.max(noted.attempts);
            past.suspect |= noted.suspect;
            if noted.attempts > 0 && !noted.suspect {
                // It is known what happened: the broker's count would only repeat it.
                past.deliveries = past.deliveries.filter(|count| *count > noted.attempts);
            }
        }
        // Counted by the broker alone: it ran somewhere, or only waited there.
        past.deliveries = past.deliveries.filter(|count| *count > past.attempts);
        (id, past)
    }

    fn id_of(&self, task: &Task, redelivered: bool, noted: Option<Arc<str>>) -> Arc<str> {
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
            given.recall(task.fingerprint, taken).or(noted)
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

    /// The task that runs here and was sent with this id for answers.
    pub(super) fn task_of(&self, correlation: &str) -> Option<Arc<str>> {
        self.parts.sink.task_of(correlation)
    }

    /// How many tasks are here: running, or waiting for a slot or a confirm.
    pub(super) fn len(&self) -> usize {
        lock(&self.here).len()
    }

    /// Publishes the end of a prompt that came through another transport (`AMQP_PUBLISH_ALL`). Nobody waits for the confirm.
    pub(super) async fn publish_result(&self, id: &str, outcome: &TaskOutcome) {
        let Parts {
            answers,
            outbox,
            sink,
            ..
        } = &self.parts;
        let answer = match outcome {
            TaskOutcome::Success(document) => {
                match answers.success(id, document, outbox.largest()).await {
                    Ok(answer) => answer,
                    Err(failure) => answers.failure(id, &failure),
                }
            }
            TaskOutcome::Failed(failure) => answers.failure(id, failure),
        };
        sink.ended(id);
        let message =
            OutboxMessage::new(answer.routing_key, Body::Ready(answer.body), Class::Event);
        outbox.post(message.below(trace::current()));
    }

    async fn run(&self, id: &Arc<str>, case: Case, crowded: bool, span: &mut Span) {
        let Case {
            mut task,
            properties,
            mut past,
            recall,
            ..
        } = case;
        let broker_counted = past.deliveries.take();
        if let Some(deliveries) = broker_counted {
            if crowded {
                // Nobody knows whether it ran or waited where it was. It shall not be counted while it waits here, too.
                let past = Past {
                    suspect: true,
                    ..past
                };
                return self.replace(id, &task.bytes, &properties, past).await;
            }
            past.attempts = deliveries;
        }
        if past.attempts >= self.max_attempts {
            let reply = self.parts.replies.of(&properties);
            return self
                .give_up_unrun(id, task, past.attempts, reply.as_deref())
                .await;
        }
        let alone = past.suspect || broker_counted.is_some();
        let slots = if alone { self.prefetch } else { 1 };
        let slot = tokio::select! {
            biased;
            () = recall.cancelled() => None,
            () = self.give_back.cancelled() => None,
            slot = self.slots.acquire_many(slots) => slot.ok(),
        };
        let Some(slot) = slot else {
            self.tell_requeued(id, &properties, "the instance takes no tasks now");
            return self.give_back(id, &task.bytes, &properties, past).await;
        };
        let (fingerprint, bytes) = (task.fingerprint, std::mem::take(&mut task.bytes));
        let reply = self.parts.replies.of(&properties);
        let instance = &self.parts.replies.instance;
        let gateway = Gateway::of(&properties, instance, &self.parts.http);
        if let Some(gateway) = &gateway {
            match gateway.claim().await {
                Claim::Granted(fields) => task.body.extend(fields),
                Claim::Over => {
                    drop(slot);
                    return self.leave_unrun(id, reply.as_deref()).await;
                }
                Claim::Silent if gateway.secrets => {
                    drop(slot);
                    self.hesitate().await;
                    self.tell_requeued(id, &properties, "the gateway does not answer");
                    return self.give_back(id, &bytes, &properties, past).await;
                }
                Claim::Silent => {}
            }
        }
        let note = self.parts.notes.begin(id, fingerprint, past.attempts).await;
        self.parts.sink.started(id, reply.as_ref());
        self.custody.take(id);
        let milestones = Milestones::default();
        let outcome = {
            let with = (reply.clone(), gateway);
            let mut run = std::pin::pin!(self.run_guarded(id, task, &milestones, with));
            let following = self.follow(id, &milestones, &note);
            tokio::select! {
                outcome = &mut run => outcome,
                () = following => run.await,
            }
        };
        self.parts.sink.ended(id);
        if let TaskOutcome::Failed(failure) = &outcome {
            span.fail(failure.code.as_str());
        }
        let verdict = self.judge(id, past, outcome, &bytes).await;
        // The others of the same death have looked by then.
        self.custody.release(id);
        match verdict {
            Verdict::Publish(answer) => {
                // The slot is free for the next one while the broker confirms.
                drop(slot);
                drop(bytes);
                lock(&self.attempts).forget(id);
                if let Some(answer) = self.deliver(id, answer, reply.as_deref()).await {
                    lock(&self.recent).insert(id, fingerprint, answer);
                    self.acknowledge(id).await;
                }
            }
            Verdict::Return => {
                drop(slot);
                self.tell_requeued(id, &properties, "the instance could not finish it");
                self.hesitate().await;
                self.give_back(id, &bytes, &properties, past).await;
            }
            Verdict::Replace(past) => {
                drop(slot);
                lock(&self.attempts).set(id, past.attempts);
                self.tell_requeued(id, &properties, "an attempt at it has failed");
                self.hesitate().await;
                self.replace(id, &bytes, &properties, past).await;
            }
        }
        note.remove().await;
    }

    /// Notes how far a task has come.
    async fn follow(&self, id: &str, milestones: &Milestones, note: &super::notes::Note) {
        milestones.submitted.cancelled().await;
        self.custody.submitted(id);
        milestones.executing.cancelled().await;
        self.custody.executing(id);
        note.executing().await;
    }

    /// Publishes an answer until it is confirmed and returns it, or the error that had to take its place.
    async fn deliver(&self, id: &str, answer: Answer, reply: Option<&Reply>) -> Option<Answer> {
        let Parts {
            answers, outbox, ..
        } = &self.parts;
        let length = answer.body.len() as u64;
        // Before the event, so that both are on their way.
        let replied = reply.map(|reply| self.reply_with(reply, &answer));
        match outbox
            .post_confirmed(Arc::clone(&answer.routing_key), answer.body.clone())
            .await
            .ok()?
        {
            Receipt::TooLarge(limit) => {
                let error = answers.failure(id, &too_large_for_broker(length, limit));
                let replied = reply.map(|reply| self.reply_with(reply, &error));
                let receipt = outbox
                    .post_confirmed(Arc::clone(&error.routing_key), error.body.clone())
                    .await
                    .ok()?;
                settled(replied).await?;
                (receipt == Receipt::Confirmed).then_some(error)
            }
            Receipt::Confirmed | Receipt::Unroutable => {
                settled(replied).await?;
                Some(answer)
            }
        }
    }

    /// Posts an answer into the queue of whoever has sent the task.
    fn reply_with(&self, reply: &Reply, answer: &Answer) -> oneshot::Receiver<Receipt> {
        let (queue, properties) = reply.address(false);
        self.parts
            .outbox
            .post_to_queue(queue, answer.body.clone(), properties)
    }

    /// Whoever waits for the task hears that it goes back.
    fn tell_requeued(&self, id: &str, properties: &BasicProperties, reason: &str) {
        let Some(reply) = self.parts.replies.of(properties) else {
            return;
        };
        let data = serde_json::json!({"reason": reason});
        let name = "execution_requeued";
        let events = &self.parts.replies.events;
        let body = events.of(Some(id), name, epoch_ms(), &data);
        reply.tell_result(name, body.clone());
        let key = format!("event.result.{name}").into();
        let message = OutboxMessage::new(key, Body::Ready(body), Class::Event);
        self.parts.outbox.post(message.below(trace::current()));
    }

    /// A task that nobody waits for any more.
    async fn leave_unrun(&self, id: &Arc<str>, reply: Option<&Reply>) {
        tracing::info!(id = %id, "task is not run: its gateway does not wait for it any more");
        let message = "The task was cancelled, or has ended already.";
        let failure = Failure::new(Code::ExecutionInterrupted, message);
        let answer = self.parts.answers.failure(id, &failure);
        if self.deliver(id, answer, reply).await.is_some() {
            self.acknowledge(id).await;
        }
    }

    /// A run that panics is our fault like any other.
    async fn run_guarded(
        &self,
        id: &Arc<str>,
        task: Task,
        milestones: &Milestones,
        (reply, gateway): (Option<Arc<Reply>>, Option<Arc<Gateway>>),
    ) -> TaskOutcome {
        let runner = Arc::clone(&self.parts.runner);
        let run = TaskRun {
            id: Arc::clone(id),
            body: task.body,
            give_back: self.give_back.child_token(),
            milestones: milestones.clone(),
            reply,
            gateway,
        };
        let run = async move { runner.run(run).await };
        let run = tokio::spawn(trace::scope(trace::current(), run));
        run.await
            .unwrap_or_else(|_| TaskOutcome::Failed(panicked(&format!("task {id}")).transient()))
    }

    async fn judge(&self, id: &str, past: Past, outcome: TaskOutcome, bytes: &Bytes) -> Verdict {
        let answers = &self.parts.answers;
        let failure = match outcome {
            TaskOutcome::Success(document) => {
                let largest = self.parts.outbox.largest();
                match answers.success(id, &document, largest).await {
                    Ok(answer) => return Verdict::Publish(answer),
                    Err(failure) => failure,
                }
            }
            TaskOutcome::Failed(failure) => failure,
        };
        if !failure.transient {
            return Verdict::Publish(answers.failure(id, &failure));
        }
        // Shutting down is no attempt of the task's: it goes back, however often it was tried.
        if failure.code == Code::ShuttingDown {
            return Verdict::Return;
        }
        let attempt = past.attempts + 1;
        match self.blame(id, &failure).await {
            Blame::Innocent => {
                tracing::info!(id, reason = %failure, "task goes back into the queue as it came");
                return Verdict::Return;
            }
            Blame::Suspect => {
                tracing::warn!(id, reason = %failure, "task goes back into the queue and runs alone next: ComfyUI died with several, and one of them may be the reason");
                return Verdict::Replace(Past {
                    suspect: true,
                    ..past
                });
            }
            Blame::Charged
                if attempt < failure.attempts.unwrap_or(u32::MAX).min(self.max_attempts) =>
            {
                tracing::warn!(id, attempt, reason = %failure, "task goes back into the queue");
                return Verdict::Replace(Past {
                    attempts: attempt,
                    suspect: false,
                    ..past
                });
            }
            Blame::Charged => {}
        }
        tracing::error!(id, attempt, reason = %failure, "task is given up (AMQP_MAX_ATTEMPTS)");
        self.parts
            .runner
            .given_up(id, task::body_of(bytes), &failure)
            .await;
        Verdict::Publish(answers.failure(id, &failure))
    }

    async fn blame(&self, id: &str, failure: &Failure) -> Blame {
        if failure.code != Code::ComfyuiUnavailable {
            // While we end, nothing is to be held against it.
            return if self.give_back.is_cancelled() {
                Blame::Innocent
            } else {
                Blame::Charged
            };
        }
        let runner = &self.parts.runner;
        if runner.comfyui_was_restarted() {
            return Blame::Innocent;
        }
        let blame = self
            .custody
            .blame(id, || runner.other_prompt_was_executing())
            .await;
        // Without a death it is this task's own failure.
        if runner.comfyui_has_died() {
            blame
        } else {
            Blame::Charged
        }
    }

    /// A task that has taken ComfyUI or an instance with it often enough is not run once more.
    async fn give_up_unrun(&self, id: &Arc<str>, task: Task, attempts: u32, reply: Option<&Reply>) {
        let message = format!(
            "The task is given up after {attempts} attempts (AMQP_MAX_ATTEMPTS): each ended with ComfyUI or the whole instance."
        );
        let failure = Failure::new(Code::ExecutionError, message);
        tracing::error!(id = %id, attempts, "task is given up (AMQP_MAX_ATTEMPTS)");
        self.parts.runner.given_up(id, task.body, &failure).await;
        let answer = self.parts.answers.failure(id, &failure);
        lock(&self.attempts).forget(id);
        if let Some(answer) = self.deliver(id, answer, reply).await {
            lock(&self.recent).insert(id, task.fingerprint, answer);
            self.acknowledge(id).await;
        }
    }

    async fn refuse(&self, acker: &Acker, refusal: Refusal, reply: Option<&Reply>) {
        let Refusal {
            id,
            failure,
            unreadable,
        } = refusal;
        tracing::warn!(id = %id, reason = %failure, "task is refused");
        let answer = self.parts.answers.failure(&id, &failure);
        if self.deliver(&id, answer, reply).await.is_none() {
            return;
        }
        if unreadable {
            metrics::amqp_task("reject");
            note(acker.reject(BasicRejectOptions { requeue: false }).await);
        } else {
            metrics::amqp_task("ack");
            note(acker.ack(BasicAckOptions::default()).await);
        }
    }

    async fn answer_again(&self, id: &Arc<str>, answer: Option<Answer>, reply: Option<&Reply>) {
        tracing::info!(id = %id, "task was delivered again after its end; it is answered from memory");
        if let Some(answer) = answer
            && self.deliver(id, answer, reply).await.is_none()
        {
            return;
        }
        self.acknowledge(id).await;
    }

    async fn acknowledge(&self, id: &Arc<str>) {
        metrics::amqp_task("ack");
        let waiting = self.leave(id);
        // An answer that cannot be given will be asked for again, by the same id.
        if waiting.iter().any(Acker::usable) {
            lock(&self.given_ids).forget(id);
        }
        lock(&self.replaced).forget(id);
        for acker in waiting {
            note(acker.ack(BasicAckOptions::default()).await);
        }
    }

    /// Puts a task back that is not charged with anything: as it came where the broker does not count that, else as a new
    /// message with the same past.
    async fn give_back(
        &self,
        id: &Arc<str>,
        bytes: &Bytes,
        properties: &BasicProperties,
        past: Past,
    ) {
        if self.queue_counts.load(Ordering::Relaxed) {
            return self.replace(id, bytes, properties, past).await;
        }
        metrics::amqp_task("requeue");
        for acker in self.leave(id) {
            give_back(&acker).await;
        }
    }

    /// Puts a task back as a new message with another past: published and confirmed first, then the old one is acknowledged.
    async fn replace(
        &self,
        id: &Arc<str>,
        bytes: &Bytes,
        properties: &BasicProperties,
        past: Past,
    ) {
        metrics::amqp_task("requeue");
        let usable = |waiting: &Waiting| waiting.ackers.iter().any(Acker::usable);
        if !lock(&self.here).get(id).is_some_and(usable) {
            // The broker hands it out again by itself; what is known of it is remembered here.
            self.leave(id);
            return;
        }
        let past = Past {
            copy: past.copy + 1,
            ..past
        };
        let published = self.parts.outbox.post_to_queue(
            Arc::clone(&self.queue),
            bytes.clone(),
            attempts::again(properties, id, past),
        );
        let receipt = published.await;
        let waiting = self.leave(id);
        if receipt != Ok(Receipt::Confirmed) {
            tracing::warn!(id = %id, "task cannot be published again; it goes back as it came");
            for acker in waiting {
                give_back(&acker).await;
            }
            return;
        }
        lock(&self.attempts).forget(id);
        for acker in waiting {
            if !note(acker.ack(BasicAckOptions::default()).await) {
                lock(&self.replaced).set(id, past.copy);
            }
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
        let left = lock(&self.here).remove(id);
        self.left.notify_waiters();
        left.map(|waiting| waiting.ackers).unwrap_or_default()
    }
}

/// Whether a reply is where it belongs; a queue that is gone wants none.
async fn settled(replied: Option<oneshot::Receiver<Receipt>>) -> Option<()> {
    match replied {
        Some(replied) => replied.await.ok().map(drop),
        None => Some(()),
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

/// Whether an answer could be given. If not, the channel is gone, and the broker hands the task out again by itself.
fn note(answered: lapin::Result<bool>) -> bool {
    match answered {
        Ok(true) => return true,
        Ok(false) => tracing::debug!("the channel of a task is gone; the broker delivers it again"),
        Err(error) => {
            tracing::debug!(%error, "a task could not be answered; the broker delivers it again")
        }
    }
    false
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
