//! The exchange and the input queue. What exists is used as it is (passive declare first); what
//! does not is made.

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Connection, ExchangeKind};

use super::dial::describe;

/// Priorities of `q.gpu.*` (amqp.md, "Topology").
const MAX_PRIORITY: i32 = 10;
const NOT_FOUND: u16 = 404;

/// The names.
#[derive(Debug, Clone)]
pub struct Topology {
    pub exchange: ShortString,
    pub queue: ShortString,
}

impl Topology {
    /// Makes sure that both are there.
    pub async fn ensure(&self, connection: &Connection) -> lapin::Result<()> {
        // A declaration that fails closes its channel, so that each is made on its own.
        if !exists(declare_exchange(connection, &self.exchange, true).await)? {
            declare_exchange(connection, &self.exchange, false).await?;
        }
        if !exists(declare_queue(connection, &self.queue, true).await)? {
            declare_queue(connection, &self.queue, false).await?;
        }
        Ok(())
    }

    /// Whether the queue counts how often a message was handed out (`x-delivery-count`), as quorum
    /// queues do; also where that cannot be told. A passive declaration does not say of which kind
    /// a queue is, but one that asks for a quorum queue is refused with the name of the argument
    /// that differs.
    pub async fn counts_deliveries(&self, connection: &Connection) -> bool {
        let Ok(channel) = connection.create_channel().await else {
            return false;
        };
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let asked = channel
            .queue_declare(self.queue.clone(), options, arguments)
            .await;
        match asked {
            Ok(_) => true,
            Err(error) => {
                let said = describe(&error);
                // Only classic queues have priorities.
                said.contains("inequivalent arg")
                    && !said.contains("x-queue-type")
                    && !said.contains("x-max-priority")
                    && !said.contains("'durable'")
            }
        }
    }
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
