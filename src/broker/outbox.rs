//! Messages on their way to the broker, kept until it has confirmed them. Outlives connections.
//!
//! One queue in one order, so that a task's result never overtakes its progress. When it grows too long, stream events are
//! dropped first, then other events; results of tasks never.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use serde_json::Value;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tracing::warn;

use super::spans;
use crate::events::SystemEvent;
use crate::telemetry::metrics;
use crate::telemetry::trace::{self, Context, Span};

/// Messages that may wait before some are dropped.
const MAX_WAITING: usize = 2_000;
/// Bytes of droppable messages that may wait, beside the largest result.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// How long a message that the broker has refused waits before it is tried again; twice as long at every refusal.
const SHORTEST_REFUSAL: Duration = Duration::from_millis(200);
const LONGEST_REFUSAL: Duration = Duration::from_secs(30);

/// No broker refuses a message of this many bytes.
const SURE_TO_BE_TAKEN: usize = 64 * 1024;

/// What may happen to a message, the most expendable first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Transient, dropped first, not repeated when the connection breaks.
    Stream,
    /// Persistent, dropped only when there is no stream event left to drop.
    Event,
    /// Persistent, never dropped.
    Result,
}

/// The body, or what it is made of when its turn comes.
#[derive(Debug, Clone)]
pub enum Body {
    Ready(Bytes),
    Event {
        task_id: Option<Arc<str>>,
        event: Arc<SystemEvent>,
        at_ms: u64,
    },
}

/// Where a message goes.
#[derive(Debug, Clone)]
pub enum Route {
    /// To the exchange, under its routing key.
    Event,
    /// Into the queue that its routing key names, with these properties; it must be there.
    Queue(Box<BasicProperties>),
}

/// One message.
#[derive(Debug)]
pub struct OutboxMessage {
    pub routing_key: Arc<str>,
    pub route: Route,
    pub body: Body,
    pub class: Class,
    waiter: Option<oneshot::Sender<Receipt>>,
    /// Until it is confirmed; of stream events only the context that goes out.
    trace: Span,
    /// What counts for the bound on bytes.
    bytes: usize,
    /// How often the broker has refused it, and until when it waits for that.
    refusals: u32,
    not_before: Option<Instant>,
}

/// What became of a message somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// The broker has it.
    Confirmed,
    /// The broker will never take it: it is larger than the broker's `max_message_size`, in bytes.
    TooLarge(usize),
    /// The queue that it was for is gone.
    Unroutable,
}

impl OutboxMessage {
    pub fn new(routing_key: Arc<str>, body: Body, class: Class) -> Self {
        let bytes = match &body {
            _ if class == Class::Result => 0,
            Body::Ready(bytes) => bytes.len(),
            Body::Event { event, .. } => weight(&event.data),
        };
        Self {
            routing_key,
            route: Route::Event,
            body,
            class,
            waiter: None,
            trace: Span::default(),
            bytes,
            refusals: 0,
            not_before: None,
        }
    }

    /// The span that it belongs to.
    #[must_use]
    pub fn below(self, context: Option<Context>) -> Self {
        Self {
            trace: Span::passing(context),
            ..self
        }
    }

    /// The same for a queue, with these properties.
    #[must_use]
    pub fn for_queue(self, queue: Arc<str>, properties: BasicProperties) -> Self {
        Self {
            routing_key: queue,
            route: Route::Queue(Box::new(properties)),
            ..self
        }
    }

    fn size(&self) -> usize {
        match &self.body {
            Body::Ready(bytes) => bytes.len(),
            Body::Event { event, .. } => event.data.to_string().len(),
        }
    }

    fn refused(&mut self) {
        let wait = SHORTEST_REFUSAL
            .saturating_mul(2_u32.saturating_pow(self.refusals))
            .min(LONGEST_REFUSAL);
        self.refusals += 1;
        self.not_before = Some(Instant::now() + wait);
    }
}

/// Roughly the bytes a value holds; much cheaper than writing it out.
fn weight(value: &Value) -> usize {
    const NODE: usize = 32;
    match value {
        Value::String(text) => NODE + text.len(),
        Value::Array(items) => items.iter().map(weight).sum::<usize>() + NODE,
        Value::Object(members) => {
            members
                .iter()
                .map(|(name, member)| NODE + name.len() + weight(member))
                .sum::<usize>()
                + NODE
        }
        _ => NODE,
    }
}

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

#[derive(Debug, Default)]
struct State {
    next_number: u64,
    waiting: BTreeMap<u64, OutboxMessage>,
    waiting_streams: BTreeSet<u64>,
    waiting_events: BTreeSet<u64>,
    waiting_bytes: usize,
    in_flight: BTreeMap<u64, OutboxMessage>,
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

    /// Queues a message and returns what resolves when the broker has confirmed it, over however many connections.
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

