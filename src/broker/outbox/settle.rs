//! What the broker says of messages that were sent.

use std::sync::atomic::Ordering;

use tracing::warn;

use super::Outbox;
use super::message::{Class, OutboxMessage, Receipt, Route};
use crate::telemetry::metrics;

impl Outbox {
    /// The broker lets us publish to the exchange only: whoever has posted into a queue has to do
    /// without.
    pub(in crate::broker) fn refuse_queues(&self) {
        self.no_queues.store(true, Ordering::Relaxed);
        let mut state = self.lock();
        let into_queues: Vec<u64> = state
            .waiting
            .iter()
            .filter(|(_, message)| matches!(message.route, Route::Queue(_)))
            .map(|(number, _)| *number)
            .collect();
        for number in into_queues {
            if let Some(waiter) = state.remove(number).and_then(|message| message.waiter) {
                let _ = waiter.send(Receipt::Unroutable);
            }
        }
        self.count(&state);
    }

    /// Tells what became of a message; without a receipt it is tried again.
    pub fn settle(&self, number: u64, receipt: Option<Receipt>) {
        let mut state = self.lock();
        let Some(mut message) = state.in_flight.remove(&number) else {
            return;
        };
        metrics::amqp_published(receipt == Some(Receipt::Confirmed));
        if let Some(receipt) = receipt {
            if receipt != Receipt::Confirmed {
                message.trace.fail("unroutable");
            }
            drop(std::mem::take(&mut message.trace));
            if let Some(waiter) = message.waiter {
                let _ = waiter.send(receipt);
            }
        } else if message.class != Class::Stream {
            // A listener's full queue refuses (`reject-publish`); other listeners have their copy,
            // so it does not come at once again.
            message.refused();
            state.put(number, message);
            self.arrived.notify_one();
        }
        self.count(&state);
    }

    /// The broker has closed the channel because of a message's size. `said` is its limit, or 0
    /// when it did not say it: then it was the largest on its way. What is above the limit is
    /// refused when its turn comes again.
    pub(in crate::broker) fn limit(&self, said: usize) {
        let state = self.lock();
        let sizes = state.in_flight.values().map(OutboxMessage::size);
        let limit = match said {
            0 => sizes.max().unwrap_or(1).saturating_sub(1),
            said => said,
        };
        if self.largest.swap(limit, Ordering::Relaxed) != limit {
            warn!(
                bytes = limit,
                "the AMQP broker takes no messages larger than this (max_message_size)"
            );
        }
        // What was proven before the operator lowered the limit.
        self.proven.fetch_min(limit, Ordering::Relaxed);
    }

    /// A message of so many bytes is larger than the broker takes.
    pub(in crate::broker) fn refuse(&self, number: u64, bytes: usize) {
        let mut state = self.lock();
        if let Some(mut message) = state.in_flight.remove(&number) {
            message.trace.fail("too_large");
            warn!(
                bytes,
                routing_key = %message.routing_key,
                "AMQP message is larger than the broker's max_message_size"
            );
            metrics::amqp_published(false);
            if let Some(waiter) = message.waiter {
                let _ = waiter.send(Receipt::TooLarge(self.largest()));
            }
        }
        self.count(&state);
    }

    /// The channel is gone: what was not confirmed waits again, in its old order.
    pub fn rewind(&self) {
        let mut state = self.lock();
        for (number, message) in std::mem::take(&mut state.in_flight) {
            if message.class != Class::Stream {
                state.put(number, message);
            }
        }
        for message in state.waiting.values_mut() {
            message.not_before = None;
        }
        self.count(&state);
        drop(state);
        self.arrived.notify_one();
    }
}
