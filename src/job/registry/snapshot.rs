//! A job as lists show it.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::limits::{MAX_QUEUE_ENTRY, text};

/// The greatest percentage of a prompt that has not succeeded.
const BELOW_ALL: f64 = 99.9;

/// Where a prompt is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of http-api.md")]
pub enum Status {
    Preprocessing,
    Pending,
    Running,
    Postprocessing,
    Uploading,
    Succeeded,
    Failed,
    Interrupted,
}

/// How far the running prompt is.
#[derive(Debug, Clone, Default, Serialize, PartialEq, ToSchema)]
#[schema(as = EntryProgress)]
pub struct Progress {
    /// Of the node that works, as ComfyUI reports it.
    pub value: f64,
    /// See `value`.
    pub max: f64,
    /// The node that works.
    pub node: Option<String>,
    /// Of the whole graph, 0 to 100.
    pub percent: f64,
}

/// One prompt as `/queue` and `/prompt/{id}` show it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct JobSnapshot {
    /// The caller's id.
    #[schema(value_type = String, example = "order-1234")]
    pub id: Arc<str>,
    /// Where it is in its life.
    pub status: Status,
    /// Its place in the queue, 1 = next; only while pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub position: Option<usize>,
    /// The ComfyUI that it is in, or was, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub instance: Option<usize>,
    /// Where it came from: `http`, `amqp`, `workflow`, `v2`, `mcp` or `warmup`.
    #[schema(value_type = String, pattern = "^(http|amqp|workflow|v2|mcp|warmup)$")]
    pub source: &'static str,
    /// Epoch milliseconds.
    pub created_at: u64,
    /// When ComfyUI began, epoch milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub started_at: Option<u64>,
    /// Epoch milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub finished_at: Option<u64>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub progress: Option<Progress>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
    /// The stable word for why it failed.
    #[serde(skip)]
    pub code: Option<&'static str>,
}

/// An error as lists keep it: for [`MAX_QUEUE_ENTRY`] the id, the node and everything else need the
/// rest.
pub(super) fn entry_error(message: &str) -> String {
    text::shorten_escaped(message, MAX_QUEUE_ENTRY / 2 - 512).into_owned()
}

/// All of it for a success, also when everything came from ComfyUI's cache and no node ever said
/// how far it was; else what it had reached, which is less than all.
pub(super) fn last_progress(reached: Option<Progress>, succeeded: bool) -> Option<Progress> {
    if succeeded {
        return Some(Progress {
            percent: 100.0,
            ..reached.unwrap_or_default()
        });
    }
    reached.map(|reached| Progress {
        percent: reached.percent.min(BELOW_ALL),
        ..reached
    })
}
