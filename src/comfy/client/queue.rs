//! ComfyUI's queue.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{CallError, Client, beginning};

/// The ids in ComfyUI's queue.
#[derive(Debug, Default)]
pub struct QueueIds {
    /// Running, usually at most one.
    pub running: Vec<String>,
    /// Pending, next first.
    pub pending: Vec<String>,
}

impl Client {
    /// The ids in the queue. The reply holds whole graphs; only ids are kept.
    ///
    /// # Errors
    /// When ComfyUI does not answer. An answer without both lists is none: whoever took an empty
    /// one for an empty queue would give up prompts that run.
    pub async fn queue(&self) -> Result<QueueIds, CallError> {
        let reply = self.get("/queue").await?;
        if ["queue_running", "queue_pending"]
            .iter()
            .any(|list| !reply.get(list).is_some_and(Value::is_array))
        {
            return Err(CallError::Unexpected {
                call: "GET /queue".to_owned(),
                status: StatusCode::OK,
                text: beginning(reply.to_string().as_bytes()),
            });
        }
        let items = |name: &str| -> Vec<(f64, String)> {
            let list = reply
                .get(name)
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            list.iter()
                .filter_map(|item| {
                    Some((
                        item.get(0)?.as_f64().unwrap_or(0.0),
                        item.get(1)?.as_str()?.to_owned(),
                    ))
                })
                .collect()
        };
        let mut pending = items("queue_pending");
        // Heap order is not queue order (comfyui.md, section 2).
        pending.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(QueueIds {
            running: items("queue_running")
                .into_iter()
                .map(|(_, id)| id)
                .collect(),
            pending: pending.into_iter().map(|(_, id)| id).collect(),
        })
    }

    /// Removes a pending prompt; nothing happens when it is not pending.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn delete_pending(&self, id: &str) -> Result<(), CallError> {
        self.expect(Method::POST, "/queue", Some(json!({"delete": [id]})))
            .await
            .map(drop)
    }

    /// Interrupts a prompt if it is the one that runs.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn interrupt(&self, id: &str) -> Result<(), CallError> {
        self.expect(Method::POST, "/interrupt", Some(json!({"prompt_id": id})))
            .await
            .map(drop)
    }

    /// The atomic cancel of newer versions. `None` when this version does not have it.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn cancel_job(&self, id: &str) -> Result<Option<bool>, CallError> {
        match self
            .expect(Method::POST, &format!("/api/jobs/{id}/cancel"), None)
            .await
        {
            Ok(reply) => Ok(Some(
                reply
                    .get("cancelled")
                    .and_then(Value::as_bool)
                    .unwrap_or(false),
            )),
            Err(CallError::Unexpected {
                status: StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the jobs API is there.
    pub async fn has_jobs(&self) -> bool {
        self.get("/api/jobs?limit=1")
            .await
            .is_ok_and(|reply| reply.get("jobs").is_some())
    }
}
