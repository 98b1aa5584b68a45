//! The sign of life, by a timer of its own: measuring and publishing never delay the next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::Channel;
use lapin::options::BasicPublishOptions;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::envelope::service;
use super::publisher::properties;
use super::session::Shared;
use super::vitals::Vitals;
use super::{Load, TaskRunner};

/// Beats for ever, from the first registration on. `started` is when the process did.
pub(super) async fn run(
    shared: Arc<Shared>,
    interval: Duration,
    mut vitals: watch::Receiver<Vitals>,
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
    if vitals.wait_for(|vitals| vitals.measured).await.is_err() {
        return;
    }
    tracing::info!("Heartbeat started (interval={}ms)", interval.as_millis());
    let mut timer = tokio::time::interval(interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        timer.tick().await;
        // No connection, or a blocked one: a heartbeat that comes late says nothing.
        let Some(channel) = shared.pulse.borrow().clone() else {
            continue;
        };
        let body = body(&shared, &*shared.runner, &vitals.borrow(), started);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let sent = publish(&shared, &channel, &body);
            if !matches!(tokio::time::timeout(interval, sent).await, Ok(Ok(()))) {
                tracing::debug!("a heartbeat could not be published");
            }
        });
    }
}

async fn publish(shared: &Shared, channel: &Channel, body: &[u8]) -> lapin::Result<()> {
    let sent = channel.basic_publish(
        shared.exchange.clone(),
        "service.instance.heartbeat".into(),
        BasicPublishOptions::default(),
        body,
        properties(false),
    );
    // This channel is not in confirm mode: sent is all there is to know.
    sent.await?.await.map(|_| ())
}

fn body(
    shared: &Shared,
    runner: &dyn TaskRunner,
    vitals: &Vitals,
    started: Instant,
) -> bytes::Bytes {
    let load = runner.load();
    let mut system_info = json!({ "cpu_usage": vitals.cpu_usage, "memory_usage": vitals.memory_usage, "uptime": started.elapsed().as_secs() });
    if !vitals.gpus.is_empty() {
        system_info["gpu"] = vitals
            .gpus
            .iter()
            .map(super::gpu::Gpu::to_json)
            .collect::<Vec<Value>>()
            .into();
    }
    let data = json!({
        "instance_id": shared.instance_id,
        "status": status(&load),
        "current_task_id": load.current,
        "queue_size": load.queue_size,
        "system_info": system_info,
    });
    service("instance_heartbeat", data, None)
}

fn status(load: &Load) -> &'static str {
    match load {
        Load { draining: true, .. } => "DRAINING",
        Load {
            available: false, ..
        } => "UNAVAILABLE",
        Load { in_flight: 0, .. } => "IDLE",
        _ => "BUSY",
    }
}
