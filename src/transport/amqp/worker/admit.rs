//! A delivery becomes a task that is here, or joins the one that is.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use lapin::Acker;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use tokio_util::sync::CancellationToken;

use super::hand_back::note;
use super::{Case, Waiting, Worker};
use crate::broker::spans;
use crate::telemetry::trace;
use crate::transport::amqp::task;
use crate::transport::amqp::task::MessageIds;

impl Worker {
    /// Takes a delivery. `recall` is cancelled when tasks that were not started shall go back: the
    /// consumer has stopped.
    pub(in crate::transport::amqp) async fn accept(
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
        if case.redelivered && past.copy < self.replaced.lock().get(&id) {
            tracing::info!(
                id = %id,
                "task was delivered again although it was published again; the old message is done \
                 with"
            );
            self.tracker
                .spawn(async move { note(acker.ack(BasicAckOptions::default()).await) });
            return;
        }
        let worker = Arc::clone(self);
        match self.here.lock().entry(Arc::clone(&id)) {
            Entry::Occupied(waiting)
                if waiting.get().task == task && waiting.get().copy < past.copy =>
            {
                // The message that takes the place of the one that is still here came faster than
                // its confirm.
                self.tracker
                    .spawn(async move { worker.admit_later(id, case, acker).await });
                return;
            }
            Entry::Occupied(mut waiting) if waiting.get().task == task => {
                tracing::info!(
                    id = %id,
                    "task was delivered again while it is here; it is not started twice"
                );
                waiting.get_mut().ackers.push(acker);
                return;
            }
            Entry::Occupied(_) => {
                tracing::debug!(
                    id = %id,
                    "another task with the id of one that is here was delivered; it goes back \
                     until that one has ended"
                );
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
        self.begin(id, case);
    }

    /// Runs a task that nobody runs yet, or answers it as before.
    fn begin(self: &Arc<Self>, id: Arc<str>, case: Case) {
        let worker = Arc::clone(self);
        let task = case.task.fingerprint;
        let crowded = self.len() > 1;
        let known = if case.redelivered {
            self.recent.lock().get(&id, task)
        } else {
            None
        };
        if known.is_none() {
            // What this id stood for before says nothing about this task.
            self.recent.lock().forget(&id);
        }
        if !case.redelivered {
            self.attempts.lock().forget(&id);
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
            if !self.here.lock().contains_key(&id) {
                break;
            }
            left.await;
        }
        self.admit(id, case, acker);
    }
}
