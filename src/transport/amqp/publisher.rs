//! Empties the outbox into one channel in confirm mode.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};

use super::envelope::EventFactory;
use super::outbox::{Body, Outbox, Taken};

/// Messages published and not confirmed at a time.
const MAX_IN_FLIGHT: usize = 256;

/// Runs until the channel fails. What is not confirmed then stays in the outbox (the caller rewinds it).
pub(super) async fn run(
    outbox: &Outbox,
    events: &EventFactory,
    channel: &Channel,
    exchange: &ShortString,
) -> lapin::Error {
    let mut confirms = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some((number, confirmation)) = confirms.next(), if !confirms.is_empty() => match confirmation {
                // A negative answer means that the broker could not store it now; it is tried again after a while.
                Ok(confirmation) => outbox.settle(number, is_ack(&confirmation)),
                Err(error) => return error,
            },
            taken = outbox.next(), if confirms.len() < MAX_IN_FLIGHT => {
                let number = taken.number;
                match publish(channel, exchange, events, taken).await {
                    Ok(confirm) => confirms.push(async move { (number, confirm.await) }),
                    Err(error) => return error,
                }
            }
        }
    }
}

fn is_ack(confirmation: &lapin::Confirmation) -> bool {
    confirmation.is_ack()
}

async fn publish(
    channel: &Channel,
    exchange: &ShortString,
    events: &EventFactory,
    taken: Taken,
) -> lapin::Result<lapin::PublisherConfirm> {
    let body = match &taken.body {
        Body::Ready(bytes) => bytes.clone(),
        Body::Event {
            task_id,
            event,
            at_ms,
        } => events.of_event(task_id.as_deref(), event, *at_ms),
    };
    // The outbox only gets keys made by `sink::routing_key`, which are short enough.
    let key = ShortString::try_new(&*taken.routing_key).unwrap_or_default();
    // Not mandatory: nobody needs to listen.
    channel
        .basic_publish(
            exchange.clone(),
            key,
            BasicPublishOptions::default(),
            &body,
            properties(taken.persistent),
        )
        .await
}

/// JSON, persistent or not.
pub(super) fn properties(persistent: bool) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(if persistent { 2 } else { 1 })
}
