//! A message comes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use lapin::BasicProperties;
use tokio::sync::oneshot;

use super::Outbox;
use super::message::{Body, Class, OutboxMessage, Receipt, Route};
use crate::broker::spans;
use crate::telemetry::trace;

impl Outbox {
    /// Queues a message; never blocks.
    pub fn post(&self, mut message: OutboxMessage) {
        if matches!(message.route, Route::Queue(_)) && self.no_queues.load(Ordering::Relaxed) {
            return;
        }
        let context = message.trace.context();
        if context.is_some() && message.class != Class::Stream {
            // Queues are reached through the default exchange, which has no name.
            let exchange = match message.route {
                Route::Event => self.exchange.as_str(),
                Route::Queue(_) => "",
            };
            message.trace = spans::publish(exchange, &message.routing_key, context);
        }
        let mut state = self.lock();
        let number = state.next_number;
        state.next_number += 1;
        state.put(number, message);
        state.make_room(self.max_waiting_bytes);
        self.count(&state);
        drop(state);
        self.arrived.notify_one();
    }

    /// Queues a message and returns what resolves when the broker has confirmed it, over however
    /// many connections.
    pub fn post_confirmed(&self, routing_key: Arc<str>, body: Bytes) -> oneshot::Receiver<Receipt> {
        let message = OutboxMessage::new(routing_key, Body::Ready(body), Class::Result);
        self.post_awaited(message.below(trace::current()))
    }

    /// The same for a message into a queue.
    pub fn post_to_queue(
        &self,
        queue: Arc<str>,
        body: Bytes,
        properties: BasicProperties,
    ) -> oneshot::Receiver<Receipt> {
        let message = OutboxMessage::new(Arc::clone(&queue), Body::Ready(body), Class::Result);
        self.post_awaited(message.below(trace::current()).for_queue(queue, properties))
    }

    fn post_awaited(&self, message: OutboxMessage) -> oneshot::Receiver<Receipt> {
        let (sender, receiver) = oneshot::channel();
        if matches!(message.route, Route::Queue(_)) && self.no_queues.load(Ordering::Relaxed) {
            let _ = sender.send(Receipt::Unroutable);
            return receiver;
        }
        self.post(OutboxMessage {
            waiter: Some(sender),
            ..message
        });
        receiver
    }
}
