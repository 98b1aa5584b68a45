//! The exchange and the input queue. What exists is used as it is (passive declare first); what does not is made.

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Connection, ExchangeKind};

/// Priorities of `q.gpu.*` (amqp.md, "Topology").
const MAX_PRIORITY: i32 = 10;
const NOT_FOUND: u16 = 404;

/// Makes sure that both are there.
pub(super) async fn ensure(
    connection: &Connection,
    exchange: &ShortString,
    queue: &ShortString,
) -> lapin::Result<()> {
    // A declaration that fails closes its channel, so that each is made on its own.
    if !exists(declare_exchange(connection, exchange, true).await)? {
        declare_exchange(connection, exchange, false).await?;
    }
    if !exists(declare_queue(connection, queue, true).await)? {
        declare_queue(connection, queue, false).await?;
    }
    Ok(())
}

async fn declare_exchange(
    connection: &Connection,
    exchange: &ShortString,
    passive: bool,
) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions {
        passive,
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(
            exchange.clone(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        )
        .await
}

async fn declare_queue(
    connection: &Connection,
    queue: &ShortString,
    passive: bool,
) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions {
        passive,
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    if has_priorities(queue.as_str()) {
        arguments.insert("x-max-priority".into(), AMQPValue::LongInt(MAX_PRIORITY));
    }
    channel
        .queue_declare(queue.clone(), options, arguments)
        .await
        .map(|_| ())
}

fn exists(declared: lapin::Result<()>) -> lapin::Result<bool> {
    match declared {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            lapin::ErrorKind::ProtocolError(said) if said.get_id() == NOT_FOUND => Ok(false),
            _ => Err(error),
        },
    }
}

fn has_priorities(queue: &str) -> bool {
    queue.starts_with("q.gpu.") && queue != "q.gpu.free"
}

#[cfg(test)]
mod tests {
    use super::has_priorities;

    #[test]
    fn only_the_paid_gpu_queues_have_priorities() {
        assert!(has_priorities("q.gpu.20g"));
        assert!(
            !has_priorities("q.gpu.free")
                && !has_priorities("q.instance.a")
                && !has_priorities("mine")
        );
    }
}
