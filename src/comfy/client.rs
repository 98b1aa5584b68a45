//! ComfyUI's HTTP side: one function per call, each with a time limit, replies read tolerantly.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::json;
use crate::error::chain;

/// Longest wait for a small reply. ComfyUI's HTTP loop answers in milliseconds even under load; a busy Python GIL may take seconds.
const SHORT: Duration = Duration::from_secs(30);

/// Why a call to ComfyUI failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer: not up, dead, or too slow.
    #[error("ComfyUI did not answer {call}: {reason}")]
    Unreachable {
        /// Which call, e.g. `GET /queue`.
        call: String,
        /// Why.
        reason: String,
        /// Nobody listens there: the process that did is gone.
        refused: bool,
    },
    /// An answer that is not what the call promises.
    #[error("ComfyUI answered {call} with {status}: {text}")]
    Unexpected {
        /// Which call.
        call: String,
        /// Its status.
        status: StatusCode,
        /// The beginning of the body.
        text: String,
    },
}

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

/// The ids in ComfyUI's queue.
#[derive(Debug, Default)]
pub struct QueueIds {
    /// Running, usually at most one.
    pub running: Vec<String>,
    /// Pending, next first.
    pub pending: Vec<String>,
}

/// The client. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) http: reqwest::Client,
    base: String,
    /// See [`Client::keep_as_mark`].
    mark: Arc<Mutex<Option<String>>>,
}

impl CallError {
    /// Nobody listens where ComfyUI is to be.
    pub const fn refused(&self) -> bool {
        matches!(self, Self::Unreachable { refused: true, .. })
    }
}

impl Client {
    /// A client of the ComfyUI at `authority` (`host:port`).
    pub fn new(http: reqwest::Client, authority: &str) -> Self {
        Self {
            http,
            base: format!("http://{authority}"),
            mark: Arc::default(),
        }
    }

