//! Empties the outbox into channels in confirm mode, one after the other for as long as the
//! connection stands.
//!
//! A message that is larger than any before may be larger than the broker takes, and then it closes
//! the channel, with every confirm that is still owed. Such a message goes alone: what it costs is
//! the channel, not a second copy of its neighbours.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection};

use super::envelope::EventFactory;
use super::outbox::{Body, Outbox, Receipt, Route, Taken};
use super::spans;
use super::topology::Topology;
use super::{Reopening, confirming_channel};

/// Messages published and not confirmed at a time.
const MAX_IN_FLIGHT: usize = 256;

/// Runs until the connection fails. What is not confirmed then stays in the outbox (the caller
/// rewinds it).
pub async fn run(
    outbox: &Outbox,
    events: &EventFactory,
    connection: &Connection,
    topology: &Topology,
) -> lapin::Error {
    let mut reopening = Reopening::of("publishing");
    loop {
        let error = match confirming_channel(connection).await {
            Ok(channel) => {
                let (confirmed, error) = empty(outbox, events, &channel, &topology.exchange).await;
                if confirmed {
                    reopening.works();
                }
                error
            }
            Err(error) => error,
        };
        let oversized = oversized(&error);
        if let Some(limit) = oversized {
            outbox.limit(limit);
        }
        if !connection.status().connected() {
            return error;
        }
        outbox.rewind();
        if oversized.is_some() {
            continue;
        }
        if is_default_exchange_forbidden(&error) {
            outbox.refuse_queues();
        }
        if let Err(error) = reopening.after(error, connection).await {
            return error;
        }
        // The exchange may have been deleted.
        let _ = topology.ensure(connection).await;
    }
}

/// Publishes until the channel fails. Says also whether the broker has confirmed anything.
async fn empty(
    outbox: &Outbox,
    events: &EventFactory,
    channel: &Channel,
    exchange: &ShortString,
) -> (bool, lapin::Error) {
    let mut confirms = FuturesUnordered::new();
    let mut confirmed = false;
    loop {
        tokio::select! {
            biased;
            Some((number, confirmation)) = confirms.next(), if !confirms.is_empty() => match confirmation {
                Ok(confirmation) => {
                    confirmed = true;
                    outbox.settle(number, receipt(confirmation));
                }
                Err(error) => return (confirmed, error),
            },
            taken = outbox.next(), if confirms.len() < MAX_IN_FLIGHT => {
                let number = taken.number;
                let body = written(events, &taken);
                if !outbox.takes(body.len()) {
                    outbox.refuse(number, body.len());
                    continue;
                }
                let unproven = outbox.is_unproven(body.len());
                while unproven && let Some((number, confirmation)) = confirms.next().await {
                    match confirmation {
                        Ok(confirmation) => outbox.settle(number, receipt(confirmation)),
                        Err(error) => return (confirmed, error),
                    }
                }
                let length = body.len();
                let published = publish(channel, exchange, taken, &body).await;
                drop(body);
                match published {
                    Ok(confirm) if unproven => match confirm.await {
                        Ok(confirmation) => {
                            confirmed = true;
                            outbox.prove(length);
                            outbox.settle(number, receipt(confirmation));
                        }
                        Err(error) => return (confirmed, error),
                    },
                    Ok(confirm) => confirms.push(async move { (number, confirm.await) }),
                    Err(error) => return (confirmed, error),
                }
            }
        }
    }
}

/// A negative answer means that the broker could not store it now.
fn receipt(confirmation: Confirmation) -> Option<Receipt> {
    match confirmation {
        Confirmation::Ack(None) => Some(Receipt::Confirmed),
        // Only what asked for it is returned.
        Confirmation::Ack(Some(_)) => Some(Receipt::Unroutable),
        Confirmation::Nack(_) | Confirmation::NotRequested => None,
    }
}

fn written(events: &EventFactory, taken: &Taken) -> bytes::Bytes {
    match &taken.body {
        Body::Ready(bytes) => bytes.clone(),
        Body::Event {
            task_id,
            event,
            at_ms,
        } => events.of_event(task_id.as_deref(), event, *at_ms),
    }
}

async fn publish(
    channel: &Channel,
    exchange: &ShortString,
    taken: Taken,
    body: &[u8],
) -> lapin::Result<lapin::PublisherConfirm> {
    // Whoever posts makes keys that are short enough.
    let key = ShortString::try_new(&*taken.routing_key).unwrap_or_default();
    let context = taken.context;
    match taken.route {
        // Not mandatory: nobody needs to listen.
        Route::Event => {
            let options = BasicPublishOptions::default();
            let mut properties = properties(taken.persistent);
            if let Some(context) = &context {
                properties = spans::outgoing(properties, context);
            }
            channel
                .basic_publish(exchange.clone(), key, options, body, properties)
                .await
        }
        Route::Queue(properties) => {
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            channel
                .basic_publish("".into(), key, options, body, *properties)
                .await
        }
    }
}

/// The broker's own limit, when it has closed the channel for a message above its
/// `max_message_size`: "message size 2000123 is larger than configured max size 1000000". Zero
/// where the sentence holds no number.
pub fn oversized(error: &lapin::Error) -> Option<usize> {
    const PRECONDITION_FAILED: u16 = 406;
    let lapin::ErrorKind::ProtocolError(said) = error.kind() else {
        return None;
    };
    if said.get_id() != PRECONDITION_FAILED {
        return None;
    }
    limit_in(said.get_message().as_str())
}

fn limit_in(sentence: &str) -> Option<usize> {
    if !sentence.contains("message size") {
        return None;
    }
    let number = sentence
        .rsplit(|c: char| !c.is_ascii_digit())
        .find(|digits| !digits.is_empty());
    Some(number.and_then(|digits| digits.parse().ok()).unwrap_or(0))
}

/// A user may be allowed to write to our exchange alone, and not into queues.
fn is_default_exchange_forbidden(error: &lapin::Error) -> bool {
    const ACCESS_REFUSED: u16 = 403;
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(said)
        if said.get_id() == ACCESS_REFUSED && said.get_message().as_str().contains("amq.default"))
}

/// JSON, persistent or not.
pub fn properties(persistent: bool) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(if persistent { 2 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::limit_in;

    #[test]
    fn the_limit_is_read_from_the_brokers_sentence() {
        for (sentence, limit) in [
            (
                "PRECONDITION_FAILED - message size 2000123 is larger than configured max size \
                 1000000",
                Some(1_000_000),
            ),
            (
                "message size 5 is larger than configured max size 4.",
                Some(4),
            ),
            ("message size is too large", Some(0)),
            ("PRECONDITION_FAILED - unknown delivery tag 7", None),
        ] {
            assert_eq!(limit_in(sentence), limit, "{sentence}");
        }
    }
}
