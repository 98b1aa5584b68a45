//! A graph is handed over.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::{CallError, Client, beginning};
use crate::comfy::json;

/// Graphs on their way at a time. ComfyUI checks one after the other: a crowd that comes in one
/// moment would only open hundreds of connections, and have all its graphs in memory as texts.
pub(super) const AT_A_TIME: usize = 16;
/// The longest wait for those before. A ComfyUI that does not answer is found out by each by
/// itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// What ComfyUI says to a graph.
#[derive(Debug)]
pub enum Submitted {
    /// Queued. `node_errors` is not empty when some outputs were left out.
    Accepted {
        /// ComfyUI's `node_errors`.
        node_errors: Map<String, Value>,
    },
    /// Refused.
    Rejected {
        /// ComfyUI's `error`.
        error: Value,
        /// ComfyUI's `node_errors`.
        node_errors: Value,
    },
}

impl Client {
    /// Waits until a graph may be sent; until the value is dropped it counts as on its way.
    pub async fn turn_to_submit(&self) -> Option<OwnedSemaphorePermit> {
        let turn = self.submissions.clone().acquire_owned();
        timeout(PATIENCE, turn).await.ok()?.ok()
    }

    /// Queues a graph under an id of ours.
    ///
    /// # Errors
    /// When there is no usable answer. A refusal is [`Submitted::Rejected`].
    pub async fn submit(&self, body: Bytes) -> Result<Submitted, CallError> {
        // Validation runs on ComfyUI's event loop and may hash large input files, hence the longer
        // limit.
        let (status, text) = self
            .call(
                Method::POST,
                "/prompt",
                Some(body),
                Duration::from_secs(300),
            )
            .await?;
        let reply: Option<Value> = json::parse(&text).ok();
        match (status, reply) {
            (StatusCode::OK, Some(mut reply)) => {
                let node_errors = reply
                    .get_mut("node_errors")
                    .and_then(Value::as_object_mut)
                    .map(std::mem::take)
                    .unwrap_or_default();
                Ok(Submitted::Accepted { node_errors })
            }
            (StatusCode::BAD_REQUEST, Some(mut reply)) if reply.get("error").is_some() => {
                Ok(Submitted::Rejected {
                    error: reply["error"].take(),
                    node_errors: reply
                        .get_mut("node_errors")
                        .map(Value::take)
                        .unwrap_or_default(),
                })
            }
            // Malformed parts of a graph, such as a null node, are answered with text/plain 500 or
            // 413.
            (status, _)
                if status.is_client_error() || status == StatusCode::INTERNAL_SERVER_ERROR =>
            {
                Ok(Submitted::Rejected {
                    error: json!({
                        "type": "rejected",
                        "message": format!("ComfyUI answered {status}: {}", beginning(&text)),
                        "details": "",
                        "extra_info": {}
                    }),
                    node_errors: json!({}),
                })
            }
            (status, _) => Err(CallError::Unexpected {
                call: "POST /prompt".into(),
                status,
                text: beginning(&text),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_crowd_takes_turns_and_nobody_waits_long_for_others() {
        crate::net::install_crypto();
        let client = Client::new(reqwest::Client::new(), "127.0.0.1:1");
        let mut turns = Vec::new();
        for _ in 0..AT_A_TIME {
            turns.push(client.turn_to_submit().await.unwrap());
        }
        let since = std::time::Instant::now();
        assert!(client.turn_to_submit().await.is_none());
        assert!(since.elapsed() >= PATIENCE);
        turns.pop();
        assert!(client.turn_to_submit().await.is_some());
    }
}
