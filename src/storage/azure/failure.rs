//! The service's refusals in one sentence. Of its own messages only the first line: what follows
//! quotes signatures.

use reqwest::Response;

use crate::net::http_fields::retry_after;
use crate::storage::error::{element, read_refusal, shown, unescaped};
use crate::storage::{ErrorKind, StorageError, cloud};

/// Where the service says what a refusal is called; a HEAD has nothing else.
const CODE: &str = "x-ms-error-code";

/// An answer, when it is what was asked for.
///
/// # Errors
/// When it is a refusal.
pub async fn accepted(place: &str, response: Response) -> Result<Response, StorageError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status().as_u16();
    let wait = retry_after(response.headers());
    let code = response.headers().get(CODE);
    let code = code.and_then(|code| code.to_str().ok()).map(str::to_owned);
    let body = read_refusal(response).await;
    let text = String::from_utf8_lossy(&body);
    let code = code.or_else(|| element(&text, "Code").map(str::to_owned));
    let message = element(&text, "Message").and_then(|message| message.lines().next());
    let mut error = answered(place, status, code.as_deref(), message);
    error.retry_after = wait;
    Err(error)
}

fn answered(place: &str, status: u16, code: Option<&str>, message: Option<&str>) -> StorageError {
    let kind = match code {
        Some(
            "PublicAccessNotPermitted" | "NoAuthenticationInformation" | "AuthenticationFailed",
        ) => ErrorKind::Unauthorized,
        Some("ContainerBeingDeleted" | "ServerBusy" | "OperationTimedOut" | "InternalError") => {
            ErrorKind::Transient
        }
        Some(
            "BlobImmutableDueToPolicy" | "InvalidBlobType" | "BlobArchived" | "LeaseIdMissing",
        ) => ErrorKind::Failed,
        _ => cloud::classify(status),
    };
    let advice = match (status, code) {
        (_, Some("ContainerNotFound")) => "the container does not exist",
        (404, Some("ResourceNotFound")) => {
            "there is no such blob, or it is private and needs credentials"
        }
        (404, _) => "there is no such blob or container",
        (_, _) if kind == ErrorKind::Unauthorized => {
            "the credentials do not permit it, or none were given"
        }
        (412, _) => "the blob has changed meanwhile",
        _ => "the service refused it",
    };
    let code = code
        .map(|code| format!(", {}", code.chars().take(100).collect::<String>()))
        .unwrap_or_default();
    let words = message
        .and_then(|message| shown(&unescaped(message), &[]))
        .map(|words| format!(": {words}"))
        .unwrap_or_default();
    StorageError::new(
        kind,
        format!("{place}: {advice} (Azure answered {status}{code}{words})"),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http;

    use super::*;

    async fn refused(answer: http::response::Builder, body: &'static str) -> StorageError {
        let response = Response::from(answer.body(body).unwrap());
        accepted("place", response).await.unwrap_err()
    }

    /// The words as the service writes them, with a first line for people and the rest for its
    /// makers.
    #[tokio::test]
    async fn refusals_keep_their_status_code_and_words() {
        let error = refused(
            http::Response::builder().status(403),
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>AuthenticationFailed\
             </Code><Message>Server failed to authenticate.\nRequestId:1\nTime:2</Message>\
             <AuthenticationErrorDetail>Signature did not match: marked</AuthenticationErrorDetail>\
             </Error>",
        )
        .await;
        assert_eq!(error.kind, ErrorKind::Unauthorized);
        assert_eq!(
            error.message,
            "place: the credentials do not permit it, or none were given (Azure answered 403, \
             AuthenticationFailed: Server failed to authenticate.)"
        );
        let busy = http::Response::builder()
            .status(503)
            .header(CODE, "ServerBusy")
            .header("retry-after", "7");
        let error = refused(busy, "").await;
        assert_eq!(
            (error.kind, error.retry_after),
            (ErrorKind::Transient, Some(Duration::from_secs(7)))
        );
        assert_eq!(
            error.message,
            "place: the service refused it (Azure answered 503, ServerBusy)"
        );
    }
}
