//! What a job came to, as a tool's result: structured, and as content that a model can look at.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::content::{self, Content};
use super::context::Context;
use crate::durable::JobView;
use crate::durable::result::JobResult;
use crate::error::{Code, Failure};
use crate::job::registry::{JobSnapshot, Status};
use crate::store::{AssetRecord, JobStatus, StoreError};
use crate::transport::v2::time;

/// Of more files only so many are described.
pub const MOST_OUTPUTS: usize = 300;

/// What a tool answers.
#[derive(Debug, Clone)]
pub struct ToolResult {
    structured: Option<Value>,
    content: Vec<Value>,
    is_error: bool,
}

impl ToolResult {
    /// A value, and the same as JSON.
    pub fn of_value(value: Value) -> Self {
        Self {
            content: vec![text_block(&value.to_string())],
            structured: Some(value),
            is_error: false,
        }
    }

    /// Why there is none.
    pub fn of_failure(failure: &ToolFailure) -> Self {
        Self {
            structured: None,
            content: vec![text_block(&failure.sentence())],
            is_error: true,
        }
    }

    /// Of a run that never was a job, or that has ended badly.
    fn of_failed(structured: Value, failure: &ToolFailure) -> Self {
        Self {
            content: vec![
                text_block(&structured.to_string()),
                text_block(&failure.sentence()),
            ],
            structured: Some(structured),
            is_error: true,
        }
    }

    /// As it is sent.
    pub fn into_value(self) -> Value {
        let mut result = Map::new();
        result.insert("content".into(), self.content.into());
        if let Some(structured) = self.structured {
            result.insert("structuredContent".into(), structured);
        }
        if self.is_error {
            result.insert("isError".into(), true.into());
        }
        result.into()
    }
}

/// A text for a model.
pub fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// Why a tool has no result, or a run no success.
#[derive(Debug, Clone)]
pub struct ToolFailure {
    message: String,
    code: String,
    location: Option<String>,
    node_errors: Option<Value>,
    retry_after_s: Option<u64>,
}

impl ToolFailure {
    /// With one sentence.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: code.to_owned(),
            location: None,
            node_errors: None,
            retry_after_s: None,
        }
    }

    /// Something that is not there.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound.as_str(), message)
    }

    /// The queue is as long as it may be.
    pub fn queue_full(message: impl Into<String>) -> Self {
        Self {
            retry_after_s: Some(crate::durable::QUEUE_FULL.as_secs()),
            ..Self::new("queue_full", message)
        }
    }

    /// What a door of HTTP would have answered.
    fn of_body(body: &Map<String, Value>) -> Self {
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            message: text("error").unwrap_or_default(),
            code: text("code").unwrap_or_default(),
            location: text("location"),
            node_errors: body.get("node_errors").cloned(),
            retry_after_s: None,
        }
    }

    /// The sentence, with its place in front, and when to try again.
    pub fn sentence(&self) -> String {
        let mut sentence = match &self.location {
            Some(location) if !self.message.starts_with(location) => {
                format!("{location}: {}", self.message)
            }
            _ => self.message.clone(),
        };
        if let Some(seconds) = self.retry_after_s {
            sentence.push_str(&format!(" (try again in {seconds} s)"));
        }
        sentence
    }

    fn to_value(&self) -> Value {
        let mut error = json!({"error": self.message, "code": self.code});
        if let Some(location) = &self.location {
            error["location"] = location.clone().into();
        }
        if let Some(node_errors) = &self.node_errors {
            error["node_errors"] = node_errors.clone();
        }
        error
    }
}

impl From<Failure> for ToolFailure {
    fn from(failure: Failure) -> Self {
        Self {
            retry_after_s: failure.retry_after.map(|wait| wait.as_secs().max(1)),
            ..Self::of_body(&failure.body())
        }
    }
}

impl From<StoreError> for ToolFailure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooManyJobs => Self::queue_full(error.to_string()),
            StoreError::Full { .. } => Self::new("storage_full", error.to_string()),
            other => {
                tracing::error!(error = %other, "the store cannot answer a tool");
                Self::new(
                    Code::Internal.as_str(),
                    "the server's store cannot answer: the log says why",
                )
            }
        }
    }
}

/// Where a job is, in the words of this door.
pub const fn word(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Queued => "pending",
        JobStatus::Running | JobStatus::Canceling => "running",
        JobStatus::Succeeded => "succeeded",
        JobStatus::Failed | JobStatus::Expired => "failed",
        JobStatus::Canceled => "interrupted",
    }
}

/// A run that was refused before it was a job.
pub fn refused(id: &str, failure: &ToolFailure) -> ToolResult {
    let structured = json!({
        "id": id,
        "status": "failed",
        "outputs": [],
        "error": failure.to_value(),
    });
    ToolResult::of_failed(structured, failure)
}

/// A job that goes on.
pub fn unfinished(view: &JobView) -> ToolResult {
    let id = &view.record.id;
    let status = word(view.record.status);
    let mut structured = json!({"id": id, "status": status, "outputs": []});
    if let Some(position) = view.queue_position {
        structured["position"] = position.into();
    }
    if let Some(progress) = &view.progress {
        structured["progress"] = progress.clone();
    }
    let said = format!(
        "The job is {status} and goes on: {}. Call get_job with the id \"{id}\" for its result.",
        super::wait::said(view)
    );
    ToolResult {
        content: vec![text_block(&structured.to_string()), text_block(&said)],
        structured: Some(structured),
        is_error: false,
    }
}

