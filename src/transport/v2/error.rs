//! What goes wrong, as the official SDKs read it: `{"error": {"code", "message", "details"}}`
//! (v2.md, "Rules of the prefix").

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::durable::Refused;
use crate::error::{Code, ErrorCode, Failure};
use crate::limits::text::quoted;
use crate::store::StoreError;

/// An answer that is not 2xx.
#[derive(Debug, Clone)]
pub struct ApiError {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    pub details: Option<Value>,
    pub retry_after: Option<Duration>,
}

const SOON: Duration = Duration::from_secs(1);

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            details: None,
            retry_after: None,
        }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// 422
    /// A query string that cannot be read, such as one with a parameter twice.
    pub fn query(error: &QueryRejection) -> Self {
        Self::invalid(format!(
            "the query string cannot be read: {}",
            quoted(&error.body_text())
        ))
    }

    pub fn unprocessable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    /// A gateway is asked for what an instance has.
    pub fn elsewhere() -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "not_supported",
            "belongs to an instance: see GET /instances",
        )
    }

    pub fn not_found(what: &str, id: &str) -> Self {
        let id: String = id.chars().take(100).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is no {what} \"{id}\", or not any more"),
        )
    }

    pub fn upstream() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "upstream_error",
            "the server could not do this; its log says why",
        )
    }

    pub fn with(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    pub fn retry(mut self, after: Duration) -> Self {
        self.retry_after = Some(after.max(SOON));
        self
    }

    /// What the pipeline says of a job that was about to be.
    pub fn of_submission(failure: &Failure) -> Self {
        let location = failure.location.as_deref().unwrap_or_default();
        let in_graph = location == "prompt" || location.starts_with("prompt.");
        match failure.code {
            Code::InvalidPrompt => {
                let message = failure
                    .message
                    .trim_start_matches("Failed to queue prompt: ");
                let mut details = json!({
                    "node_errors": failure.node_errors.clone().unwrap_or_else(|| json!({}))
                });
                if in_graph {
                    details["location"] = location.into();
                }
                Self::unprocessable("invalid_workflow", message).with(details)
            }
            Code::InvalidRequest
                if in_graph && (location == "prompt" || location.ends_with(".filename_prefix")) =>
            {
                Self::unprocessable("invalid_workflow", failure.message.clone())
                    .with(json!({"location": location}))
            }
            Code::DownloadFailed => Self::unprocessable("download_failed", failure.message.clone())
                .with(json!({"location": failure.location})),
            Code::InvalidRequest if in_graph => {
                Self::unprocessable("download_failed", failure.message.clone())
                    .with(json!({"location": location}))
            }
            Code::InvalidRequest => {
                let mut error = Self::invalid(failure.message.clone());
                if !location.is_empty() {
                    error.details = Some(json!({"location": location}));
                }
                error
            }
            _ => Self::from(failure.clone()),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure.code {
            Code::ComfyuiUnavailable | Code::ShuttingDown => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "deployment_not_ready",
                failure.message,
            )
            .retry(failure.retry_after.unwrap_or(SOON)),
            Code::InvalidRequest | Code::InvalidPrompt | Code::DownloadFailed => {
                Self::invalid(failure.message)
            }
            Code::PayloadTooLarge => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "payload_too_large",
                failure.message,
            ),
            Code::UnsupportedMediaType => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                failure.message,
            ),
            _ => {
                tracing::error!(
                    code = failure.code.as_str(),
                    error = %failure.message,
                    "a v2 request failed"
                );
                Self::upstream()
            }
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { needed, free } => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "storage_full",
                StoreError::Full { needed, free }.to_string(),
            )
            .with(json!({"needed": needed, "free": free})),
            StoreError::KeyReuse(made) => key_reuse("job_id", &made),
            StoreError::TooManyJobs => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "queue_full",
                "there are as many unfinished jobs as this server takes: try again later",
            )
            .retry(Duration::from_secs(5)),
            StoreError::NotFound => Self::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "there is no such record",
            ),
            StoreError::Gone => Self::new(
                StatusCode::NOT_FOUND,
                "output_unavailable",
                "the record is there, but its bytes are gone: they were removed to make room",
            ),
            StoreError::InUse => Self::new(
                StatusCode::CONFLICT,
                "asset_in_use",
                "this is an output of a job that has not ended: delete it when the job has",
            ),
            StoreError::Failed(reason) => {
                tracing::error!(reason, "the store failed");
                Self::upstream()
            }
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Failure(failure) => Self::of_submission(&failure),
            Refused::Store(error) => error.into(),
            Refused::MissingAssets(ids) => Self::unprocessable(
                "missing_asset",
                format!(
                    "the workflow refers to assets that are not here: {}",
                    ids.join(", ")
                ),
            )
            .with(json!({"missing_ids": ids})),
        }
    }
}

/// An idempotency key that was used before; `what` names what it made.
pub fn key_reuse(what: &str, made: &str) -> ApiError {
    ApiError::unprocessable(
        "idempotency_key_reuse",
        "this Idempotency-Key was used before: each is good for one request, and answers are not \
         replayed",
    )
    .with(json!({what: made}))
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body =
            json!({"error": {"code": self.code, "message": self.message, "details": self.details}});
        let mut response = (self.status, Json(body)).into_response();
        response.extensions_mut().insert(ErrorCode(self.code));
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(after.as_secs().max(1)),
            );
        }
        response
    }
}
