//! What is known of a job at one moment.

use serde_json::{Value, json};

use super::LiveJob;
use crate::durable::Inner;
use crate::job::progress::GraphProgress;
use crate::store::jobs::JobUpdate;
use crate::store::{AssetRecord, JobRecord, JobStatus, now_ms};

/// What is known of a job at one moment.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the keys of v2.md")]
pub struct JobView {
    pub record: JobRecord,
    pub queue_position: Option<usize>,
    pub progress: Option<Value>,
    pub error: Option<Value>,
    pub outputs: Vec<AssetRecord>,
    pub download: Option<(String, Option<u64>)>,
}

impl JobView {
    /// Of a job that is only recorded.
    pub fn of_record(record: JobRecord, outputs: Vec<AssetRecord>) -> Self {
        let parse = |text: &Option<String>| {
            text.as_deref()
                .and_then(|text| serde_json::from_str(text).ok())
        };
        Self {
            queue_position: None,
            progress: parse(&record.progress),
            error: parse(&record.error),
            outputs,
            download: None,
            record,
        }
    }
}

impl LiveJob {
    /// What is recorded of it.
    pub(in crate::durable) fn update(&self) -> JobUpdate {
        let state = self.state.lock();
        JobUpdate {
            status: state.status,
            started_at: state.started_at,
            completed_at: state.completed_at,
            error: state.error.as_ref().map(Value::to_string),
            attempts: state.attempts,
            outputs_reused: state.reused,
            outputs_count: i64::try_from(state.outputs.len()).unwrap_or(i64::MAX),
            progress: state
                .progress
                .as_ref()
                .map(|progress| shown_progress(progress).to_string()),
        }
    }

    pub(in crate::durable) fn view(&self, inner: &Inner) -> JobView {
        let queue_position = self.position(inner);
        let state = self.state.lock();
        let now = now_ms();
        let record = JobRecord {
            status: state.status,
            started_at: state.started_at.map(|at| at.min(now)),
            completed_at: state.completed_at,
            attempts: state.attempts,
            outputs_reused: state.reused,
            outputs_count: i64::try_from(state.outputs.len()).unwrap_or(i64::MAX),
            expires_at: state.completed_at.unwrap_or(self.record.created_at)
                + (self.record.expires_at - self.record.created_at),
            ..self.record.clone()
        };
        let queued = state.status == JobStatus::Queued;
        JobView {
            record,
            queue_position: queue_position.filter(|_| queued),
            progress: state
                .progress
                .as_ref()
                .filter(|_| !queued)
                .map(shown_progress),
            error: state.error.clone(),
            outputs: state.outputs.clone(),
            download: state.download.clone().filter(|_| queued),
        }
    }

    pub(super) fn position(&self, inner: &Inner) -> Option<usize> {
        let (status, job) = {
            let state = self.state.lock();
            (state.status, state.job.clone())
        };
        if status != JobStatus::Queued {
            return None;
        }
        let behind = || inner.again.place(self.record.seq);
        Some(
            job.and_then(|job| inner.service.place(&job))
                .unwrap_or_else(behind),
        )
    }
}

/// A snapshot as clients see it.
pub(in crate::durable) fn shown_progress(progress: &GraphProgress) -> Value {
    json!({
        "value": progress.value,
        "nodes_done": progress.nodes_done,
        "nodes_total": progress.nodes_total,
        "current_node": progress.current_node,
        "current_node_class": progress.current_class,
        "step": progress.step,
        "steps": progress.steps,
        "message": progress.message(),
    })
}
