//! What a gateway asks of instances through the exchange: to cancel a task (whoever has it), to
//! describe itself (fleet.md).

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::{ChannelState, Connection, ErrorKind};
use serde_json::{Value, json};

use super::TaskRunner;
use super::session::Shared;
use crate::broker::Reopening;
use crate::broker::envelope::service;
use crate::broker::listening::hear;
use crate::broker::outbox::{Body, Class, OutboxMessage};
use crate::broker::publisher::properties;

const CANCEL: &str = "control.cancel";
const DESCRIBE: &str = "control.describe";

/// Listens until the connection fails.
pub(super) async fn run(shared: &Arc<Shared>, connection: &Connection) -> lapin::Error {
    let mut reopening = Reopening::of("control messages");
    loop {
        let error = match listen(shared, connection).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        if let Err(error) = reopening.after(error, connection).await {
            return error;
        }
        let _ = shared.topology.ensure(connection).await;
    }
}

async fn listen(shared: &Arc<Shared>, connection: &Connection) -> lapin::Result<Infallible> {
    let exchange = &shared.topology.exchange;
    let mut consumer = hear(connection, exchange, &[CANCEL, DESCRIBE]).await?;
    while let Some(delivery) = consumer.next().await {
        handle(shared, delivery?);
    }
    Err(ErrorKind::InvalidChannelState(ChannelState::Closed, "control").into())
}

fn handle(shared: &Arc<Shared>, delivery: Delivery) {
    let body: Value = serde_json::from_slice(&delivery.data).unwrap_or_default();
    // An envelope like all others, or what it would hold.
    let data = body.get("data").unwrap_or(&body);
    let text = |name: &str| data.get(name).and_then(Value::as_str);
    if delivery.routing_key.as_str() == CANCEL {
        let known = text("correlation_id").and_then(|id| shared.worker.task_of(id));
        let id = known.as_deref().or_else(|| {
            // An id alone is enough; with both, both have to fit.
            text("task_id").filter(|_| text("correlation_id").is_none())
        });
        if let Some(id) = id
            && shared.runner.cancel(id)
        {
            tracing::info!(id, "task is cancelled by a control message");
        }
    } else if text("instance_id") == Some(&*shared.instance_id)
        && let Some(queue) = delivery.properties.reply_to().clone()
    {
        let (shared, correlation) = (
            Arc::clone(shared),
            delivery.properties.correlation_id().clone(),
        );
        tokio::spawn(async move {
            let mut data = shared.registry.description().await;
            data["queue"] = shared.config.queue.as_str().into();
            data["catalogue"] = shared.runner.catalogue().await.unwrap_or_default();
            let body = service("instance_description", data, None);
            let queue: Arc<str> = queue.as_str().into();
            let mut properties = properties(false);
            if let Some(correlation) = correlation {
                properties = properties.with_correlation_id(correlation);
            }
            let message = OutboxMessage::new(Arc::clone(&queue), Body::Ready(body), Class::Event);
            shared.outbox.post(message.for_queue(queue, properties));
        });
    }
}

/// What registration and heartbeat say for gateways.
pub(super) fn extend(
    shared_queue: &str,
    runner: &dyn TaskRunner,
    interval_ms: u64,
    data: &mut Value,
) {
    data["queue"] = shared_queue.into();
    data["interval"] = interval_ms.into();
    data["catalogue"] = json!(runner.catalogue_hash());
}
