//! Messages on their way to the broker, kept until it has confirmed them. Outlives connections.
//!
//! One queue in one order, so that a task's result never overtakes its progress. When it grows too
//! long, stream events are dropped first, then other events; results of tasks never.

mod message;
mod post;
mod settle;
mod state;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use state::State;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::telemetry::trace::Context;

pub use message::{Body, Class, OutboxMessage, Receipt, Route};

/// Messages that may wait before some are dropped.
const MAX_WAITING: usize = 2_000;

/// Bytes of droppable messages that may wait, beside the largest result.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// How long a message that the broker has refused waits before it is tried again; twice as long at
/// every refusal.
const SHORTEST_REFUSAL: Duration = Duration::from_millis(200);

const LONGEST_REFUSAL: Duration = Duration::from_secs(30);

/// No broker refuses a message of this many bytes.
const SURE_TO_BE_TAKEN: usize = 64 * 1024;

/// A message whose turn has come. Give its number to [`Outbox::settle`].
#[derive(Debug)]
pub struct Taken {
    pub number: u64,
    pub routing_key: Arc<str>,
    pub route: Route,
    pub body: Body,
    pub persistent: bool,
    /// For its headers.
    pub context: Option<Context>,
}

/// The queue. Shared.
#[derive(Debug)]
pub struct Outbox {
    max_waiting_bytes: usize,
    /// For the names of spans.
    exchange: String,
    state: Mutex<State>,
    arrived: Notify,
    /// The broker's `max_message_size`, once it has said it. Remembered beyond the connection.
    largest: AtomicUsize,
    /// The broker has taken a message of this many bytes.
    proven: AtomicUsize,
    /// We may not publish into queues.
    no_queues: AtomicBool,
    /// Persistent messages that are not confirmed.
    unconfirmed: watch::Sender<usize>,
}

impl Outbox {
    /// Results of prompts from other transports have room for one of the largest size.
    pub fn new(max_result_bytes: u64) -> Self {
        let max_waiting_bytes = MAX_WAITING_BYTES
            .saturating_add(usize::try_from(max_result_bytes).unwrap_or(usize::MAX));
        Self {
            max_waiting_bytes,
            exchange: String::new(),
            state: Mutex::default(),
            arrived: Notify::new(),
            largest: AtomicUsize::new(usize::MAX),
            proven: AtomicUsize::new(SURE_TO_BE_TAKEN),
            no_queues: AtomicBool::new(false),
            unconfirmed: watch::Sender::default(),
        }
    }

    /// The exchange that it is emptied into.
    #[must_use]
    pub fn into_exchange(self, name: &str) -> Self {
        Self {
            exchange: name.to_owned(),
            ..self
        }
    }

    /// What the broker takes at most, as far as it has said it.
    pub fn largest(&self) -> usize {
        self.largest.load(Ordering::Relaxed)
    }

    /// What the broker is thought to take at most, before it says it.
    pub fn assume(&self, bytes: usize) {
        self.largest.fetch_min(bytes, Ordering::Relaxed);
    }

    /// Whether the broker takes a message of this many bytes, as far as is known.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        bytes <= self.largest()
    }

    /// Whether the broker has never taken a message as large as this one.
    pub(super) fn is_unproven(&self, bytes: usize) -> bool {
        bytes > self.proven.load(Ordering::Relaxed)
    }

    /// The broker has taken a message of this many bytes.
    pub(super) fn prove(&self, bytes: usize) {
        self.proven.fetch_max(bytes, Ordering::Relaxed);
    }

    /// The next message. One caller at a time.
    pub async fn next(&self) -> Taken {
        loop {
            let later = match self.take() {
                Ok(taken) => return taken,
                Err(later) => later,
            };
            let held_over = async {
                match later {
                    Some(later) => tokio::time::sleep_until(later).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.arrived.notified() => {}
                () = held_over => {}
            }
        }
    }

    /// # Errors
    /// When nothing may go now; then when to look again, if something waits.
    fn take(&self) -> Result<Taken, Option<Instant>> {
        let mut state = self.lock();
        let number = state.first_due()?;
        let message = state.remove(number).ok_or(None)?;
        let taken = Taken {
            number,
            routing_key: Arc::clone(&message.routing_key),
            route: message.route.clone(),
            body: message.body.clone(),
            persistent: message.class != Class::Stream,
            context: message.trace.context().cloned(),
        };
        state.in_flight.insert(number, message);
        Ok(taken)
    }

    /// Resolves when every persistent message is confirmed.
    pub async fn flushed(&self) {
        // Fails only when the sender is gone, and that is `self`.
        let _ = self
            .unconfirmed
            .subscribe()
            .wait_for(|count| *count == 0)
            .await;
    }

    fn count(&self, state: &State) {
        let waiting = state.waiting.len() - state.waiting_streams.len();
        let in_flight = state
            .in_flight
            .values()
            .filter(|message| message.class != Class::Stream)
            .count();
        self.unconfirmed.send_if_modified(|count| {
            std::mem::replace(count, waiting + in_flight) != waiting + in_flight
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}
