//! The gateway's connection, one after the other for ever: queues, what comes in, what goes out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Connection, Consumer};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{Inner, reply};
use crate::broker::dial::{Link, describe, dial, public_name, version};
use crate::broker::listening::{consume, hear, unacknowledged, until_lost};
use crate::broker::topology::Topology;
use crate::config::GatewayAddress;
use crate::health::ComfyState;
use crate::net::retry::Pauses;
use crate::telemetry::metrics;

/// For the declarations after connecting.
const SETUP: Duration = Duration::from_secs(15);
/// Between two tries: the shortest and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the answers wait for a gateway that is gone.
const ANSWERS_WAIT_MS: i32 = 24 * 3600 * 1000;
/// What may wait in the queue of what is only of interest now.
const STREAM_LENGTH: i32 = 10_000;
/// Answers that are worked on at a time.
const PREFETCH: u16 = 32;

/// Keeps a connection.
pub(super) async fn keep(inner: &Arc<Inner>) {
    let broker = public_name(&inner.uri);
    let mut pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut told = None;
    loop {
        let problem = match open(inner).await {
            Ok(open) => {
                pauses.reset();
                told = None;
                info!(
                    broker,
                    gateway_id = inner.id,
                    url = inner.url.borrow().as_deref(),
                    "the gateway is connected"
                );
                metrics::amqp_connected(true);
                inner.stands(ComfyState::Ready);
                inner.listens(true);
                let reason = work(inner, open).await;
                inner.listens(false);
                metrics::amqp_connected(false);
                format!("the AMQP connection was lost: {reason}")
            }
            Err(problem) => problem,
        };
        inner.stands(ComfyState::Down(problem.clone()));
        if told.as_ref() != Some(&problem) {
            warn!(
                broker,
                reason = problem,
                "the AMQP broker cannot be used; trying again until it can"
            );
            told = Some(problem);
        }
        let shorter = rand::Rng::random_range(&mut rand::rng(), 0.8..1.0);
        tokio::time::sleep(pauses.take().mul_f64(shorter)).await;
    }
}

struct Open {
    link: Link,
    answers: Consumer,
    stream: Consumer,
    instances: Consumer,
}

async fn open(inner: &Arc<Inner>) -> Result<Open, String> {
    let link = dial(
        &inner.uri,
        &inner.amqp.tls,
        &format!("gateway {}", inner.id),
    )
    .await?;
    if inner.publisher.asks_version() {
        let version = version(&inner.uri, &inner.amqp.tls).await;
        inner.publisher.broker_is(version.as_deref());
    }
    own_address(inner, link.local);
    let setting_up = async {
        let connection = &link.connection;
        for queue in &inner.gateway.queues {
            let topology = Topology {
                exchange: inner.exchange.clone(),
                queue: ShortString::try_new(queue.as_str()).unwrap_or_default(),
            };
            topology.ensure(connection).await?;
        }
        let answers = answers(inner, connection).await?;
        let stream = stream(inner, connection).await?;
        let instances = hear(connection, &inner.exchange, &["service.instance.*"]).await?;
        lapin::Result::Ok((answers, stream, instances))
    };
    match timeout(SETUP, setting_up).await {
        Ok(Ok((answers, stream, instances))) => Ok(Open {
            link,
            answers,
            stream,
            instances,
        }),
        Ok(Err(error)) => Err(refused(inner, &error)),
        Err(_) => Err("the AMQP broker did not answer the declarations".to_owned()),
    }
}

/// Another gateway of the same id is the usual reason.
fn refused(inner: &Inner, error: &lapin::Error) -> String {
    let said = describe(error);
    if said.contains("exclusive") || said.contains("RESOURCE_LOCKED") {
        return format!(
            "another gateway with the GATEWAY_ID {} is connected: give this one another id, or \
             stop the other ({said})",
            inner.id
        );
    }
    format!("the AMQP broker refuses the queues of the gateway: {said}")
}

