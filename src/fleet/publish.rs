//! Messages to instances: persistent, mandatory, confirmed within five seconds or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Confirmation, Connection};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

use crate::broker::publisher::oversized;
use crate::broker::{Reopening, confirming_channel};
use crate::config::MessageLimit;

/// For the confirm.
const PATIENCE: Duration = Duration::from_secs(5);
/// Messages that wait for their confirms at a time.
const MAX_IN_FLIGHT: usize = 512;
/// Messages that wait for their turn.
const MAX_WAITING: usize = 10_000;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// The broker has it.
    Confirmed,
    /// There is no such queue.
    Returned,
    /// The broker does not take it now, or has not said anything in time.
    Refused,
    /// It is longer than this.
    TooLarge(usize),
}

struct Message {
    exchange: ShortString,
    key: ShortString,
    properties: BasicProperties,
    body: Bytes,
    mandatory: bool,
}

/// A message, and who waits for its confirm. It may come a second time.
struct Order {
    message: Arc<Message>,
    done: oneshot::Sender<Option<Published>>,
}

/// See the module.
pub(super) struct Publisher {
    patience: Duration,
    limit: MessageLimit,
    longest: AtomicUsize,
    orders: mpsc::Sender<Order>,
    waiting: Mutex<mpsc::Receiver<Order>>,
}

impl Publisher {
    pub(super) fn new(limit: MessageLimit) -> Self {
        let (orders, waiting) = mpsc::channel(MAX_WAITING);
        Self {
            patience: PATIENCE,
            longest: AtomicUsize::new(limit.with_version(None)),
            limit,
            orders,
            waiting: Mutex::new(waiting),
        }
    }

    /// The longest message in bytes.
    pub(super) fn longest(&self) -> usize {
        self.longest.load(Ordering::Relaxed)
    }

    /// Whether the limit depends on the broker.
    pub(super) fn asks_version(&self) -> bool {
        self.limit.fixed().is_none()
    }

    /// The broker says that it has this version.
    pub(super) fn broker_is(&self, version: Option<&str>) {
        let limit = self.limit.with_version(version);
        self.longest.store(limit, Ordering::Relaxed);
    }

    /// Into a queue that must be there.
    pub(super) fn to_queue(
        &self,
        queue: &str,
        properties: BasicProperties,
        body: Bytes,
    ) -> impl Future<Output = Published> {
        self.publish(Arc::new(Message {
            exchange: "".into(),
            key: ShortString::try_new(queue).unwrap_or_default(),
            properties,
            body,
            mandatory: true,
        }))
    }

    /// To everybody who listens.
    pub(super) fn to_exchange(
        &self,
        exchange: &ShortString,
        key: &str,
        properties: BasicProperties,
        body: Bytes,
    ) -> impl Future<Output = Published> {
        self.publish(Arc::new(Message {
            exchange: exchange.clone(),
            key: ShortString::try_new(key).unwrap_or_default(),
            properties,
            body,
            mandatory: false,
        }))
    }

    /// Thousands may wait for their confirms: none holds more than a pointer.
    async fn publish(&self, message: Arc<Message>) -> Published {
        if message.body.len() > self.longest() {
            return Published::TooLarge(self.longest());
        }
        let trying = async {
            loop {
                let (done, told) = oneshot::channel();
                let message = message.clone();
                if self.orders.send(Order { message, done }).await.is_err() {
                    return Published::Refused;
                }
                // A channel that broke has taken others' messages with it.
                if let Ok(Some(published)) = told.await {
                    return published;
                }
            }
        };
        timeout(self.patience, trying)
            .await
            .unwrap_or(Published::Refused)
    }

    /// Publishes until the connection fails.
    pub(super) async fn run(&self, connection: &Connection) -> lapin::Error {
        let mut reopening = Reopening::of("handing out jobs");
        loop {
            let error = match confirming_channel(connection).await {
                Ok(channel) => {
                    reopening.works();
                    self.empty(&channel).await
                }
                Err(error) => error,
            };
            if let Some(said) = oversized(&error) {
                // A broker that does not say its limit refuses the longest.
                let limit = if said > 0 { said } else { self.longest() / 2 };
                self.longest.fetch_min(limit, Ordering::Relaxed);
                tracing::warn!(
                    bytes = limit,
                    "the AMQP broker takes no messages larger than this (max_message_size)"
                );
                if connection.status().connected() {
                    continue;
                }
            }
            if let Err(error) = reopening.after(error, connection).await {
                return error;
            }
        }
    }

