//! The tasks extension: a job that is handed over as a task, and asked for by its id.

use rmcp::model::{
    CreateTaskResult, DetailedTask, GetTaskResult, Task, TaskAckResult, TaskPayload, TaskStatus,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::context::Context;
use super::message::RpcError;
use super::methods::text;
use super::{result, wait};
use crate::durable::JobView;
use crate::store::JobStatus;
use crate::transport::v2::time;

/// How often a client may ask.
const POLL_MS: u64 = 1_000;

/// The answer to a call whose job is not done yet.
pub fn created(view: &JobView) -> Value {
    sent(&CreateTaskResult::new(task(view, TaskStatus::Working)))
}

/// `tasks/get`
///
/// # Errors
/// When there is no such task.
pub async fn get(context: &Context, params: &Map<String, Value>) -> Result<Value, RpcError> {
    let view = find(context, params).await?;
    let (status, payload) = match view.record.status {
        JobStatus::Queued | JobStatus::Running | JobStatus::Canceling => {
            (TaskStatus::Working, TaskPayload::Working)
        }
        JobStatus::Canceled => (TaskStatus::Cancelled, TaskPayload::Cancelled),
        JobStatus::Succeeded | JobStatus::Failed | JobStatus::Expired => {
            let whole = result::of_job(context, &view)
                .await
                .map_err(|failure| RpcError::internal(failure.sentence()))?;
            let result = super::server::finished(context, whole.into_value());
            let result = result.as_object().cloned().unwrap_or_default();
            (TaskStatus::Completed, TaskPayload::Completed { result })
        }
    };
    let detailed = DetailedTask::new(task(&view, status), payload);
    Ok(sent(&GetTaskResult::new(detailed)))
}

/// `tasks/cancel`
///
/// # Errors
/// When there is no such task.
pub async fn cancel(context: &Context, params: &Map<String, Value>) -> Result<Value, RpcError> {
    let view = find(context, params).await?;
    context
        .state
        .jobs
        .cancel(&view.record.id)
        .await
        .map_err(|error| RpcError::internal(error.to_string()))?;
    Ok(sent(&TaskAckResult::new()))
}

/// `tasks/update`: nothing is ever asked of a client, so there is nothing to be told.
///
/// # Errors
/// When there is no such task.
pub async fn update(context: &Context, params: &Map<String, Value>) -> Result<Value, RpcError> {
    find(context, params).await?;
    Ok(sent(&TaskAckResult::new()))
}

async fn find(context: &Context, params: &Map<String, Value>) -> Result<JobView, RpcError> {
    let id = text(params, "taskId")?;
    context
        .state
        .jobs
        .view(id)
        .await
        .map_err(|error| RpcError::internal(error.to_string()))?
        .ok_or_else(|| {
            let shown = crate::limits::text::quoted(id);
            RpcError::params(format!(
                "there is no task \"{shown}\": it has expired, or never was"
            ))
        })
}

fn task(view: &JobView, status: TaskStatus) -> Task {
    let record = &view.record;
    let lives = u64::try_from(record.expires_at - record.created_at).unwrap_or(0);
    let updated = record
        .completed_at
        .or(record.started_at)
        .unwrap_or(record.created_at)
        .max(record.updated_at);
    Task::new(
        record.id.clone(),
        status,
        time(record.created_at),
        time(updated),
    )
    .with_status_message(wait::said(view))
    .with_ttl_ms(lives)
    .with_poll_interval_ms(POLL_MS)
}

fn sent(result: &impl Serialize) -> Value {
    serde_json::to_value(result).unwrap_or_default()
}
