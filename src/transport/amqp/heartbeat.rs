//! The sign of life, by a timer of its own: measuring and publishing never delay the next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::options::BasicPublishOptions;
use lapin::{Channel, Connection};
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tokio::time::MissedTickBehavior;

use super::host_metrics::Vitals;
use super::session::Shared;
use super::{Load, TaskRunner};
use crate::broker::envelope::service;
use crate::broker::publisher::properties;

/// Beats for ever, from the first registration on. `started` is when the process did.
pub(super) async fn run(
    shared: Arc<Shared>,
    interval: Duration,
    mut host_metrics: watch::Receiver<Vitals>,
    started: Instant,
) {
    if shared
        .registry
        .registered()
        .wait_for(|registered| *registered)
        .await
        .is_err()
    {
        return;
    }
    if host_metrics
        .wait_for(|host_metrics| host_metrics.measured)
        .await
        .is_err()
    {
        return;
    }
    tracing::info!("Heartbeat started (interval={}ms)", interval.as_millis());
    let mut timer = tokio::time::interval(interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let channel = Arc::new(Mutex::new(None));
    loop {
        timer.tick().await;
        // No connection, or a blocked one: a heartbeat that comes late says nothing.
        let Some(link) = shared.pulse.borrow().clone() else {
            continue;
        };
        let body = body(&shared, &*shared.runner, &host_metrics.borrow(), started);
        let (shared, channel) = (Arc::clone(&shared), Arc::clone(&channel));
        tokio::spawn(async move {
            // The last one is still on its way.
            let Ok(mut channel) = channel.try_lock() else {
                return;
            };
            let sent = publish(&shared, &link.connection, &mut channel, &body);
            if !matches!(tokio::time::timeout(interval, sent).await, Ok(Ok(()))) {
                tracing::debug!("a heartbeat could not be published");
            }
        });
    }
}

/// Publishes on the channel of the last one, or on a new one when that is closed: the broker may
/// close it alone, when the exchange was deleted.
async fn publish(
    shared: &Shared,
    connection: &Connection,
    channel: &mut Option<Channel>,
    body: &[u8],
) -> lapin::Result<()> {
    let open = match channel.take().filter(|known| known.status().connected()) {
        Some(open) => open,
        None => {
            shared.topology.ensure(connection).await?;
            connection.create_channel().await?
        }
    };
    let sent = open.basic_publish(
        shared.topology.exchange.clone(),
        "service.instance.heartbeat".into(),
        BasicPublishOptions::default(),
        body,
        properties(false),
    );
    // This channel is not in confirm mode: sent is all there is to know.
    sent.await?.await?;
    *channel = Some(open);
    Ok(())
}

fn body(
    shared: &Shared,
    runner: &dyn TaskRunner,
    host_metrics: &Vitals,
    started: Instant,
) -> bytes::Bytes {
    let load = runner.load();
    let mut system_info = json!({
        "cpu_usage": host_metrics.cpu_usage,
        "memory_usage": host_metrics.memory_usage,
        "uptime": started.elapsed().as_secs()
    });
    if !host_metrics.gpus.is_empty() {
        system_info["gpu"] = host_metrics
            .gpus
            .iter()
            .map(super::gpu::Gpu::to_json)
            .collect::<Vec<Value>>()
            .into();
    }
    let mut data = json!({
        "instance_id": shared.instance_id,
        "status": status(&load),
        "current_task_id": load.current,
        "queue_size": load.queue_size,
        "system_info": system_info,
    });
    super::control::extend(
        &shared.config.queue,
        runner,
        shared.interval_ms(),
        &mut data,
    );
    service("instance_heartbeat", data, None)
}

fn status(load: &Load) -> &'static str {
    match load {
        Load { draining: true, .. } => "DRAINING",
        Load {
            available: false, ..
        } => "UNAVAILABLE",
        Load { in_flight: 0, .. }
        | Load {
            one_is_idle: true, ..
        } => "IDLE",
        _ => "BUSY",
    }
}
