//! Takes tasks while the product is ready for them, and hands them to the worker.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{ChannelState, Connection, ErrorKind};
use tokio_util::sync::CancellationToken;

use super::session::Shared;
use super::worker::Worker;
use crate::broker::Reopening;

/// Between a channel that the broker closed and the next.
const REOPEN_DELAY: Duration = Duration::from_secs(1);

/// Why consuming paused.
enum Pause {
    /// Not ready, or stopping: the consumer is cancelled by us.
    Ours,
    /// The broker cancelled it: the queue was deleted, or moved to another node.
    Brokers,
}

/// Consumes until the connection fails. A channel that the broker closes (acknowledgement timeout)
/// is opened again.
pub(super) async fn run(shared: &Shared, connection: &Connection) -> lapin::Error {
    let mut reopening = Reopening::of("taking tasks");
    loop {
        let error = match serve(shared, connection, &mut reopening).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        if let Err(error) = reopening.after(error, connection).await {
            return error;
        }
        // The queue may have been deleted.
        let _ = shared.topology.ensure(connection).await;
    }
}

async fn serve(
    shared: &Shared,
    connection: &Connection,
    reopening: &mut Reopening,
) -> lapin::Result<Infallible> {
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(shared.config.prefetch, BasicQosOptions::default())
        .await?;
    let tag = ShortString::try_new(shared.instance_id.as_str()).unwrap_or_default();
    loop {
        shared.may_take().await;
        let mut consumer = channel
            .basic_consume(
                shared.topology.queue.clone(),
                tag.clone(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        tracing::info!(
            queue = %shared.topology.queue,
            prefetch = shared.config.prefetch,
            "AMQP tasks are taken"
        );
        reopening.works();
        let recall = CancellationToken::new();
        // Also when this future is dropped: what was not started then goes back.
        let _recalled = recall.clone().drop_guard();
        match take(shared, &shared.worker, &mut consumer, &recall).await? {
            Pause::Ours => {
                recall.cancel();
                channel
                    .basic_cancel(consumer.tag(), BasicCancelOptions::default())
                    .await?;
                // Recalled already: they go back as they came, in the way that is not held against
                // them.
                while let Some(Ok(delivery)) = consumer.next().await {
                    shared.worker.accept(delivery, &recall).await;
                }
                tracing::info!(queue = %shared.topology.queue, "AMQP tasks are not taken now");
            }
            Pause::Brokers if channel.status().connected() => {
                tracing::warn!(
                    queue = %shared.topology.queue,
                    "AMQP consumer was cancelled by the broker; consuming again"
                );
                tokio::time::sleep(REOPEN_DELAY).await;
                shared.topology.ensure(connection).await?;
            }
            Pause::Brokers => {
                return Err(
                    ErrorKind::InvalidChannelState(ChannelState::Closed, "consuming").into(),
                );
            }
        }
    }
}

async fn take(
    shared: &Shared,
    worker: &Arc<Worker>,
    consumer: &mut lapin::Consumer,
    recall: &CancellationToken,
) -> lapin::Result<Pause> {
    loop {
        tokio::select! {
            biased;
            () = shared.must_pause() => return Ok(Pause::Ours),
            next = consumer.next() => match next {
                Some(Ok(delivery)) => worker.accept(delivery, recall).await,
                Some(Err(error)) => return Err(error),
                None => return Ok(Pause::Brokers),
            },
        }
    }
}
