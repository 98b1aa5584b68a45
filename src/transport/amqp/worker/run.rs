//! One task that is run, and what becomes of it.

use bytes::Bytes;
use lapin::BasicProperties;
use std::sync::Arc;

use super::judge::Verdict;
use super::{Case, Worker};
use crate::error::panicked;
use crate::telemetry::trace;
use crate::telemetry::trace::Span;
use crate::transport::amqp::attempts::Past;
use crate::transport::amqp::gateway::{Claim, Gateway};
use crate::transport::amqp::memory::Fingerprint;
use crate::transport::amqp::reply::Reply;
use crate::transport::amqp::task::Task;
use crate::transport::amqp::{Milestones, TaskOutcome, TaskRun};

/// A task that has run.
struct Ran {
    fingerprint: Fingerprint,
    bytes: Bytes,
    properties: BasicProperties,
    reply: Option<Arc<Reply>>,
    past: Past,
}

impl Worker {
    #[expect(
        clippy::too_many_lines,
        reason = "the steps of one task, in their order"
    )]
    pub(super) async fn run(&self, id: &Arc<str>, case: Case, crowded: bool, span: &mut Span) {
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
                // Nobody knows whether it ran or waited where it was. It shall not be counted while
                // it waits here, too.
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
                Claim::Silent => tracing::warn!(
                    id = %id,
                    "the gateway that has sent the task does not answer its claim; the task is \
                     run all the same"
                ),
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
        // It is free for the next one while the broker confirms.
        drop(slot);
        let ran = Ran {
            fingerprint,
            bytes,
            properties,
            reply,
            past,
        };
        self.settle(id, verdict, ran).await;
        note.remove().await;
    }

    /// Does with a task that has run what the verdict says.
    async fn settle(&self, id: &Arc<str>, verdict: Verdict, ran: Ran) {
        let Ran {
            fingerprint,
            bytes,
            properties,
            reply,
            past,
        } = ran;
        match verdict {
            Verdict::Publish(answer) => {
                drop(bytes);
                self.attempts.lock().forget(id);
                if let Some(answer) = self.deliver(id, answer, reply.as_deref()).await {
                    self.recent.lock().insert(id, fingerprint, answer);
                    self.acknowledge(id).await;
                }
            }
            Verdict::Return => {
                self.tell_requeued(id, &properties, "the instance could not finish it");
                self.hesitate().await;
                self.give_back(id, &bytes, &properties, past).await;
            }
            Verdict::Replace(past) => {
                self.attempts.lock().set(id, past.attempts);
                self.tell_requeued(id, &properties, "an attempt at it has failed");
                self.hesitate().await;
                self.replace(id, &bytes, &properties, past).await;
            }
        }
    }

    /// Notes how far a task has come.
    async fn follow(
        &self,
        id: &str,
        milestones: &Milestones,
        note: &crate::transport::amqp::notes::Note,
    ) {
        milestones.submitted.cancelled().await;
        self.custody.submitted(id);
        milestones.executing.cancelled().await;
        self.custody.executing(id);
        note.executing().await;
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
}
