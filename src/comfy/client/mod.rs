//! ComfyUI's HTTP side: one function per call, each with a time limit, replies read tolerantly.

mod facts;
mod history;
mod queue;
mod submit;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::json;
use crate::error::chain;

pub use queue::QueueIds;
pub use submit::Submitted;

/// Longest wait for a small reply. ComfyUI's HTTP loop answers in milliseconds even under load; a
/// busy Python GIL may take seconds.
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

/// The client. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) http: reqwest::Client,
    base: String,
    /// See [`Client::keep_as_mark`].
    mark: Arc<Mutex<Option<String>>>,
    /// See [`Client::turn_to_submit`].
    submissions: Arc<Semaphore>,
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
            submissions: Arc::new(Semaphore::new(submit::AT_A_TIME)),
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
        self.expect_as(method, path, body).await
    }

    /// The same for what is not to be built whole. An empty answer is `null`.
    async fn expect_as<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, CallError> {
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
        let json = if text.is_empty() { b"null" } else { &*text };
        json::parse(json).map_err(|_| unexpected())
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
