//! A client of the queue: it sends tasks and reads events.

use std::time::Instant;

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, Consumer};
use serde_json::Value;

use super::stage::{PATIENCE, connect};

/// Somebody who submits tasks and listens to the exchange.
pub struct Client {
    _connection: Connection,
    pub channel: Channel,
    name: String,
    events: Consumer,
}

impl Client {
    /// Connects and listens to everything that is published from now on. Makes exchange and queue
    /// if they are not there, with the arguments the product would use.
    pub async fn connect(uri: &str, name: &str) -> Self {
        Self::connect_to(uri, name, "classic").await
    }

    /// The same with an input queue of another kind (`quorum`).
    pub async fn connect_to(uri: &str, name: &str, kind: &str) -> Self {
        let mut arguments = FieldTable::default();
        if kind != "classic" {
            let kind = lapin::types::AMQPValue::LongString(kind.into());
            arguments.insert("x-queue-type".into(), kind);
        }
        let connection = connect(uri).await;
        let channel = connection.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        let durable = lapin::options::ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        channel
            .exchange_declare(
                format!("topic.{name}").into(),
                lapin::ExchangeKind::Topic,
                durable,
                FieldTable::default(),
            )
            .await
            .unwrap();
        let listener = format!("listener.{name}");
        channel
            .queue_declare(
                listener.as_str().into(),
                QueueDeclareOptions::durable(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        let bind = QueueBindOptions::default();
        channel
            .queue_bind(
                listener.as_str().into(),
                format!("topic.{name}").into(),
                "#".into(),
                bind,
                FieldTable::default(),
            )
            .await
            .unwrap();
        channel
            .queue_declare(
                format!("in.{name}").into(),
                QueueDeclareOptions::durable(),
                arguments,
            )
            .await
            .unwrap();
        let events = channel
            .basic_consume(
                listener.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        Self {
            _connection: connection,
            channel,
            name: name.to_owned(),
            events,
        }
    }

    /// Submits a task and waits for the broker's confirm.
    pub async fn submit(&self, body: &Value) {
        self.submit_bytes(body.to_string().as_bytes()).await;
    }

    pub async fn submit_bytes(&self, body: &[u8]) {
        let properties = BasicProperties::default();
        self.submit_with(body, properties).await;
    }

    /// The same with properties; it is persistent in any case.
    pub async fn submit_with(&self, body: &[u8], properties: BasicProperties) {
        let properties = properties.with_delivery_mode(2);
        let publish = self.channel.basic_publish(
            "".into(),
            format!("in.{}", self.name).into(),
            BasicPublishOptions::default(),
            body,
            properties,
        );
        assert!(publish.await.unwrap().await.unwrap().is_ack());
    }

    /// A task with texts in its headers.
    pub async fn submit_traced(&self, body: &Value, headers: &[(&str, &str)]) {
        let mut table = FieldTable::default();
        for (name, text) in headers {
            let text = lapin::types::AMQPValue::LongString((*text).into());
            table.insert((*name).into(), text);
        }
        let properties = BasicProperties::default().with_headers(table);
        self.submit_with(body.to_string().as_bytes(), properties)
            .await;
    }

    /// The next message on the exchange, acknowledged.
    async fn event(&mut self) -> lapin::message::Delivery {
        let delivery = tokio::time::timeout(PATIENCE, self.events.next())
            .await
            .expect("no event came")
            .unwrap()
            .unwrap();
        delivery
            .acker
            .ack(BasicAckOptions::default())
            .await
            .unwrap();
        delivery
    }

    /// The next message on the exchange under such a key, and `traceparent` and `tracestate` of its
    /// headers.
    pub async fn next_context(
        &mut self,
        prefix: &str,
    ) -> (String, (Option<String>, Option<String>)) {
        loop {
            let delivery = self.event().await;
            let key = delivery.routing_key.to_string();
            if !key.starts_with(prefix) {
                continue;
            }
            let headers = delivery.properties.headers().clone().unwrap_or_default();
            let text = |name: &str| match headers.inner().get(name) {
                Some(lapin::types::AMQPValue::LongString(text)) => {
                    Some(String::from_utf8(text.as_bytes().to_vec()).unwrap())
                }
                _ => None,
            };
            return (key, (text("traceparent"), text("tracestate")));
        }
    }

    /// The next message on the exchange: routing key, envelope, delivery mode.
    pub async fn next(&mut self) -> (String, Value, Option<u8>) {
        let delivery = self.event().await;
        let envelope = serde_json::from_slice(&delivery.data).unwrap();
        (
            delivery.routing_key.as_str().to_owned(),
            envelope,
            *delivery.properties.delivery_mode(),
        )
    }

    /// The next message whose routing key begins like this; others (heartbeats never end) are
    /// skipped.
    pub async fn next_of(&mut self, prefix: &str) -> (String, Value, Option<u8>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.next().await;
            if message.0.starts_with(prefix) {
                return message;
            }
            assert!(Instant::now() < deadline, "no {prefix} came");
        }
    }

    /// The next result event's key and data.
    pub async fn next_result(&mut self) -> (String, Value) {
        let (key, envelope, _) = self.next_of("event.result.").await;
        (key["event.result.".len()..].to_owned(), envelope)
    }

    /// Messages that wait in the input queue; those somebody holds are not counted.
    pub async fn waiting(&self) -> u32 {
        let passive = QueueDeclareOptions::durable().passive();
        self.channel
            .queue_declare(
                format!("in.{}", self.name).into(),
                passive,
                FieldTable::default(),
            )
            .await
            .unwrap()
            .message_count()
    }
}
