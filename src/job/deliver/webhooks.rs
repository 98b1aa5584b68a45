//! What the webhooks of a prompt say (delivery.md). How they get there is `webhook`'s business.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::super::request::{PromptRequest, WebhookRequest};
use super::super::service::Inner;
use super::response::Response;
use crate::document::{Document, placeholder};
use crate::error::{Code, Failure};
use crate::telemetry::trace::{Carried, Context};
use crate::timestamp;
use crate::webhook::{Delivery, Kind, Promise};

/// What is promised to each receiver of a request, in their order; nothing where nothing can be
/// noted.
pub(in crate::job) type Promises = Vec<Option<Arc<Promise>>>;

/// Notes that the receivers of an accepted request are told of its end, even if this process is
/// killed (attack.md, A52).
pub(in crate::job) async fn promise(
    inner: &Inner,
    request: &PromptRequest,
    graph: &impl Serialize,
    context: Option<&Context>,
) -> Promises {
    if !inner.webhooks.keeps_promises() {
        return Vec::new();
    }
    let killed = Failure::new(
        Code::ShuttingDown,
        "the server was killed before the prompt had ended: send it again",
    );
    let mut promises = Vec::new();
    for webhook in &request.webhooks {
        let body = failure_body(webhook.kind, &request.id, graph, &killed);
        let promised =
            inner
                .webhooks
                .promise(webhook.kind, &webhook.url, &request.id, &body, context);
        promises.push(promised.await);
    }
    promises
}

/// Tells the receivers of a result.
pub(in crate::job) fn succeeded(
    inner: &Inner,
    request: &PromptRequest,
    response: &Response,
    promises: Promises,
    trace: &Carried,
) {
    let mut promises = promises.into_iter();
    for webhook in &request.webhooks {
        let promise = promises.next().flatten();
        let deliver = |body: Document| {
            inner.webhooks.deliver(Delivery {
                kind: webhook.kind,
                url: webhook.url.clone(),
                id: request.id.to_string(),
                body,
                promise: promise.clone(),
                trace: trace.clone(),
            })
        };
        match webhook.kind {
            Kind::V2 => {
                // The body is an object that is never empty, so its first brace can make room for
                // two more members.
                let head = format!(
                    r#"{{"type":"prompt.complete","timestamp":"{}","#,
                    timestamp::now()
                );
                deliver(response.document.with_head(head));
            }
            Kind::Legacy => legacy_bodies(request, response).for_each(deliver),
        }
        // Of a legacy webhook without outputs nobody else would.
        inner.webhooks.release(promise);
    }
}

/// One for each output.
fn legacy_bodies<'a>(
    request: &'a PromptRequest,
    response: &'a Response,
) -> impl Iterator<Item = Document> + 'a {
    response.files.iter().map(|file| {
        let mark = uuid::Uuid::new_v4().to_string();
        let body = json!({
            "event": "output.complete", "image": placeholder(&mark, 0), "id": &*request.id,
            "filename": file.filename,
            "prompt": &*response.graph, "stats": &*response.stats,
        });
        let file = file.embedded();
        Document::with_files(&body, &mark, &[file], Some(response.keeper.clone()))
    })
}

/// A failure, as a receiver is told of it.
#[derive(Clone, Copy)]
pub(in crate::job) struct Notice<'a, G> {
    /// The caller's id.
    pub id: &'a str,
    /// As far as it is known.
    pub graph: &'a G,
    /// What happened.
    pub failure: &'a Failure,
    /// There is a record of the job.
    pub kept: bool,
}

/// Tells a receiver of a failure.
pub(in crate::job) fn failed<G: Serialize>(
    inner: &Inner,
    webhook: &WebhookRequest,
    notice: Notice<'_, G>,
    promise: Option<Arc<Promise>>,
    trace: Carried,
) {
    let Notice {
        id,
        graph,
        failure,
        kept,
    } = notice;
    let mut body = failure_body(webhook.kind, id, graph, failure);
    if kept && webhook.kind == Kind::V2 {
        body["job_id"] = id.into();
    }
    inner.webhooks.deliver(Delivery {
        kind: webhook.kind,
        url: webhook.url.clone(),
        id: id.to_owned(),
        body: Document::from_value(&body),
        promise,
        trace,
    });
}

fn failure_body(kind: Kind, id: &str, graph: &impl Serialize, failure: &Failure) -> Value {
    match kind {
        Kind::V2 => {
            let mut body = json!({
                "type": "prompt.failed",
                "timestamp": timestamp::now(),
                "id": id,
                "prompt": graph
            });
            if let Some(body) = body.as_object_mut() {
                body.extend(failure.body());
            }
            body
        }
        Kind::Legacy => {
            json!({"event": "prompt.failed", "id": id, "prompt": graph, "error": failure.message})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_head_is_put_into_an_object() {
        let document = Document::from_text(r#"{"id":"x"}"#).with_head(r#"{"type":"t","#.to_owned());
        let value: Value = serde_json::from_slice(&document.collect().await.unwrap()).unwrap();
        assert_eq!(value, json!({"type": "t", "id": "x"}));
    }
}
