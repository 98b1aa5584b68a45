//! What instances and gateways do alike with a connection: hear what an exchange says to everybody,
//! and notice when the connection is blocked or lost.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer, Event};

use super::dial::describe;

/// A second look at the connection's state, should lapin not tell of its end.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// For messages that nobody acknowledges: each would come again by itself, or means nothing later.
pub fn unacknowledged() -> BasicConsumeOptions {
    BasicConsumeOptions {
        no_ack: true,
        exclusive: true,
        ..BasicConsumeOptions::default()
    }
}

/// What an exchange says with one of these routing keys, from now on.
///
/// # Errors
/// What the broker says, such as that there is no such exchange.
pub async fn hear(
    connection: &Connection,
    exchange: &ShortString,
    keys: &[&str],
) -> lapin::Result<Consumer> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare("".into(), options, FieldTable::default())
        .await?;
    for key in keys {
        channel
            .queue_bind(
                queue.name().clone(),
                exchange.clone(),
                ShortString::try_new(*key).unwrap_or_default(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
    }
    consume(&channel, queue.name().clone(), unacknowledged()).await
}

/// The messages of a queue; the broker makes up the consumer's name.
///
/// # Errors
/// What the broker says, such as that another one consumes exclusively.
pub async fn consume(
    channel: &Channel,
    queue: ShortString,
    options: BasicConsumeOptions,
) -> lapin::Result<Consumer> {
    let (name, arguments) = (ShortString::default(), FieldTable::default());
    channel.basic_consume(queue, name, options, arguments).await
}

/// Follows the connection's state, and returns why it ended. `blocked` is given the broker's reason
/// when it takes no messages any more, and `None` when it takes them again.
pub async fn until_lost(connection: &Connection, mut blocked: impl FnMut(Option<&str>)) -> String {
    let mut events = Box::pin(connection.events_listener());
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let mut is_blocked = false;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(reason)) if !is_blocked => {
                    is_blocked = true;
                    blocked(Some(reason.as_str()));
                }
                Some(Event::ConnectionUnblocked) if is_blocked => {
                    is_blocked = false;
                    blocked(None);
                }
                Some(Event::Error(error)) if !connection.status().connected() => {
                    return describe(&error);
                }
                Some(_) => {}
                None => return "the connection has ended".to_owned(),
            },
            _ = look.tick() => {
                if !connection.status().connected() {
                    return "the connection is closed".to_owned();
                }
            }
        }
    }
}
