//! Answers, published until they are confirmed.

use std::sync::Arc;

use lapin::Acker;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use tokio::sync::oneshot;

use super::hand_back::note;
use super::{Parts, Worker};
use crate::broker::outbox::{Body, Class, OutboxMessage, Receipt};
use crate::error::{Code, Failure};
use crate::telemetry::{metrics, trace};
use crate::transport::amqp::TaskOutcome;
use crate::transport::amqp::answers::too_large_for_broker;
use crate::transport::amqp::memory::Answer;
use crate::transport::amqp::reply::Reply;
use crate::transport::amqp::task::{Refusal, Task};

impl Worker {
    /// Publishes the end of a prompt that came through another transport (`AMQP_PUBLISH_ALL`).
    /// Nobody waits for the confirm.
    pub(in crate::transport::amqp) async fn publish_result(&self, id: &str, outcome: &TaskOutcome) {
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

    /// Publishes an answer until it is confirmed and returns it, or the error that had to take its
    /// place.
    pub(super) async fn deliver(
        &self,
        id: &str,
        answer: Answer,
        reply: Option<&Reply>,
    ) -> Option<Answer> {
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

    /// A task that nobody waits for any more.
    pub(super) async fn leave_unrun(&self, id: &Arc<str>, reply: Option<&Reply>) {
        tracing::info!(id = %id, "task is not run: its gateway does not wait for it any more");
        let message = "The task was cancelled, or has ended already.";
        let failure = Failure::new(Code::ExecutionInterrupted, message);
        let answer = self.parts.answers.failure(id, &failure);
        if self.deliver(id, answer, reply).await.is_some() {
            self.acknowledge(id).await;
        }
    }

    /// A task that has taken ComfyUI or an instance with it often enough is not run once more.
    pub(super) async fn give_up_unrun(
        &self,
        id: &Arc<str>,
        task: Task,
        attempts: u32,
        reply: Option<&Reply>,
    ) {
        let message = format!(
            "The task is given up after {attempts} attempts (AMQP_MAX_ATTEMPTS): each ended with \
             ComfyUI or the whole instance."
        );
        let failure = Failure::new(Code::ExecutionError, message);
        tracing::error!(id = %id, attempts, "task is given up (AMQP_MAX_ATTEMPTS)");
        self.parts.runner.given_up(id, task.body, &failure).await;
        let answer = self.parts.answers.failure(id, &failure);
        self.attempts.lock().forget(id);
        if let Some(answer) = self.deliver(id, answer, reply).await {
            self.recent.lock().insert(id, task.fingerprint, answer);
            self.acknowledge(id).await;
        }
    }

    pub(super) async fn refuse(&self, acker: &Acker, refusal: Refusal, reply: Option<&Reply>) {
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

    pub(super) async fn answer_again(
        &self,
        id: &Arc<str>,
        answer: Option<Answer>,
        reply: Option<&Reply>,
    ) {
        tracing::info!(
            id = %id,
            "task was delivered again after its end; it is answered from memory"
        );
        if let Some(answer) = answer
            && self.deliver(id, answer, reply).await.is_none()
        {
            return;
        }
        self.acknowledge(id).await;
    }
}

/// Whether a reply is where it belongs; a queue that is gone wants none.
async fn settled(replied: Option<oneshot::Receiver<Receipt>>) -> Option<()> {
    match replied {
        Some(replied) => replied.await.ok().map(drop),
        None => Some(()),
    }
}
