//! What the webhooks of a prompt say (delivery.md). How they get there is `webhook`'s business.

use serde::Serialize;
use serde_json::json;

use super::super::request::{PromptRequest, WebhookRequest};
use super::super::service::Inner;
use super::response::Response;
use crate::document::{Document, EmbeddedFile, placeholder};
use crate::error::Failure;
use crate::timestamp;
use crate::webhook::{Delivery, Kind};

/// Tells the receivers of a result.
pub(in crate::job) fn succeeded(inner: &Inner, request: &PromptRequest, response: &Response) {
    for webhook in &request.webhooks {
        tell(inner, webhook, request, response);
    }
}

fn tell(inner: &Inner, webhook: &WebhookRequest, request: &PromptRequest, response: &Response) {
    let deliver = |body: Document| {
        inner.webhooks.deliver(Delivery {
            kind: webhook.kind,
            url: webhook.url.clone(),
            id: request.id.to_string(),
            body,
        })
    };
    match webhook.kind {
        Kind::V2 => {
            // The body is an object that is never empty, so its first brace can make room for two more members.
            let head = format!(
                r#"{{"type":"prompt.complete","timestamp":"{}","#,
                timestamp::now()
            );
            deliver(response.document.with_head(head));
        }
        Kind::Legacy => {
            for file in &response.files {
                let mark = uuid::Uuid::new_v4().to_string();
                let body = json!({
                    "event": "output.complete", "image": placeholder(&mark, 0), "id": &*request.id, "filename": file.filename,
                    "prompt": &*response.graph, "stats": response.stats,
                });
                deliver(Document::with_files(
                    &body,
                    &mark,
                    &[EmbeddedFile {
                        path: file.path.clone(),
                        size: file.size,
                    }],
                    Some(response.keeper.clone()),
                ));
            }
        }
    }
}

/// Tells the receiver of a failure.
pub(in crate::job) fn failed(
    inner: &Inner,
    webhook: &WebhookRequest,
    id: &str,
    graph: &impl Serialize,
    failure: &Failure,
) {
    let body = match webhook.kind {
        Kind::V2 => {
            let mut body = json!({"type": "prompt.failed", "timestamp": timestamp::now(), "id": id, "prompt": graph});
            if let Some(body) = body.as_object_mut() {
                body.extend(failure.body());
            }
            body
        }
        Kind::Legacy => {
            json!({"event": "prompt.failed", "id": id, "prompt": graph, "error": failure.message})
        }
    };
    inner.webhooks.deliver(Delivery {
        kind: webhook.kind,
        url: webhook.url.clone(),
        id: id.to_owned(),
        body: Document::from_value(&body),
    });
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[tokio::test]
    async fn a_head_is_put_into_an_object() {
        let document = Document::from_text(r#"{"id":"x"}"#).with_head(r#"{"type":"t","#.to_owned());
        let value: Value = serde_json::from_slice(&document.collect().await.unwrap()).unwrap();
        assert_eq!(value, json!({"type": "t", "id": "x"}));
    }
}
