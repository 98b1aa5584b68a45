//! How often a task has taken ComfyUI or an instance with it, as its message tells it (attack.md,
//! A41). The count belongs to the task: it travels in headers, through whatever deaths and to
//! whichever instance.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

/// Attempts that have failed by our fault.
const ATTEMPTS: &str = "x-comfyui-api-attempts";
/// It may be the one that killed ComfyUI: it runs alone next, so that it can be told.
const SUSPECT: &str = "x-comfyui-api-suspect";
/// Counts how often the message was published again by an instance.
const COPY: &str = "x-comfyui-api-copy";
/// What quorum queues count: how often it was handed out and came back.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// What a message tells of the past of its task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) attempts: u32,
    pub(super) suspect: bool,
    pub(super) copy: u32,
    /// Of a queue that counts, once it has come back.
    pub(super) deliveries: Option<u32>,
}

impl Past {
    pub(super) fn of(properties: &BasicProperties) -> Self {
        let number = |name: &str| {
            let headers = properties.headers().as_ref()?;
            whole(headers.inner().get(name)?)
        };
        Self {
            attempts: number(ATTEMPTS).unwrap_or(0),
            suspect: number(SUSPECT).is_some_and(|flag| flag > 0),
            copy: number(COPY).unwrap_or(0),
            deliveries: number(DELIVERY_COUNT).filter(|count| *count > 0),
        }
    }
}

fn whole(value: &AMQPValue) -> Option<u32> {
    let number = match value {
        AMQPValue::ShortShortInt(number) => i64::from(*number),
        AMQPValue::ShortShortUInt(number) => i64::from(*number),
        AMQPValue::ShortInt(number) => i64::from(*number),
        AMQPValue::ShortUInt(number) => i64::from(*number),
        AMQPValue::LongInt(number) => i64::from(*number),
        AMQPValue::LongUInt(number) => i64::from(*number),
        AMQPValue::LongLongInt(number) => *number,
        AMQPValue::Boolean(flag) => i64::from(*flag),
        _ => return None,
    };
    u32::try_from(number.max(0)).ok()
}

/// The properties of the same task published again. `id` becomes the message's, so that a task
/// without one keeps it.
pub(super) fn again(properties: &BasicProperties, id: &str, past: Past) -> BasicProperties {
    let mut headers = FieldTable::default();
    let old = properties.headers().iter();
    for (name, value) in old.flat_map(|headers| headers.inner()) {
        if name.as_str() != DELIVERY_COUNT {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers.insert(
        ATTEMPTS.into(),
        AMQPValue::LongLongInt(past.attempts.into()),
    );
    headers.insert(SUSPECT.into(), AMQPValue::Boolean(past.suspect));
    headers.insert(COPY.into(), AMQPValue::LongLongInt(past.copy.into()));
    let mut again = BasicProperties::default()
        .with_headers(headers)
        .with_delivery_mode(properties.delivery_mode().unwrap_or(2));
    // All but the user, whom the broker would compare with ours.
    type Setter = fn(BasicProperties, ShortString) -> BasicProperties;
    let texts: [(&Option<ShortString>, Setter); 8] = [
        (
            properties.content_type(),
            BasicProperties::with_content_type,
        ),
        (
            properties.content_encoding(),
            BasicProperties::with_content_encoding,
        ),
        (
            properties.correlation_id(),
            BasicProperties::with_correlation_id,
        ),
        (properties.reply_to(), BasicProperties::with_reply_to),
        (properties.expiration(), BasicProperties::with_expiration),
        (properties.message_id(), BasicProperties::with_message_id),
        (properties.kind(), BasicProperties::with_type),
        (properties.app_id(), BasicProperties::with_app_id),
    ];
    for (text, with) in texts {
        if let Some(text) = text {
            again = with(again, text.clone());
        }
    }
    if let Some(priority) = properties.priority() {
        again = again.with_priority(*priority);
    }
    if let Some(timestamp) = properties.timestamp() {
        again = again.with_timestamp(*timestamp);
    }
    match ShortString::try_new(id) {
        Ok(id) if properties.message_id().is_none() => again.with_message_id(id),
        _ => again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_published_again_keeps_what_it_has_and_counts() {
        let mut headers = FieldTable::default();
        headers.insert("theirs".into(), AMQPValue::LongString("x".into()));
        headers.insert(DELIVERY_COUNT.into(), AMQPValue::LongLongInt(7));
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_priority(5)
            .with_user_id("somebody".into())
            .with_reply_to("answers".into());
        assert_eq!(Past::of(&properties).deliveries, Some(7));
        let past = Past {
            attempts: 2,
            suspect: true,
            copy: 3,
            deliveries: None,
        };
        let again = again(&properties, "an id", past);
        assert_eq!(Past::of(&again), past, "the broker counts anew");
        assert_eq!(
            (again.priority(), again.user_id(), again.delivery_mode()),
            (&Some(5), &None, &Some(2))
        );
        let text = |text: &Option<ShortString>| text.as_ref().map(|text| text.to_string());
        assert_eq!(
            (text(again.message_id()), text(again.reply_to())),
            (Some("an id".to_owned()), Some("answers".to_owned()))
        );
        assert!(again.headers().as_ref().unwrap().contains_key("theirs"));
        assert_eq!(Past::of(&BasicProperties::default()), Past::default());
    }
}
