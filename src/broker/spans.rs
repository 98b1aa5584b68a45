//! The trace context in the headers of messages, and the spans around them.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::telemetry::trace::{Context, Kind, Span, names};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// What came with a message.
pub fn incoming(properties: &BasicProperties) -> Option<Context> {
    let headers = properties.headers().as_ref()?.inner();
    let text = |name: &str| match headers.get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    };
    Context::parse(text(TRACEPARENT)?, text(TRACESTATE))
}

/// Puts a context into the headers of a message of ours.
pub fn outgoing(properties: BasicProperties, context: &Context) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    put(&mut headers, TRACEPARENT, &context.traceparent());
    if let Some(state) = context.tracestate() {
        put(&mut headers, TRACESTATE, state);
    }
    properties.with_headers(headers)
}

fn put(headers: &mut FieldTable, name: &str, text: &str) {
    headers.insert(name.into(), AMQPValue::LongString(text.into()));
}

/// The span of a task, from its arrival until it is answered. `id` is the task's own.
pub fn process(queue: &str, properties: &BasicProperties, id: &str, redelivered: bool) -> Span {
    let parent = incoming(properties);
    let mut span = Span::begin("process", Kind::Consumer, parent.as_ref());
    if span.is_recorded() {
        span.rename(|| format!("process {queue}"));
        span.set(names::MESSAGING_SYSTEM, "rabbitmq");
        span.set(names::MESSAGING_OPERATION, "process");
        span.set(names::MESSAGING_OPERATION_TYPE, "process");
        span.set(names::MESSAGING_DESTINATION, queue.to_owned());
        let of_message = properties.message_id().as_ref();
        let message_id = of_message.map_or(id, |id| id.as_str());
        span.set(names::MESSAGING_MESSAGE_ID, message_id.to_owned());
        span.set(names::REDELIVERED, redelivered);
    }
    span
}

/// The span of a message of ours, until the broker has confirmed it. Without an exchange it goes
/// into the queue of that name.
pub fn publish(exchange: &str, routing_key: &str, parent: Option<&Context>) -> Span {
    let mut span = Span::below("publish", Kind::Producer, parent);
    if span.is_recorded() {
        let destination = match exchange {
            "" => routing_key.to_owned(),
            exchange => format!("{exchange}:{routing_key}"),
        };
        span.rename(|| format!("publish {destination}"));
        span.set(names::MESSAGING_SYSTEM, "rabbitmq");
        span.set(names::MESSAGING_OPERATION, "publish");
        span.set(names::MESSAGING_OPERATION_TYPE, "send");
        span.set(names::MESSAGING_DESTINATION, destination);
        span.set(names::RABBITMQ_ROUTING_KEY, routing_key.to_owned());
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_goes_through_headers() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = Context::parse(parent, Some("a=1")).unwrap();
        let sent = outgoing(BasicProperties::default().with_priority(1), &context);
        assert_eq!(sent.priority(), &Some(1));
        assert_eq!(incoming(&sent), Some(context));
        let mut headers = FieldTable::default();
        headers.insert(TRACEPARENT.into(), AMQPValue::LongInt(1));
        let odd = BasicProperties::default().with_headers(headers);
        assert_eq!(incoming(&odd), None);
        assert_eq!(incoming(&BasicProperties::default()), None);
    }
}