    async fn empty(&self, channel: &lapin::Channel) -> lapin::Error {
        let mut waiting = self.waiting.lock().await;
        let mut confirms = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some((done, confirmation)) = confirms.next(), if !confirms.is_empty() => {
                    let done: oneshot::Sender<Option<Published>> = done;
                    match confirmation {
                        Ok(confirmation) => drop(done.send(Some(outcome(&confirmation)))),
                        Err(error) => {
                            let _ = done.send(None);
                            return error;
                        }
                    }
                }
                order = waiting.recv(), if confirms.len() < MAX_IN_FLIGHT => {
                    let Some(order) = order else { continue };
                    let Order { message, done } = order;
                    // Nobody waits for it any more.
                    if done.is_closed() {
                        continue;
                    }
                    if message.body.len() > self.longest() {
                        let _ = done.send(Some(Published::TooLarge(self.longest())));
                        continue;
                    }
                    let options = BasicPublishOptions {
                        mandatory: message.mandatory,
                        ..BasicPublishOptions::default()
                    };
                    match channel.basic_publish(
                        message.exchange.clone(),
                        message.key.clone(),
                        options,
                        &message.body,
                        message.properties.clone(),
                    ).await {
                        Ok(confirm) => confirms.push(async move { (done, confirm.await) }),
                        Err(error) => {
                            let _ = done.send(None);
                            return error;
                        }
                    }
                }
            }
        }
    }
}

fn outcome(confirmation: &Confirmation) -> Published {
    match confirmation {
        Confirmation::Ack(None) => Published::Confirmed,
        Confirmation::Ack(Some(_)) => Published::Returned,
        Confirmation::Nack(_) | Confirmation::NotRequested => Published::Refused,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn publisher(patience: Duration) -> Arc<Publisher> {
        let variables = BTreeMap::from([("AMQP_URL".to_owned(), "amqp://127.0.0.1".to_owned())]);
        let config = crate::config::Config::from_env(&variables).unwrap();
        let limit = config.amqp.unwrap().max_message_bytes;
        Arc::new(Publisher {
            patience,
            ..Publisher::new(limit)
        })
    }

    async fn publish(publisher: &Publisher) -> Published {
        let body = Bytes::from_static(b"{}");
        let properties = BasicProperties::default();
        publisher.to_queue("q", properties, body).await
    }

    /// Nobody empties it: the broker has gone, or blocks.
    #[tokio::test]
    async fn what_is_not_confirmed_in_time_is_refused() {
        assert_eq!(publisher(PATIENCE).patience, Duration::from_secs(5));
        let publisher = publisher(Duration::from_millis(20));
        assert_eq!(publish(&publisher).await, Published::Refused);
        // It is not published later: whoever waited for it has gone.
        let order = publisher.waiting.lock().await.recv().await.unwrap();
        assert!(order.done.is_closed());
    }

    #[tokio::test]
    async fn so_many_wait_and_the_next_waits_for_a_place() {
        let publisher = publisher(Duration::from_secs(60));
        let publishing: Vec<_> = (0..=MAX_WAITING)
            .map(|_| {
                let publisher = publisher.clone();
                tokio::spawn(async move { publish(&publisher).await })
            })
            .collect();
        let mut orders = publisher.waiting.lock().await;
        while publisher.orders.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!((MAX_WAITING, orders.len()), (10_000, MAX_WAITING));
        for _ in 0..=MAX_WAITING {
            let order = orders.recv().await.unwrap();
            order.done.send(Some(Published::Confirmed)).unwrap();
        }
        for one in publishing {
            assert_eq!(one.await.unwrap(), Published::Confirmed);
        }
    }
}
