//! One connection after the other, for ever: dial, restore, work, and again after a while.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::ConfirmSelectOptions;
use lapin::types::ShortString;
use lapin::uri::AMQPUri;
use lapin::{Channel, Event};
use rand::Rng;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::dial::{Link, describe, dial};
use super::envelope::EventFactory;
use super::outbox::Outbox;
use super::registry::Registry;
use super::worker::Worker;
use super::{TaskRunner, consumer, publisher, topology};
use crate::config::AmqpConfig;
use crate::telemetry::metrics;

/// For the declarations after connecting.
const SETUP_TIMEOUT: Duration = Duration::from_secs(15);
/// For the polite end of a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// For a connection that is only made to say goodbye.
const LAST_TRY: Duration = Duration::from_secs(2);
/// A second look at the connection's state, should lapin not tell of its end.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest wait between two tries, in seconds.
const MAX_BACKOFF_S: f64 = 30.0;

/// What every session needs.
pub(super) struct Shared {
    pub(super) config: AmqpConfig,
    pub(super) uri: AMQPUri,
    /// Host, port and virtual host, for logs.
    pub(super) broker: String,
    pub(super) exchange: ShortString,
    pub(super) queue: ShortString,
    pub(super) instance_id: String,
    pub(super) runner: Arc<dyn TaskRunner>,
    pub(super) worker: Arc<Worker>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) events: EventFactory,
    pub(super) registry: Registry,
    pub(super) connected: watch::Sender<bool>,
    /// Tasks are not taken any more.
    pub(super) stop_consuming: CancellationToken,
    /// Say goodbye and end.
    pub(super) farewell: CancellationToken,
    pub(super) reason: Mutex<String>,
    /// The channel for heartbeats while there is a connection that is not blocked.
    pub(super) pulse: watch::Sender<Option<Channel>>,
}

impl Shared {
    /// Resolves when tasks may be taken.
    pub(super) async fn may_take(&self) {
        self.ready_is(true).await;
        if self.stop_consuming.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when tasks may not be taken.
    pub(super) async fn must_pause(&self) {
        tokio::select! {
            () = self.stop_consuming.cancelled() => {}
            () = self.ready_is(false) => {}
        }
    }

    /// Resolves when the runner's readiness is as asked for. A runner that is gone is not ready.
    pub(super) async fn ready_is(&self, wanted: bool) {
        if self
            .runner
            .ready()
            .wait_for(|ready| *ready == wanted)
            .await
            .is_err()
            && wanted
        {
            std::future::pending::<()>().await;
        }
    }
}

/// The channels of one connection.
struct Session {
    link: Link,
    publish: Channel,
    registry: Channel,
    pulse: Channel,
}

impl Session {
    /// What a channel was for that was closed while nobody was using it.
    fn closed_channel(&self) -> Option<&'static str> {
        let channels = [
            (&self.registry, "the registration"),
            (&self.pulse, "heartbeats"),
        ];
        channels
            .into_iter()
            .find(|(channel, _)| !channel.status().connected())
            .map(|(_, what)| what)
    }
}

