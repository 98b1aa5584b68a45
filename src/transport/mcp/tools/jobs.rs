//! `get_job`, `cancel_job`, `list_jobs`.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::context::Context;
use super::super::result::{self, ToolFailure, ToolResult, word};
use super::super::wait::{self, Waited};
use super::arguments::{Arguments, invalid};
use super::schemas::STATUSES;
use crate::job::Source;
use crate::job::registry::Status;
use crate::limits::text::quoted;
use crate::store::jobs::ListQuery;
use crate::store::{JobRecord, JobStatus};
use crate::transport::v2::time;

/// How often a prompt of another door is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(100);
/// Jobs of one list.
const MOST: usize = 200;

/// State or result of a job.
pub async fn get(context: &Context, arguments: Arguments) -> ToolResult {
    got(context, arguments)
        .await
        .unwrap_or_else(|failure| ToolResult::of_failure(&failure))
}

async fn got(context: &Context, mut arguments: Arguments) -> Result<ToolResult, ToolFailure> {
    let id = arguments.needed("id")?;
    let patience = arguments.wait()?.unwrap_or_default();
    let jobs = &context.state.jobs;
    if let Some(live) = jobs.live_run(&id) {
        if let Some(progress) = &context.progress {
            wait::tell_first(progress, &jobs.view_of(&live));
        }
        let waited = wait::wait(context, &live, patience, false).await;
        let view = jobs.view_of(&live);
        return if waited == Waited::Ended || view.record.status.has_ended() {
            result::of_job(context, &view).await
        } else {
            Ok(result::unfinished(&view))
        };
    }
    if let Some(view) = jobs.view_run(&id).await? {
        return result::of_job(context, &view).await;
    }
    let until = Instant::now() + patience;
    let service = &context.state.rest.service;
    loop {
        let entry = service.entry(&id).ok_or_else(|| unknown(&id))?;
        let ended = matches!(
            entry.status,
            Status::Succeeded | Status::Failed | Status::Interrupted
        );
        if ended || Instant::now() >= until {
            return Ok(result::of_entry(&entry));
        }
        sleep(LOOK).await;
    }
}

fn unknown(id: &str) -> ToolFailure {
    ToolFailure::unknown(format!(
        "there is no job \"{}\": it has expired, or never was; list_jobs says which there are",
        quoted(id)
    ))
}

/// Cancels a job of any door.
pub async fn cancel(context: &Context, mut arguments: Arguments) -> Result<Value, ToolFailure> {
    let id = arguments.needed("id")?;
    let cancelled = || Ok(json!({"id": id, "interrupted": "success"}));
    let jobs = &context.state.jobs;
    if jobs.live_run(&id).is_some() {
        if jobs.cancel(&id).await?.is_none() {
            jobs.interrupt(&id);
        }
        return cancelled();
    }
    let service = &context.state.rest.service;
    if service.interrupt(&id) {
        return cancelled();
    }
    let ended =
        |how: &str| ToolFailure::unknown(format!("job {} has already ended ({how})", quoted(&id)));
    if let Some(view) = jobs.view_run(&id).await? {
        return Err(ended(word(view.record.status)));
    }
    let entry = service.entry(&id).ok_or_else(|| unknown(&id))?;
    Err(ended(match entry.status {
        Status::Succeeded => "succeeded",
        Status::Interrupted => "interrupted",
        _ => "failed",
    }))
}

/// The jobs of this door.
pub async fn list(context: &Context, mut arguments: Arguments) -> Result<Value, ToolFailure> {
    let status = arguments.text("status")?;
    let limit = arguments.limit(20, MOST)?;
    if let Some(status) = &status
        && !STATUSES.contains(&status.as_str())
    {
        let message = format!("it must be one of {}", STATUSES.join(", "));
        return Err(invalid("status", message));
    }
    let wanted = |found: JobStatus| status.as_deref().is_none_or(|status| word(found) == status);
    let query = ListQuery {
        sources: vec![Source::Mcp.as_str()],
        statuses: JobStatus::ALL
            .into_iter()
            .filter(|found| wanted(*found))
            .collect(),
        limit,
        ..ListQuery::default()
    };
    let jobs = &context.state.jobs;
    let (records, _) = jobs.store().list_jobs(query).await?;
    let mut items = Vec::with_capacity(records.len());
    for record in records {
        // What is in flight is newer than its record.
        let item = match jobs.live(&record.id) {
            Some(live) => {
                let view = jobs.view_of(&live);
                if !wanted(view.record.status) {
                    continue;
                }
                item(&view.record, view.queue_position, view.progress.as_ref())
            }
            None => {
                let progress = record
                    .progress
                    .as_deref()
                    .and_then(|text| serde_json::from_str(text).ok());
                item(&record, None, progress.as_ref())
            }
        };
        items.push(item);
    }
    Ok(json!({"jobs": items}))
}

fn item(record: &JobRecord, position: Option<usize>, progress: Option<&Value>) -> Value {
    let tool = record
        .metadata
        .as_deref()
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
        .and_then(|labels| labels.get("tool").cloned());
    json!({
        "id": record.id,
        "tool": tool,
        "status": word(record.status),
        "position": position,
        "progress": progress,
        "created_at": time(record.created_at),
        "started_at": record.started_at.map(time),
        "completed_at": record.completed_at.map(time),
        "expires_at": time(record.expires_at),
    })
}
