//! What waits, in its order.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::MAX_WAITING;
use super::message::{Body, Class, OutboxMessage};
use crate::telemetry::metrics;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) next_number: u64,
    pub(super) waiting: BTreeMap<u64, OutboxMessage>,
    pub(super) waiting_streams: BTreeSet<u64>,
    waiting_events: BTreeSet<u64>,
    waiting_bytes: usize,
    pub(super) in_flight: BTreeMap<u64, OutboxMessage>,
}

impl State {
    pub(super) fn put(&mut self, number: u64, message: OutboxMessage) {
        match message.class {
            Class::Stream => _ = self.waiting_streams.insert(number),
            Class::Event => _ = self.waiting_events.insert(number),
            Class::Result => {}
        }
        self.waiting_bytes += message.bytes;
        self.waiting.insert(number, message);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<OutboxMessage> {
        let message = self.waiting.remove(&number)?;
        self.waiting_streams.remove(&number);
        self.waiting_events.remove(&number);
        self.waiting_bytes -= message.bytes;
        Some(message)
    }

    /// # Errors
    /// As [`Outbox::take`].
    pub(super) fn first_due(&self) -> Result<u64, Option<Instant>> {
        let mut earliest = None;
        let now = Instant::now();
        for (number, message) in &self.waiting {
            match message.not_before.filter(|moment| *moment > now) {
                None => return Ok(*number),
                Some(moment) => {
                    earliest = Some(earliest.map_or(moment, |known: Instant| known.min(moment)))
                }
            }
        }
        Err(earliest)
    }

    pub(super) fn make_room(&mut self, max_bytes: usize) {
        while self.waiting.len() > MAX_WAITING || self.waiting_bytes > max_bytes {
            let Some(number) = self
                .waiting_streams
                .first()
                .or_else(|| self.waiting_events.first())
                .copied()
            else {
                return;
            };
            if let Some(message) = self.remove(number) {
                if matches!(message.body, Body::Ready(_)) {
                    tracing::warn!(
                        routing_key = %message.routing_key,
                        bytes = message.bytes,
                        "too much waits for the AMQP broker: the result of a prompt from another \
                         transport is not published"
                    );
                }
                metrics::event_dropped(
                    "amqp",
                    message.routing_key.rsplit('.').next().unwrap_or_default(),
                );
            }
        }
    }
}