/// Keeps a session until the farewell.
pub(super) async fn supervise(shared: &Shared) {
    let mut failures = 0;
    let mut told = None;
    while !shared.farewell.is_cancelled() {
        let opened = tokio::select! {
            opened = open(shared) => opened,
            () = shared.farewell.cancelled() => break,
        };
        match opened {
            Ok(session) => {
                (failures, told) = (0, None);
                tracing::info!(broker = %shared.broker, exchange = %shared.exchange, queue = %shared.queue, "AMQP connected");
                set_connected(shared, true);
                let lost = work(shared, &session).await;
                shared.pulse.send_replace(None);
                set_connected(shared, false);
                shared.outbox.rewind();
                let Some(reason) = lost else { return };
                tracing::warn!(broker = %shared.broker, reason, "AMQP connection lost; connecting again");
            }
            Err(problem) => {
                // The same problem again is not news.
                if told.as_ref() != Some(&problem) {
                    tracing::warn!(broker = %shared.broker, reason = problem, "AMQP broker cannot be used; trying again until it can");
                    told = Some(problem);
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff(failures)) => {}
            () = shared.farewell.cancelled() => {}
        }
        failures += 1;
    }
    // The end came between two connections: the others shall know all the same, if the broker is there.
    if *shared.registry.registered().borrow()
        && let Ok(Ok(session)) = timeout(LAST_TRY, open(shared)).await
    {
        part(shared, &session).await;
    }
}

fn set_connected(shared: &Shared, connected: bool) {
    shared.connected.send_replace(connected);
    metrics::amqp_connected(connected);
}

/// Between 1 s and twice as long at every failure, at most 30 s; random, so that a fleet does not come back in one instant.
fn backoff(failures: i32) -> Duration {
    let longest = (2.0 * 2_f64.powi(failures.min(10))).min(MAX_BACKOFF_S);
    Duration::from_secs_f64(
        rand::rng()
            .random_range((longest / 2.0).min(1.0)..=longest)
            .max(1.0),
    )
}

async fn open(shared: &Shared) -> Result<Session, String> {
    let link = dial(
        &shared.uri,
        shared.config.ca_file.as_deref().map(Path::new),
        &shared.instance_id,
    )
    .await?;
    let restored = timeout(SETUP_TIMEOUT, async {
        topology::ensure(&link.connection, &shared.exchange, &shared.queue).await?;
        let publish = link.connection.create_channel().await?;
        publish
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let registry = link.connection.create_channel().await?;
        registry
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let pulse = link.connection.create_channel().await?;
        lapin::Result::Ok((publish, registry, pulse))
    });
    match restored.await {
        Ok(Ok((publish, registry, pulse))) => Ok(Session {
            link,
            publish,
            registry,
            pulse,
        }),
        Ok(Err(error)) => Err(format!(
            "exchange {} or queue {} cannot be used: {}",
            shared.exchange,
            shared.queue,
            describe(&error)
        )),
        Err(_) => Err("the broker did not answer the declarations".to_owned()),
    }
}

/// Works until the connection is lost and returns why, or until the farewell and returns nothing.
async fn work(shared: &Shared, session: &Session) -> Option<String> {
    let connection = &session.link.connection;
    let error = tokio::select! {
        biased;
        () = shared.farewell.cancelled() => {
            part(shared, session).await;
            return None;
        }
        reason = watch_connection(shared, session) => return Some(reason),
        error = publisher::run(&shared.outbox, &shared.events, &session.publish, &shared.exchange) => {
            if is_size_limit(&error) {
                shared.outbox.discard_largest();
            }
            error
        }
        error = consumer::run(shared, connection) => error,
        error = register(shared, session) => error,
    };
    Some(describe(&error))
}

/// The broker's answer to a message above its `max_message_size`.
fn is_size_limit(error: &lapin::Error) -> bool {
    const PRECONDITION_FAILED: u16 = 406;
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(said) if said.get_id() == PRECONDITION_FAILED && said.get_message().as_str().contains("message size"))
}

/// Registers once ready, then only waits.
async fn register(shared: &Shared, session: &Session) -> lapin::Error {
    shared.ready_is(true).await;
    match shared
        .registry
        .register(&session.registry, &shared.exchange)
        .await
    {
        Ok(()) => {
            tracing::info!("Instance registered: {}", shared.instance_id);
            std::future::pending().await
        }
        Err(error) => error,
    }
}

/// Follows the connection's state; returns why it ended.
async fn watch_connection(shared: &Shared, session: &Session) -> String {
    let connection = &session.link.connection;
    let mut events = Box::pin(connection.events_listener());
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let mut blocked = false;
    shared.pulse.send_replace(Some(session.pulse.clone()));
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(reason)) if !blocked => {
                    blocked = true;
                    shared.pulse.send_replace(None);
                    tracing::warn!(broker = %shared.broker, reason, "AMQP broker blocks publishing; waiting for it");
                }
                Some(Event::ConnectionUnblocked) if blocked => {
                    blocked = false;
                    shared.pulse.send_replace(Some(session.pulse.clone()));
                    tracing::info!(broker = %shared.broker, "AMQP broker takes messages again");
                }
                Some(Event::Error(error)) if !connection.status().connected() => return describe(&error),
                Some(_) => {}
                None => return "the connection has ended".to_owned(),
            },
            _ = look.tick() => {
                if !connection.status().connected() {
                    return "the connection is closed".to_owned();
                }
                // Nothing else would notice these: a heartbeat that goes nowhere looks like a dead instance.
                if let Some(what) = session.closed_channel() {
                    return format!("the broker has closed the channel for {what}");
                }
            },
        }
    }
}

async fn part(shared: &Shared, session: &Session) {
    let reason = shared
        .reason
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    match shared
        .registry
        .unregister(&session.registry, &shared.exchange, &reason)
        .await
    {
        Ok(()) => tracing::info!(reason, "Instance unregistered: {}", shared.instance_id),
        Err(error) => tracing::warn!(
            reason = error,
            "Instance could not be unregistered: {}",
            shared.instance_id
        ),
    }
    let closed = timeout(
        CLOSE_TIMEOUT,
        session.link.connection.close(200, "OK".into()),
    )
    .await;
    tracing::info!(broker = %shared.broker, politely = matches!(closed, Ok(Ok(()))), "AMQP connection closed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_one_second_to_thirty() {
        for failures in 0..100 {
            let wait = backoff(failures).as_secs_f64();
            assert!((1.0..=30.0).contains(&wait), "{failures}: {wait}");
        }
        assert!(backoff(0) <= Duration::from_secs(2));
    }
}
