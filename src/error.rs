//! What a transport answers when something goes wrong: a stable code, a public sentence, and where
//! in the request it happened.
//!
//! The table of codes and statuses is http-api.md's. Whatever is put into a [`Failure`] may reach a
//! client, a webhook, an event and the log, so it must be free of secrets when it is made.

use std::fmt;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Map, Value};

use crate::limits::{MAX_DETAILS, MAX_LOCATION, text};

/// The stable word of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is explained by its row in http-api.md")]
pub enum Code {
    InvalidRequest,
    InvalidPrompt,
    DownloadFailed,
    Unauthorized,
    ForbiddenOrigin,
    NotFound,
    MethodNotAllowed,
    Conflict,
    PayloadTooLarge,
    UnsupportedMediaType,
    ExecutionError,
    ExecutionInterrupted,
    UploadFailed,
    ComfyuiUnavailable,
    ShuttingDown,
    NotSupported,
    Internal,
}

/// The code of an answer that is not 2xx, in the extensions of the answer, for whoever looks on.
#[derive(Debug, Clone, Copy)]
pub struct ErrorCode(pub &'static str);

impl Code {
    /// Every code, for the OpenAPI document.
    pub const ALL: [Self; 17] = [
        Self::InvalidRequest,
        Self::InvalidPrompt,
        Self::DownloadFailed,
        Self::Unauthorized,
        Self::ForbiddenOrigin,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::ExecutionError,
        Self::ExecutionInterrupted,
        Self::UploadFailed,
        Self::ComfyuiUnavailable,
        Self::ShuttingDown,
        Self::NotSupported,
        Self::Internal,
    ];

    const fn row(self) -> (&'static str, StatusCode) {
        match self {
            Self::InvalidRequest => ("invalid_request", StatusCode::BAD_REQUEST),
            Self::InvalidPrompt => ("invalid_prompt", StatusCode::BAD_REQUEST),
            Self::DownloadFailed => ("download_failed", StatusCode::BAD_REQUEST),
            Self::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED),
            Self::ForbiddenOrigin => ("forbidden_origin", StatusCode::FORBIDDEN),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED),
            Self::Conflict => ("conflict", StatusCode::CONFLICT),
            Self::PayloadTooLarge => ("payload_too_large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::UnsupportedMediaType => {
                ("unsupported_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            Self::ExecutionError => ("execution_error", StatusCode::INTERNAL_SERVER_ERROR),
            Self::ExecutionInterrupted => ("execution_interrupted", StatusCode::CONFLICT),
            Self::UploadFailed => ("upload_failed", StatusCode::BAD_GATEWAY),
            Self::ComfyuiUnavailable => ("comfyui_unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::ShuttingDown => ("shutting_down", StatusCode::SERVICE_UNAVAILABLE),
            Self::NotSupported => ("not_supported", StatusCode::NOT_IMPLEMENTED),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// The word as it stands in bodies.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The status that goes with the code.
    pub const fn status(self) -> StatusCode {
        self.row().1
    }
}

/// A failure that is fit to be shown.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The stable word.
    pub code: Code,
    /// The HTTP status; the code's own unless an endpoint's compatibility asks for another.
    pub status: StatusCode,
    /// One sentence: what happened, where, and what to do.
    pub message: String,
    /// A path into the request, such as `prompt.12.inputs.ckpt_name`.
    pub location: Option<String>,
    /// More, for programs.
    pub details: Option<Value>,
    /// ComfyUI's own `node_errors`.
    pub node_errors: Option<Value>,
    /// Sent as `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Trying again elsewhere or later may succeed; AMQP puts such tasks back into the queue.
    pub transient: bool,
    /// So many attempts at most, where that is fewer than otherwise.
    pub attempts: Option<u32>,
    /// ComfyUI has died, and did not only fail to answer: it may have died of this job.
    pub comfyui_died: bool,
}

impl Failure {
    /// A failure with the code's own status and nothing else known.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let retry_later = matches!(code, Code::ComfyuiUnavailable | Code::ShuttingDown);
        Self {
            code,
            status: code.status(),
            message: bounded_sentence(message.into()),
            location: None,
            details: None,
            node_errors: None,
            retry_after: retry_later.then_some(Duration::from_secs(5)),
            transient: retry_later,
            attempts: None,
            comfyui_died: false,
        }
    }

    /// A 400 about one field.
    pub fn invalid(location: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, message).at(location)
    }

    /// Names the place in the request.
    #[must_use]
    pub fn at(mut self, location: impl Into<String>) -> Self {
        let location = location.into();
        self.location = Some(text::shorten(&location, MAX_LOCATION).into_owned());
        self
    }

    /// Replaces the status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds details for programs.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(text::bounded(details, MAX_DETAILS));
        self
    }

    /// Marks that another try may succeed.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    /// The JSON body: `error`, `code`, and whatever else is known; never longer than
    /// [`crate::limits`] says.
    pub fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("error".into(), text::sentence(&self.message).into());
        body.insert("code".into(), self.code.as_str().into());
        let location = self.location.as_deref();
        let bounded = |value: &Value| text::bounded(value.clone(), MAX_DETAILS);
        for (name, value) in [
            (
                "location",
                location.map(|location| text::shorten(location, MAX_LOCATION).into()),
            ),
            ("details", self.details.as_ref().map(bounded)),
            ("node_errors", self.node_errors.as_ref().map(bounded)),
        ] {
            if let Some(value) = value {
                body.insert(name.into(), value);
            }
        }
        body
    }
}

/// Error texts repeat what clients, ComfyUI and origins say, which may be megabytes.
fn bounded_sentence(message: String) -> String {
    match text::sentence(&message) {
        std::borrow::Cow::Borrowed(_) => message,
        std::borrow::Cow::Owned(short) => short,
    }
}

/// A task that panicked: a fault of ours, whatever it was about. Its text is in the log, beside the
/// panic's own.
pub fn panicked(what: &str) -> Failure {
    tracing::error!(what, "panicked; this is a defect, please report it");
    Failure::new(
        Code::Internal,
        format!("{what} failed by a defect of the server: please report it, with the log"),
    )
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The text of an error and of everything that caused it, without repetitions, on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.replace(['\n', '\r'], " ")
}
