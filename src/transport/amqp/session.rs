//! One connection after the other, for ever: dial, restore, work, and again after a while.

use std::sync::Arc;
use std::time::Duration;

use lapin::Connection;
use lapin::uri::AMQPUri;
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::registry::Registry;
use super::worker::Worker;
use super::{TaskRunner, consumer, control};
use crate::broker::dial::{Link, describe, dial, version};
use crate::broker::envelope::EventFactory;
use crate::broker::listening::until_lost;
use crate::broker::outbox::Outbox;
use crate::broker::topology::Topology;
use crate::broker::{Reopening, publisher};
use crate::config::AmqpConfig;
use crate::telemetry::metrics;

/// For the declarations after connecting.
const SETUP_TIMEOUT: Duration = Duration::from_secs(15);
/// For the polite end of a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// For a connection that is only made to say goodbye.
const LAST_TRY: Duration = Duration::from_secs(2);
/// The longest wait between two tries, in seconds.
const MAX_BACKOFF_S: f64 = 30.0;

/// What every session needs.
pub(super) struct Shared {
    pub(super) config: AmqpConfig,
    pub(super) uri: AMQPUri,
    /// Host, port and virtual host, for logs.
    pub(super) broker: String,
    pub(super) topology: Topology,
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
    /// For heartbeats: the connection, while there is one that is not blocked.
    pub(super) pulse: watch::Sender<Option<Arc<Link>>>,
}

impl Shared {
    /// Between two heartbeats; 0 when there are none.
    pub(super) fn interval_ms(&self) -> u64 {
        let interval = self.config.heartbeat.unwrap_or_default();
        u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)
    }

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

/// Keeps a session until the farewell.
pub(super) async fn supervise(shared: &Arc<Shared>) {
    let mut failures = 0;
    let mut told = None;
    while !shared.farewell.is_cancelled() {
        let opened = tokio::select! {
            opened = open(shared) => opened,
            () = shared.farewell.cancelled() => break,
        };
        match opened {
            Ok(link) => {
                (failures, told) = (0, None);
                tracing::info!(
                    broker = %shared.broker,
                    exchange = %shared.topology.exchange,
                    queue = %shared.topology.queue,
                    "AMQP connected"
                );
                set_connected(shared, true);
                let lost = work(shared, &link).await;
                shared.pulse.send_replace(None);
                set_connected(shared, false);
                // A heartbeat on its way may hold it for a moment longer.
                link.cut();
                shared.outbox.rewind();
                let Some(reason) = lost else { return };
                tracing::warn!(
                    broker = %shared.broker,
                    reason,
                    "AMQP connection lost; connecting again"
                );
            }
            Err(problem) => {
                // The same problem again is not news.
                if told.as_ref() != Some(&problem) {
                    tracing::warn!(
                        broker = %shared.broker,
                        reason = problem,
                        "AMQP broker cannot be used; trying again until it can"
                    );
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
    // The end came between two connections: the others shall know all the same, if the broker is
    // there.
    if *shared.registry.registered().borrow()
        && let Ok(Ok(link)) = timeout(LAST_TRY, open(shared)).await
    {
        part(shared, &link).await;
    }
}

fn set_connected(shared: &Shared, connected: bool) {
    shared.connected.send_replace(connected);
    metrics::amqp_connected(connected);
}

/// Between 1 s and twice as long at every failure, at most 30 s; random, so that a fleet does not
/// come back in one instant.
fn backoff(failures: i32) -> Duration {
    let longest = (2.0 * 2_f64.powi(failures.min(10))).min(MAX_BACKOFF_S);
    Duration::from_secs_f64(
        rand::rng()
            .random_range((longest / 2.0).min(1.0)..=longest)
            .max(1.0),
    )
}

async fn open(shared: &Shared) -> Result<Arc<Link>, String> {
    let link = dial(&shared.uri, &shared.config.tls, &shared.instance_id).await?;
    if shared.outbox.largest() == usize::MAX {
        let limit = shared.config.max_message_bytes;
        let version = match limit.fixed() {
            Some(_) => None,
            None => version(&shared.uri, &shared.config.tls).await,
        };
        let most = limit.with_version(version.as_deref());
        shared.outbox.assume(most);
    }
    let topology = &shared.topology;
    let restored = timeout(SETUP_TIMEOUT, async {
        topology.ensure(&link.connection).await?;
        let counts = topology.counts_deliveries(&link.connection).await;
        shared.worker.queue_counts_deliveries(counts);
        lapin::Result::Ok(())
    });
    match restored.await {
        Ok(Ok(())) => Ok(Arc::new(link)),
        Ok(Err(error)) => Err(format!(
            "exchange {} or queue {} cannot be used: {}",
            topology.exchange,
            topology.queue,
            describe(&error)
        )),
        Err(_) => Err("the broker did not answer the declarations".to_owned()),
    }
}

/// Works until the connection is lost and returns why, or until the farewell and returns nothing.
async fn work(shared: &Arc<Shared>, link: &Arc<Link>) -> Option<String> {
    let connection = &link.connection;
    let error = tokio::select! {
        biased;
        () = shared.farewell.cancelled() => {
            part(shared, link).await;
            return None;
        }
        reason = watch_connection(shared, link) => return Some(reason),
        error = publisher::run(
            &shared.outbox,
            &shared.events,
            connection,
            &shared.topology
        ) => error,
        error = consumer::run(shared, connection) => error,
        error = control::run(shared, connection) => error,
        error = register(shared, connection) => error,
    };
    Some(describe(&error))
}

/// Registers once ready, then only waits.
async fn register(shared: &Shared, connection: &Connection) -> lapin::Error {
    shared.ready_is(true).await;
    let mut reopening = Reopening::of("the registration");
    loop {
        let registered = shared
            .registry
            .register(connection, &shared.topology.exchange, |data| {
                let runner = &*shared.runner;
                control::extend(&shared.config.queue, runner, shared.interval_ms(), data);
            });
        let error = match registered.await {
            Ok(()) => {
                tracing::info!("Instance registered: {}", shared.instance_id);
                return std::future::pending().await;
            }
            Err(error) => error,
        };
        if let Err(error) = reopening.after(error, connection).await {
            return error;
        }
        let _ = shared.topology.ensure(connection).await;
    }
}

/// Heartbeats go out only while the broker takes messages; returns why the connection ended.
async fn watch_connection(shared: &Shared, link: &Arc<Link>) -> String {
    shared.pulse.send_replace(Some(Arc::clone(link)));
    until_lost(&link.connection, |blocked| {
        if let Some(reason) = blocked {
            shared.pulse.send_replace(None);
            tracing::warn!(
                broker = %shared.broker,
                reason,
                "AMQP broker blocks publishing; waiting for it"
            );
        } else {
            shared.pulse.send_replace(Some(Arc::clone(link)));
            tracing::info!(broker = %shared.broker, "AMQP broker takes messages again");
        }
    })
    .await
}

async fn part(shared: &Shared, link: &Link) {
    let reason = shared.reason.lock().clone();
    match shared
        .registry
        .unregister(&link.connection, &shared.topology.exchange, &reason)
        .await
    {
        Ok(()) => tracing::info!(reason, "Instance unregistered: {}", shared.instance_id),
        Err(error) => tracing::warn!(
            reason = error,
            "Instance could not be unregistered: {}",
            shared.instance_id
        ),
    }
    let closed = timeout(CLOSE_TIMEOUT, link.connection.close(200, "OK".into())).await;
    tracing::info!(
        broker = %shared.broker,
        politely = matches!(closed, Ok(Ok(()))),
        "AMQP connection closed"
    );
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
