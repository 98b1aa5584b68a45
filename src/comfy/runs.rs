//! ComfyUI's other runs, and its files, as its HTTP side shows them.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::Value;

use super::client::{CallError, Client};
use crate::error::chain;

/// How long a file may take.
const VIEWING: Duration = Duration::from_secs(600);
/// How far back history is looked at.
const RECENT: usize = 32;

/// A run that ComfyUI has in its queue or its history.
#[derive(Debug)]
pub struct KnownRun {
    /// Its id.
    pub id: String,
    /// Its graph.
    pub graph: Value,
    /// The socket that is told of it.
    pub client_id: Option<String>,
}

impl Client {
    /// Runs of late in history and in the queue, with their graphs, the oldest first.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn known_runs(&self) -> Result<Vec<KnownRun>, CallError> {
        // Queue before history: what leaves the one in between is in the other.
        let mut queue = self.get("/queue").await?;
        let mut history = self.get(&format!("/history?max_items={RECENT}")).await?;
        let mut items: Vec<Value> = Vec::new();
        if let Some(entries) = history.as_object_mut() {
            let prompts = entries
                .values_mut()
                .filter_map(|entry| entry.get_mut("prompt"));
            items.extend(prompts.map(Value::take));
        }
        for list in ["queue_running", "queue_pending"] {
            if let Some(Value::Array(list)) = queue.get_mut(list).map(Value::take) {
                items.extend(list);
            }
        }
        let known = items.into_iter().filter_map(|mut item| {
            let id = item.get(1)?.as_str()?.to_owned();
            let client_id = item.pointer("/3/client_id").and_then(Value::as_str);
            Some(KnownRun {
                id,
                client_id: client_id.map(str::to_owned),
                graph: item.get_mut(2)?.take(),
            })
        });
        Ok(known.collect())
    }

    /// One of ComfyUI's files, as it comes.
    ///
    /// # Errors
    /// When ComfyUI does not answer, or does not have it.
    pub async fn view(
        &self,
        kind: &str,
        subfolder: &str,
        filename: &str,
    ) -> Result<reqwest::Response, CallError> {
        let query = [
            ("type", kind),
            ("subfolder", subfolder),
            ("filename", filename),
        ];
        let request = self.http.get(format!("{}/view", self.base()));
        let request = request.query(&query).timeout(VIEWING);
        let answer = request
            .send()
            .await
            .map_err(|error| CallError::Unreachable {
                call: "GET /view".to_owned(),
                refused: false,
                reason: chain(&error.without_url()),
            })?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            status => Err(CallError::Unexpected {
                call: "GET /view".to_owned(),
                status,
                text: filename.chars().take(200).collect(),
            }),
        }
    }
}
