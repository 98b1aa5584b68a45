//! Whoever wants the answers to a task in a queue of his own (fleet.md, "What instances gain"):
//! `reply_to`, and for what is only of interest now `<reply_to>.stream`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::Value;

use crate::broker::envelope::EventFactory;
use crate::broker::outbox::{Body, Class, Outbox, OutboxMessage};
use crate::telemetry::logging::epoch_ms;
use crate::telemetry::trace;

/// The address for answers of one task.
#[derive(Debug)]
pub struct Reply {
    queue: Arc<str>,
    stream: Arc<str>,
    correlation: Option<ShortString>,
    instance: Arc<str>,
    /// Header `previews`.
    pub(super) previews: bool,
    /// How many messages went into the queue that loses none, and how many into the other.
    lasting: AtomicU32,
    streamed: AtomicU32,
    outbox: Arc<Outbox>,
    events: EventFactory,
}

/// Makes them.
#[derive(Debug)]
pub(super) struct Replies {
    pub(super) instance: Arc<str>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) events: EventFactory,
}

impl Replies {
    /// Of a message; most have none.
    pub(super) fn of(&self, properties: &BasicProperties) -> Option<Arc<Reply>> {
        let queue = properties.reply_to().as_ref()?.as_str();
        // The stream's name must be one, too.
        if queue.is_empty() || queue.len() > 240 {
            return None;
        }
        Some(Arc::new(Reply {
            queue: queue.into(),
            stream: format!("{queue}.stream").into(),
            correlation: properties.correlation_id().clone(),
            instance: Arc::clone(&self.instance),
            previews: flag(properties, "previews"),
            lasting: AtomicU32::new(0),
            streamed: AtomicU32::new(0),
            outbox: Arc::clone(&self.outbox),
            events: self.events.clone(),
        }))
    }
}

impl Reply {
    /// Whether it belongs to the publication of this id.
    pub(super) fn correlates(&self, correlation: &str) -> bool {
        let own = self.correlation.as_ref();
        own.is_some_and(|own| own.as_str() == correlation)
    }

    /// The queue, and the properties of a message into it.
    pub(super) fn address(&self, stream: bool) -> (Arc<str>, BasicProperties) {
        let mut headers = FieldTable::default();
        let instance = AMQPValue::LongString(self.instance.as_bytes().into());
        headers.insert("instance".into(), instance);
        // Two queues have no order between them: this comes behind so many of the other one.
        let (own, other) = if stream {
            (&self.streamed, &self.lasting)
        } else {
            (&self.lasting, &self.streamed)
        };
        let number = own.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let after = other.load(Ordering::Relaxed);
        headers.insert("after".into(), AMQPValue::LongLongInt(after.into()));
        if stream {
            headers.insert("number".into(), AMQPValue::LongLongInt(number.into()));
        }
        let mut properties = crate::broker::publisher::properties(!stream).with_headers(headers);
        if let Some(correlation) = &self.correlation {
            properties = properties.with_correlation_id(correlation.clone());
        }
        let queue = if stream { &self.stream } else { &self.queue };
        (Arc::clone(queue), properties)
    }

    /// Tells something that goes to nobody else, for streams.
    pub fn tell(&self, id: &str, name: &str, data: &Value) {
        let body = self.events.of(Some(id), name, epoch_ms(), data);
        let (queue, properties) = self.address(true);
        let message = OutboxMessage::new(Arc::clone(&queue), Body::Ready(body), Class::Stream);
        let message = message.below(trace::current());
        self.outbox.post(message.for_queue(queue, properties));
    }

    /// Tells something that goes to nobody else, and must not be missed.
    pub fn tell_lasting(&self, id: &str, name: &str, data: &Value) {
        let body = self.events.of(Some(id), name, epoch_ms(), data);
        self.tell_result(name, body);
    }

    /// Tells a result event, in the right order with the others.
    pub(super) fn tell_result(&self, name: &str, body: Bytes) {
        let (queue, properties) = self.address(false);
        let key = format!("event.result.{name}").into();
        let message = OutboxMessage::new(key, Body::Ready(body), Class::Event);
        let message = message.below(trace::current());
        self.outbox.post(message.for_queue(queue, properties));
    }
}

/// A header that is true, as a boolean, a number or a word.
pub(super) fn flag(properties: &BasicProperties, name: &str) -> bool {
    let headers = properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get(name)) {
        Some(AMQPValue::Boolean(flag)) => *flag,
        Some(AMQPValue::LongString(text)) => text.as_bytes() == b"true",
        Some(AMQPValue::LongInt(number)) => *number != 0,
        Some(AMQPValue::LongLongInt(number)) => *number != 0,
        _ => false,
    }
}

/// A header that is a text.
pub(super) fn text(properties: &BasicProperties, name: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        _ => None,
    }
}