    /// The broker lets us publish to the exchange only: whoever has posted into a queue has to do without.
    pub(super) fn refuse_queues(&self) {
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
            // A listener's full queue refuses (`reject-publish`); other listeners have their copy, so it does not come at once again.
            message.refused();
            state.put(number, message);
            self.arrived.notify_one();
        }
        self.count(&state);
    }

    /// The broker has closed the channel because of a message's size. `said` is its limit, or 0 when it did not say it: then
    /// it was the largest on its way. What is above the limit is refused when its turn comes again.
    pub(super) fn limit(&self, said: usize) {
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
    pub(super) fn refuse(&self, number: u64, bytes: usize) {
        let mut state = self.lock();
        if let Some(mut message) = state.in_flight.remove(&number) {
            message.trace.fail("too_large");
            warn!(bytes, routing_key = %message.routing_key, "AMQP message is larger than the broker's max_message_size");
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, number: u64, message: OutboxMessage) {
        match message.class {
            Class::Stream => _ = self.waiting_streams.insert(number),
            Class::Event => _ = self.waiting_events.insert(number),
            Class::Result => {}
        }
        self.waiting_bytes += message.bytes;
        self.waiting.insert(number, message);
    }

    fn remove(&mut self, number: u64) -> Option<OutboxMessage> {
        let message = self.waiting.remove(&number)?;
        self.waiting_streams.remove(&number);
        self.waiting_events.remove(&number);
        self.waiting_bytes -= message.bytes;
        Some(message)
    }

    /// # Errors
    /// As [`Outbox::take`].
    fn first_due(&self) -> Result<u64, Option<Instant>> {
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

    fn make_room(&mut self, max_bytes: usize) {
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
                    tracing::warn!(routing_key = %message.routing_key, bytes = message.bytes, "too much waits for the AMQP broker: the result of a prompt from another transport is not published");
                }
                metrics::event_dropped(
                    "amqp",
                    message.routing_key.rsplit('.').next().unwrap_or_default(),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(key: &str, class: Class) -> OutboxMessage {
        OutboxMessage::new(key.into(), Body::Ready(Bytes::from_static(b"x")), class)
    }

    fn keys(outbox: &Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.take().ok())
            .map(|taken| taken.routing_key.to_string())
            .collect()
    }

    #[tokio::test]
    async fn what_is_not_confirmed_comes_again_in_its_order() {
        let outbox = Outbox::new(0);
        outbox.post(message("a", Class::Event));
        outbox.post(message("s", Class::Stream));
        let mut confirmed = outbox.post_confirmed("r".into(), Bytes::new());
        let first = outbox.next().await;
        outbox.settle(first.number, Some(Receipt::Confirmed));
        assert_eq!(keys(&outbox), ["s", "r"]);
        outbox.rewind();
        assert!(confirmed.try_recv().is_err());
        let again = outbox.next().await;
        assert_eq!(&*again.routing_key, "r", "a stream event is not repeated");
        outbox.settle(again.number, None);
        // After a short wait, because the broker refused it.
        let again = outbox.next().await;
        outbox.settle(again.number, Some(Receipt::Confirmed));
        confirmed.await.unwrap();
        outbox.flushed().await;
    }

    #[test]
    fn stream_events_are_dropped_first_and_results_never() {
        let outbox = Outbox::new(0);
        for _ in 0..MAX_WAITING {
            outbox.post(message("stream.progress", Class::Stream));
        }
        for _ in 0..10 {
            outbox.post(message("event", Class::Event));
        }
        let kept = keys(&outbox);
        assert_eq!(
            (
                kept.len(),
                kept.iter().filter(|key| *key == "event").count()
            ),
            (MAX_WAITING, 10)
        );
        for _ in 0..MAX_WAITING + 5 {
            outbox.post(message("result", Class::Result));
        }
        outbox.post(message("event", Class::Event));
        assert_eq!(keys(&outbox).len(), MAX_WAITING + 5);
    }

    #[test]
    fn what_the_broker_refuses_waits_longer_each_time_and_holds_nobody_up() {
        let outbox = Outbox::new(0);
        outbox.post(message("refused", Class::Event));
        for wait in [200, 400, 800] {
            let before = Instant::now();
            outbox.settle(outbox.take().unwrap().number, None);
            outbox.post(message("other", Class::Event));
            let other = outbox.take().unwrap();
            assert_eq!(&*other.routing_key, "other");
            outbox.settle(other.number, Some(Receipt::Confirmed));
            let again = outbox.take().unwrap_err().unwrap() - before;
            assert!((wait..wait + 190).contains(&again.as_millis()), "{again:?}");
            // A new connection may do better at once.
            outbox.rewind();
        }
    }

    #[test]
    fn events_count_with_what_they_hold_and_the_largest_result_has_room() {
        let outbox = Outbox::new(8 << 20);
        let data = Arc::new(serde_json::json!({"image_data": "x".repeat(1 << 20)}));
        for _ in 0..100 {
            let event = Arc::new(SystemEvent {
                source: crate::events::Source::Comfy,
                name: "binary_preview".into(),
                data: Arc::clone(&data),
                prompt: None,
            });
            outbox.post(OutboxMessage::new(
                "preview".into(),
                Body::Event {
                    task_id: None,
                    event,
                    at_ms: 0,
                },
                Class::Stream,
            ));
        }
        outbox.post(OutboxMessage::new(
            "result".into(),
            Body::Ready(Bytes::from(vec![0; 8 << 20])),
            Class::Event,
        ));
        let kept = keys(&outbox);
        assert!(
            (50..72).contains(&kept.len()) && kept.last().unwrap() == "result",
            "{}",
            kept.len()
        );
    }
}
