//! How a job ends: the status and the error that clients see.

use serde_json::{Map, Value, json};

use crate::error::{Code, Failure};
use crate::store::JobStatus;

/// An end.
pub(super) struct End {
    pub status: JobStatus,
    pub error: Option<Value>,
    /// What a transport over HTTP would have answered: kept beside the record, for transports that
    /// speak its codes.
    pub failure: Option<Map<String, Value>>,
}

impl End {
    fn of(status: JobStatus, error: Option<Value>) -> Self {
        Self {
            status,
            error,
            failure: None,
        }
    }

    pub fn succeeded() -> Self {
        Self::of(JobStatus::Succeeded, None)
    }

    pub fn cancelled() -> Self {
        Self::of(JobStatus::Canceled, None)
    }

    pub fn expired() -> Self {
        let message = "the job waited longer than V2_QUEUE_TIMEOUT_S allows";
        Self::of(JobStatus::Expired, Some(error("queue_timeout", message)))
    }

    pub fn failed(code: &str, message: String) -> Self {
        Self::of(JobStatus::Failed, Some(error(code, &message)))
    }
}

fn error(code: &str, message: &str) -> Value {
    json!({
        "code": code,
        "message": message,
        "node_id": null,
        "class_type": null,
        "traceback": null
    })
}

/// The end that a failure of the pipeline means.
pub(super) fn of_failure(failure: &Failure, cancelled: bool) -> End {
    End {
        failure: Some(failure.body()),
        ..end_of(failure, cancelled)
    }
}

fn end_of(failure: &Failure, cancelled: bool) -> End {
    let code = match failure.code {
        Code::ExecutionInterrupted
            if !cancelled && failure.message.contains("PROMPT_TIMEOUT_S") =>
        {
            "timed_out"
        }
        Code::ExecutionInterrupted => return End::cancelled(),
        Code::ExecutionError => match &failure.details {
            Some(details) if details.get("node_id").is_some_and(|node| !node.is_null()) => {
                return End::of(JobStatus::Failed, Some(node_error(failure, details)));
            }
            _ => "output_missing",
        },
        Code::InvalidPrompt | Code::InvalidRequest => "invalid_workflow",
        Code::DownloadFailed => "download_failed",
        Code::UploadFailed => "upload_failed",
        Code::ComfyuiUnavailable => "worker_lost",
        _ => "internal",
    };
    End::failed(code, failure.message.clone())
}

fn node_error(failure: &Failure, details: &Value) -> Value {
    let text = |name: &str| {
        details
            .get(name)
            .and_then(Value::as_str)
            .map(str::trim)
            .filter(|text| !text.is_empty())
    };
    let message = text("exception_message").unwrap_or(&failure.message);
    let traceback = match details.get("traceback") {
        Some(Value::Array(lines)) => {
            Some(lines.iter().filter_map(Value::as_str).collect::<String>())
        }
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    };
    json!({
        "code": "node_execution_error",
        "message": message,
        "node_id": text("node_id"),
        "class_type": text("node_type"),
        "traceback": traceback,
    })
}
