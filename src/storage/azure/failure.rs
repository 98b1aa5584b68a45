//! The SDK's errors in one sentence. Of the service's own messages only the first line: what
//! follows quotes signatures.

use azure_core::error::{Error, ErrorKind as SdkKind};

use crate::storage::cloud;
use crate::storage::{ErrorKind, StorageError};

/// A failed operation on `place`.
pub fn from_sdk(place: &str, error: &Error) -> StorageError {
    if let Some(sentence) = cloud::refusal(error) {
        return StorageError::new(ErrorKind::Invalid, sentence);
    }
    if let Some(trouble) = crate::storage::error::own_trouble(error) {
        return StorageError::local(format!("{place}: {trouble}"), trouble);
    }
    match error.kind() {
        SdkKind::HttpResponse { status, error_code } => {
            let message = error
                .as_http_error()
                .and_then(|error| error.error_message())
                .and_then(|message| message.lines().next());
            answered(place, u16::from(*status), error_code.as_deref(), message)
        }
        SdkKind::Credential => StorageError::new(
            ErrorKind::Unauthorized,
            format!("{place}: {}", cloud::words(error)),
        ),
        SdkKind::Io => StorageError::new(
            ErrorKind::Transient,
            format!("{place}: {}", cloud::words(error)),
        ),
        _ => StorageError::new(
            ErrorKind::Failed,
            format!("{place}: {}", cloud::words(error)),
        ),
    }
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
        .and_then(|message| crate::storage::error::shown(message, &[]))
        .map(|words| format!(": {words}"))
        .unwrap_or_default();
    StorageError::new(
        kind,
        format!("{place}: {advice} (Azure answered {status}{code}{words})"),
    )
}