/// How instances reach us, where that is not configured.
fn own_address(inner: &Inner, local: Option<IpAddr>) {
    let host = match &inner.gateway.url {
        GatewayAddress::Found { host: Some(host) } => Some(*host),
        GatewayAddress::Found { host: None } => local,
        GatewayAddress::Url(_) | GatewayAddress::Nowhere => return,
    };
    let (Some(host), Some(port)) = (host.map(|host| host.to_canonical()), inner.port.get()) else {
        return;
    };
    let shown = match host {
        IpAddr::V4(host) => host.to_string(),
        IpAddr::V6(host) => format!("[{host}]"),
    };
    let url = format!("http://{shown}:{port}");
    let new = inner.url.borrow().as_ref() != Some(&url);
    if new && host.is_loopback() {
        warn!(
            url,
            "instances on other machines cannot reach this gateway: set GATEWAY_URL"
        );
    }
    if new {
        inner.url.send_replace(Some(url));
    }
}

async fn answers(inner: &Inner, connection: &Connection) -> lapin::Result<Consumer> {
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), AMQPValue::LongInt(ANSWERS_WAIT_MS));
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(inner.reply_queue.clone(), options, arguments)
        .await?;
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await?;
    let options = BasicConsumeOptions {
        exclusive: true,
        ..BasicConsumeOptions::default()
    };
    consume(&channel, inner.reply_queue.clone(), options).await
}

async fn stream(inner: &Inner, connection: &Connection) -> lapin::Result<Consumer> {
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(STREAM_LENGTH));
    arguments.insert(
        "x-overflow".into(),
        AMQPValue::LongString("drop-head".into()),
    );
    let name = format!("{}.stream", inner.reply_queue);
    let name = ShortString::try_new(name).unwrap_or_default();
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(name.clone(), options, arguments)
        .await?;
    consume(&channel, name, unacknowledged()).await
}

/// Works until the connection is lost, and returns why.
async fn work(inner: &Arc<Inner>, open: Open) -> String {
    let Open {
        link,
        mut answers,
        mut stream,
        mut instances,
    } = open;
    let connection = &link.connection;
    let reason = tokio::select! {
        biased;
        reason = watch(inner, connection) => reason,
        reason = take_answers(inner, &mut answers) => reason,
        reason = each(&mut stream, |delivery| reply::shown(inner, &delivery)) => reason,
        reason = each(&mut instances, |delivery| inner.hear_of(&delivery)) => reason,
        reason = super::look::at_queues(inner, connection) => reason,
        error = inner.publisher.run(connection) => describe(&error),
    };
    link.cut();
    reason
}

async fn take_answers(inner: &Arc<Inner>, consumer: &mut Consumer) -> String {
    while let Some(delivery) = consumer.next().await {
        match delivery {
            Ok(delivery) => {
                let acker = delivery.acker.clone();
                reply::answer(inner, delivery).await;
                // What it says is recorded.
                let _ = acker.ack(BasicAckOptions::default()).await;
            }
            Err(error) => return describe(&error),
        }
    }
    CANCELLED.to_owned()
}

const CANCELLED: &str = "a consumer was cancelled by the broker";

async fn each(consumer: &mut Consumer, handle: impl Fn(Delivery)) -> String {
    while let Some(delivery) = consumer.next().await {
        match delivery {
            Ok(delivery) => handle(delivery),
            Err(error) => return describe(&error),
        }
    }
    CANCELLED.to_owned()
}

/// Shows whether the broker takes messages; returns why the connection ended.
async fn watch(inner: &Inner, connection: &Connection) -> String {
    until_lost(connection, |blocked| {
        if let Some(reason) = blocked {
            warn!(reason, "the AMQP broker blocks publishing; waiting for it");
            let reason = format!("the AMQP broker blocks publishing: {reason}");
            inner.stands(ComfyState::Down(reason));
            inner.listens(false);
        } else {
            info!("the AMQP broker takes messages again");
            inner.listens(true);
            inner.stands(ComfyState::Ready);
        }
    })
    .await
}
