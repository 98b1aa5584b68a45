//! A message that waits, and where it goes.

use std::sync::Arc;

use bytes::Bytes;
use lapin::BasicProperties;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{LONGEST_REFUSAL, SHORTEST_REFUSAL};
use crate::events::SystemEvent;
use crate::telemetry::trace::{Context, Span};

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
    pub(super) waiter: Option<oneshot::Sender<Receipt>>,
    /// Until it is confirmed; of stream events only the context that goes out.
    pub(super) trace: Span,
    /// What counts for the bound on bytes.
    pub(super) bytes: usize,
    /// How often the broker has refused it, and until when it waits for that.
    pub(super) refusals: u32,
    pub(super) not_before: Option<Instant>,
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

    pub(super) fn size(&self) -> usize {
        match &self.body {
            Body::Ready(bytes) => bytes.len(),
            Body::Event { event, .. } => event.data.to_string().len(),
        }
    }

    pub(super) fn refused(&mut self) {
        let wait = SHORTEST_REFUSAL
            .saturating_mul(2_u32.saturating_pow(self.refusals))
            .min(LONGEST_REFUSAL);
        self.refusals += 1;
        self.not_before = Some(Instant::now() + wait);
    }
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
