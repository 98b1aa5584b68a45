//! How a task leaves: acknowledged, given back as it came, or replaced by a new message.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use lapin::{Acker, BasicProperties};

use super::{Waiting, Worker};
use crate::broker::outbox::{Body, Class, OutboxMessage, Receipt};
use crate::telemetry::logging::epoch_ms;
use crate::telemetry::metrics;
use crate::telemetry::trace;
use crate::transport::amqp::attempts;
use crate::transport::amqp::attempts::Past;

/// How long a task that failed by our fault is kept before it goes back: long enough not to spin,
/// short enough for others.
const REQUEUE_DELAY: Duration = Duration::from_secs(1);

impl Worker {
    /// Whoever waits for the task hears that it goes back.
    pub(super) fn tell_requeued(&self, id: &str, properties: &BasicProperties, reason: &str) {
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

    pub(super) async fn acknowledge(&self, id: &Arc<str>) {
        metrics::amqp_task("ack");
        let waiting = self.leave(id);
        // An answer that cannot be given will be asked for again, by the same id.
        if waiting.iter().any(Acker::usable) {
            self.given_ids.lock().forget(id);
        }
        self.replaced.lock().forget(id);
        for acker in waiting {
            note(acker.ack(BasicAckOptions::default()).await);
        }
    }

    /// Puts a task back that is not charged with anything: as it came where the broker does not
    /// count that, else as a new message with the same past.
    pub(super) async fn give_back(
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

    /// Puts a task back as a new message with another past: published and confirmed first, then the
    /// old one is acknowledged.
    pub(super) async fn replace(
        &self,
        id: &Arc<str>,
        bytes: &Bytes,
        properties: &BasicProperties,
        past: Past,
    ) {
        metrics::amqp_task("requeue");
        let usable = |waiting: &Waiting| waiting.ackers.iter().any(Acker::usable);
        if !self.here.lock().get(id).is_some_and(usable) {
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
        self.attempts.lock().forget(id);
        for acker in waiting {
            if !note(acker.ack(BasicAckOptions::default()).await) {
                self.replaced.lock().set(id, past.copy);
            }
        }
    }

    /// Requeues a delivery that was not taken.
    pub(super) async fn send_back(&self, acker: &Acker) {
        metrics::amqp_task("requeue");
        self.hesitate().await;
        give_back(acker).await;
    }

    /// Before something goes back into the queue.
    pub(super) async fn hesitate(&self) {
        tokio::select! {
            () = tokio::time::sleep(REQUEUE_DELAY) => {}
            () = self.give_back.cancelled() => {}
        }
    }

    fn leave(&self, id: &str) -> Vec<Acker> {
        let left = self.here.lock().remove(id);
        self.left.notify_waiters();
        left.map(|waiting| waiting.ackers).unwrap_or_default()
    }
}

pub(super) async fn give_back(acker: &Acker) {
    note(
        acker
            .nack(BasicNackOptions {
                requeue: true,
                ..BasicNackOptions::default()
            })
            .await,
    );
}

/// Whether an answer could be given. If not, the channel is gone, and the broker hands the task out
/// again by itself.
pub(super) fn note(answered: lapin::Result<bool>) -> bool {
    match answered {
        Ok(true) => return true,
        Ok(false) => tracing::debug!("the channel of a task is gone; the broker delivers it again"),
        Err(error) => {
            tracing::debug!(%error, "a task could not be answered; the broker delivers it again")
        }
    }
    false
}