/// A job as it is.
///
/// # Errors
/// When the store cannot be read.
pub async fn of_job(context: &Context, view: &JobView) -> Result<ToolResult, ToolFailure> {
    if !view.record.status.has_ended() {
        return Ok(unfinished(view));
    }
    let record = &view.record;
    let kept = context.state.jobs.result(&record.id).await?;
    let failure = failure(view, &kept);
    let described = files(context, view).await;
    let mut structured = json!({
        "id": record.id,
        "status": word(record.status),
        "outputs": described.iter().map(|file| file.value.clone()).collect::<Vec<_>>(),
    });
    let texts = kept
        .texts
        .filter(|texts| texts.as_object().is_some_and(|texts| !texts.is_empty()));
    if let Some(texts) = texts.filter(|texts| texts.to_string().len() <= content::MOST_TEXT) {
        structured["texts"] = texts;
    }
    if !kept.warnings.is_empty() {
        structured["warnings"] = kept.warnings.into();
    }
    if let Some(failure) = &failure {
        structured["error"] = failure.to_value();
    }
    if let Some(ended) = record.completed_at {
        let took = (ended - record.created_at).max(0);
        structured["seconds"] = (took as f64 / 1000.0).into();
    }
    let mut content = Content::new(&structured);
    if let Some(failure) = &failure {
        content.add_text(&failure.sentence());
    }
    content
        .add_files(context, &described, view.outputs.len())
        .await;
    Ok(ToolResult {
        structured: Some(structured),
        content: content.into_blocks(),
        is_error: failure.is_some(),
    })
}

fn failure(view: &JobView, kept: &JobResult) -> Option<ToolFailure> {
    let record = &view.record;
    if record.status == JobStatus::Succeeded {
        return None;
    }
    if let Some(body) = &kept.error {
        return Some(ToolFailure::of_body(body));
    }
    if record.status == JobStatus::Canceled {
        let message = format!("job {} was cancelled", record.id);
        return Some(Failure::new(Code::ExecutionInterrupted, message).into());
    }
    let text = |name: &str| {
        let error = view.error.as_ref()?;
        error.get(name).and_then(Value::as_str)
    };
    let code = match text("code") {
        Some("node_execution_error" | "output_missing") => Code::ExecutionError.as_str(),
        Some("invalid_workflow") => Code::InvalidPrompt.as_str(),
        Some("worker_lost") => Code::ComfyuiUnavailable.as_str(),
        Some("timed_out") => Code::ExecutionInterrupted.as_str(),
        Some(other) => other,
        None => Code::Internal.as_str(),
    };
    Some(ToolFailure::new(
        code,
        text("message").unwrap_or("the job has failed"),
    ))
}

/// An output that is described.
pub struct File {
    /// As it stands in the result.
    pub value: Value,
    /// Its record.
    pub asset: AssetRecord,
    /// Its bytes, if they are here.
    pub path: Option<PathBuf>,
}

/// Where an output is read.
pub fn uri(job: &str, index: i64) -> String {
    format!("comfyui://jobs/{job}/outputs/{index}")
}

async fn files(context: &Context, view: &JobView) -> Vec<File> {
    let jobs = &context.state.jobs;
    let mut files = Vec::new();
    for asset in view.outputs.iter().take(MOST_OUTPUTS) {
        let path = jobs.store().content(asset).ok();
        let (signed, until) = jobs.address(&context.base.absolute, &asset.id);
        let mut value = json!({
            "index": asset.position,
            "node_id": asset.node_id.clone().unwrap_or_default(),
            "filename": asset.file_path,
            "content_type": asset.content_type,
            "size": asset.size,
        });
        if let Some(path) = &path {
            content::measure(context, asset, path, &mut value).await;
        }
        value["uri"] = uri(&view.record.id, asset.position).into();
        value["url"] = signed.into();
        value["expires_at"] = time(until * 1000).into();
        files.push(File {
            value,
            asset: asset.clone(),
            path,
        });
    }
    files
}

/// A prompt of another door, of which nothing is kept but how it went.
pub fn of_entry(entry: &JobSnapshot) -> ToolResult {
    let status = match entry.status {
        Status::Preprocessing | Status::Pending => "pending",
        Status::Running | Status::Postprocessing | Status::Uploading => "running",
        Status::Succeeded => "succeeded",
        Status::Failed => "failed",
        Status::Interrupted => "interrupted",
    };
    let mut structured = json!({"id": &*entry.id, "status": status, "outputs": []});
    if let Some(position) = entry.position {
        structured["position"] = position.into();
    }
    if let Some(progress) = &entry.progress {
        structured["progress"] = json!({
            "value": progress.percent / 100.0,
            "current_node": progress.node,
            "step": progress.value,
            "steps": progress.max,
        });
    }
    if let Some(ended) = entry.finished_at {
        let took = ended.saturating_sub(entry.created_at);
        structured["seconds"] = (took as f64 / 1000.0).into();
    }
    if matches!(entry.status, Status::Failed | Status::Interrupted) {
        let failure = ToolFailure::new(
            entry.code.unwrap_or(Code::Internal.as_str()),
            entry.error.clone().unwrap_or_default(),
        );
        structured["error"] = failure.to_value();
        return ToolResult::of_failed(structured, &failure);
    }
    let said = match entry.status {
        Status::Succeeded => format!(
            "The job came through another door ({}) and was not kept: its files went there.",
            entry.source
        ),
        _ => format!(
            "The job is {status}; it came through another door ({}).",
            entry.source
        ),
    };
    ToolResult {
        content: vec![text_block(&structured.to_string()), text_block(&said)],
        structured: Some(structured),
        is_error: false,
    }
}