    /// `http://host:port`
    pub fn base(&self) -> &str {
        &self.base
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let call = || format!("{method} {path}");
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.base))
            .timeout(limit);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        let unreachable = |error: reqwest::Error| CallError::Unreachable {
            call: call(),
            refused: error.is_connect() && !error.is_timeout(),
            reason: chain(&error.without_url()),
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        Ok((status, body))
    }

    async fn expect(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, CallError> {
        let body = body.map(|value| Bytes::from(value.to_string()));
        let (status, text) = self.call(method.clone(), path, body, SHORT).await?;
        let unexpected = || CallError::Unexpected {
            call: format!("{method} {path}"),
            status,
            text: beginning(&text),
        };
        if !status.is_success() {
            return Err(unexpected());
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        json::parse(&text).map_err(|_| unexpected())
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, CallError> {
        self.expect(Method::GET, path, None).await
    }

    /// The cheapest sign of life: `GET /prompt`.
    ///
    /// # Errors
    /// When ComfyUI does not answer within `limit`.
    pub async fn ping(&self, limit: Duration) -> Result<(), CallError> {
        let (status, text) = self.call(Method::GET, "/prompt", None, limit).await?;
        if status.is_success() {
            Ok(())
        } else {
            Err(CallError::Unexpected {
                call: "GET /prompt".into(),
                status,
                text: beginning(&text),
            })
        }
    }

    /// Queues a graph under an id of ours.
    ///
    /// # Errors
    /// When there is no usable answer. A refusal is [`Submitted::Rejected`].
    pub async fn submit(&self, body: Bytes) -> Result<Submitted, CallError> {
        // Validation runs on ComfyUI's event loop and may hash large input files, hence the longer limit.
        let (status, text) = self
            .call(
                Method::POST,
                "/prompt",
                Some(body),
                Duration::from_secs(300),
            )
            .await?;
        let reply = json::parse(&text).ok();
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
            // Malformed parts of a graph, such as a null node, are answered with text/plain 500 or 413.
            (status, _)
                if status.is_client_error() || status == StatusCode::INTERNAL_SERVER_ERROR =>
            {
                Ok(Submitted::Rejected {
                    error: json!({"type": "rejected", "message": format!("ComfyUI answered {status}: {}", beginning(&text)), "details": "", "extra_info": {}}),
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

    /// The history entry of one prompt, `None` while there is none.
    ///
    /// # Errors
    /// When ComfyUI does not answer, or not with a history: a proxy's empty 200 is no answer.
    pub async fn history(&self, id: &str) -> Result<Option<Value>, CallError> {
        let path = format!("/history/{id}");
        let mut reply = self.get(&path).await?;
        if !reply.is_object() {
            return Err(CallError::Unreachable {
                call: format!("GET {path}"),
                reason: "the answer is no history".to_owned(),
                refused: false,
            });
        }
        Ok(reply.get_mut(id).map(Value::take))
    }

    /// Never forgets this entry from now on: as long as it is there, ComfyUI is the same process.
    pub fn keep_as_mark(&self, id: &str) {
        *self.mark() = Some(id.to_owned());
    }

    /// Whether ComfyUI is another process than the one that holds the mark.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn mark_is_gone(&self) -> Result<bool, CallError> {
        let mark = self.mark().clone();
        match mark {
            Some(id) => Ok(self.history(&id).await?.is_none()),
            None => Ok(true),
        }
    }

    fn mark(&self) -> MutexGuard<'_, Option<String>> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets history entries.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn forget(&self, ids: &[String]) -> Result<(), CallError> {
        let mark = self.mark().clone();
        let ids: Vec<&String> = ids.iter().filter(|id| mark.as_ref() != Some(*id)).collect();
        self.expect(Method::POST, "/history", Some(json!({"delete": ids})))
            .await
            .map(drop)
    }

    /// The ids in the queue. The reply holds whole graphs; only ids are kept.
    ///
    /// # Errors
    /// When ComfyUI does not answer. An answer without both lists is none: whoever took an empty one for an empty queue would
    /// give up prompts that run.
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

    /// Every node class.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn object_info(&self) -> Result<Value, CallError> {
        self.get("/object_info").await
    }

    /// One node class: `{class: info}`, empty for an unknown one.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn class_info(&self, class: &str) -> Result<Value, CallError> {
        let class =
            percent_encoding::utf8_percent_encode(class, percent_encoding::NON_ALPHANUMERIC);
        self.get(&format!("/object_info/{class}")).await
    }

    /// Real directories per model folder, in search order.
    ///
    /// # Errors
    /// When ComfyUI does not answer or does not have the call.
    pub async fn folder_paths(&self) -> Result<Value, CallError> {
        self.get("/internal/folder_paths").await
    }

    /// Names of the model folders.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn model_folders(&self) -> Result<Vec<String>, CallError> {
        Ok(strings(&self.get("/models").await?))
    }

    /// File names in a model folder.
    ///
    /// # Errors
    /// When ComfyUI does not answer or does not know the folder.
    pub async fn models(&self, folder: &str) -> Result<Vec<String>, CallError> {
        let folder =
            percent_encoding::utf8_percent_encode(folder, percent_encoding::NON_ALPHANUMERIC);
        Ok(strings(&self.get(&format!("/models/{folder}")).await?))
    }

    /// Version and devices.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn system_stats(&self) -> Result<Value, CallError> {
        self.get("/system_stats").await
    }

    /// Asks it to let go of models and memory, as soon as it has a moment.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn free(&self, wanted: &Value) -> Result<(), CallError> {
        self.expect(Method::POST, "/free", Some(wanted.clone()))
            .await
            .map(drop)
    }

    /// Asks for (or ends) `logs` messages on the socket with this client id.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn subscribe_logs(&self, client_id: &str) -> Result<(), CallError> {
        let body = json!({"clientId": client_id, "enabled": true});
        self.expect(Method::PATCH, "/internal/logs/subscribe", Some(body))
            .await
            .map(drop)
    }
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array()
        .map(|list| {
            list.iter()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect()
        })
        .unwrap_or_default()
}

fn beginning(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(300)]);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
