//! The message of a job, and the word that it is to be cancelled.

use std::sync::Arc;
use std::time::Instant;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::json;

use super::ended::outcome;
use super::{Running, noted};
use crate::broker::envelope::service;
use crate::broker::publisher::properties;
use crate::broker::spans;
use crate::error::{Code, Failure};
use crate::fleet::Inner;
use crate::fleet::publish::Published;
use crate::telemetry::trace::{Context, names};

/// The word that a publication is called off is tried so often, for five seconds each.
const CALLING_OFF: u32 = 24;

impl Running<'_> {
    pub(super) async fn ask_to_cancel(&self) {
        let correlations = self.task.state().correlations.clone();
        for correlation in correlations {
            let context = self.job.trace.context();
            self.inner.ask_to_cancel(&correlation, context).await;
        }
    }

    pub(super) async fn publish(&self) -> Result<(), Failure> {
        let (inner, task) = (self.inner, self.task);
        let correlation = uuid::Uuid::new_v4().to_string();
        inner.tasks.correlate(task, &correlation);
        if task.kept {
            // Before it is published: whatever comes of it is known as its.
            noted(task, true).await?;
        }
        {
            let mut state = task.state();
            state.published = Some(Instant::now());
            state.waits_since.get_or_insert_with(Instant::now);
        }
        let name = queue_name(inner, task.queue);
        let mut properties = self.properties(&correlation);
        let mut span = spans::publish("", &name, self.job.trace.context());
        span.set(names::MESSAGING_MESSAGE_ID, task.id.to_string());
        if let Some(context) = span.context() {
            properties = spans::outgoing(properties, context);
        }
        let published = inner
            .publisher
            .to_queue(&name, properties, task.body.clone())
            .await;
        let outcome = outcome(&name, published);
        if let Err(failure) = &outcome {
            span.fail(failure.code.as_str());
        }
        outcome
    }

    fn properties(&self, correlation: &str) -> BasicProperties {
        let task = self.task;
        let short = |text: &str| ShortString::try_new(text).unwrap_or_default();
        let mut headers = FieldTable::default();
        if let Some(address) = &task.address {
            let address = AMQPValue::LongString(address.as_bytes().into());
            headers.insert("gateway".into(), address);
        }
        let flags = [
            ("secrets", task.needs_secrets),
            ("previews", task.previews),
            ("keep", task.wants_all),
        ];
        for (name, flag) in flags {
            headers.insert(name.into(), AMQPValue::Boolean(flag));
        }
        properties(true)
            .with_message_id(short(&task.id))
            .with_correlation_id(short(correlation))
            .with_reply_to(self.inner.reply_queue.clone())
            .with_priority(task.priority.unwrap_or(0))
            .with_headers(headers)
    }
}

pub(super) fn queue_name(inner: &Inner, queue: usize) -> String {
    inner.gateway.queues.get(queue).cloned().unwrap_or_default()
}

pub(super) fn too_large(longest: usize) -> Failure {
    Failure::new(
        Code::PayloadTooLarge,
        format!(
            "the job does not fit into a message of {} MiB (AMQP_MAX_MESSAGE_MB): send large \
             inputs as files, assets or URLs",
            longest >> 20
        ),
    )
}

impl Inner {
    /// Whoever works on this publication is to stop. Whether the broker has taken the message.
    async fn ask_to_cancel(&self, correlation: &str, context: Option<&Context>) -> bool {
        let data = json!({"correlation_id": correlation});
        let body = service("control_cancel", data, None);
        let mut about = properties(false);
        if let Some(context) = context {
            about = spans::outgoing(about, context);
        }
        let published = self
            .publisher
            .to_exchange(&self.exchange, "control.cancel", about, body)
            .await;
        published == Published::Confirmed
    }

    /// Nobody waits for these publications, and whoever works on one of them, or tries to put its
    /// files here, is told so.
    pub(in crate::fleet) fn call_off(self: &Arc<Self>, correlations: Vec<String>) {
        if correlations.is_empty() {
            return;
        }
        let inner = self.clone();
        tokio::spawn(async move {
            for correlation in correlations {
                let mut tries = CALLING_OFF;
                while !inner.ask_to_cancel(&correlation, None).await && tries > 0 {
                    tries -= 1;
                }
            }
        });
    }
}
