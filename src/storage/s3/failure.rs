//! The SDK's errors in one sentence that says what to do.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::storage::cloud;
use crate::storage::{ErrorKind, StorageError};

/// A failed operation on `place`.
pub fn from_sdk<E>(place: &str, error: SdkError<E, HttpResponse>) -> StorageError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    if let Some(sentence) = cloud::refusal(&error) {
        return StorageError::new(ErrorKind::Invalid, sentence);
    }
    if let Some(trouble) = crate::storage::error::own_trouble(&error) {
        return StorageError::local(format!("{place}: {trouble}"), trouble);
    }
    match &error {
        SdkError::ServiceError(failed) => answered(
            place,
            failed.raw(),
            failed.err().code(),
            failed.err().message(),
        ),
        SdkError::ResponseError(failed) => answered(place, failed.raw(), None, None),
        SdkError::TimeoutError(_) => StorageError::new(
            ErrorKind::Transient,
            format!("{place}: S3 did not answer in time"),
        ),
        SdkError::ConstructionFailure(_) => StorageError::new(
            ErrorKind::Invalid,
            format!("{place}: {}", cloud::words(&error)),
        ),
        SdkError::DispatchFailure(failed) if failed.is_user() => StorageError::new(
            ErrorKind::Invalid,
            format!("{place}: {}", cloud::words(&error)),
        ),
        SdkError::DispatchFailure(failed) if failed.is_other() && no_credentials(&error) => {
            StorageError::new(
                ErrorKind::Invalid,
                format!(
                    "{place}: S3 is not configured: no credentials found; set AWS_ACCESS_KEY_ID \
                     and AWS_SECRET_ACCESS_KEY, or give the instance a role"
                ),
            )
        }
        _ => StorageError::new(
            ErrorKind::Transient,
            format!("{place}: {}", cloud::words(&error)),
        ),
    }
}

fn no_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    cloud::words(error)
        .to_ascii_lowercase()
        .contains("credentials")
}

fn answered(
    place: &str,
    response: &HttpResponse,
    code: Option<&str>,
    message: Option<&str>,
) -> StorageError {
    let status = response.status().as_u16();
    let kind = match code {
        Some("NoSuchKey" | "NoSuchBucket" | "NoSuchVersion" | "NotFound") => ErrorKind::NotFound,
        Some(
            "ExpiredToken"
            | "InvalidToken"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "AuthorizationHeaderMalformed",
        ) => ErrorKind::Unauthorized,
        Some("SlowDown" | "RequestTimeout" | "InternalError" | "ServiceUnavailable") => {
            ErrorKind::Transient
        }
        _ => cloud::classify(status),
    };
    let advice = match (status, code) {
        (_, Some("NoSuchBucket")) => "the bucket does not exist".to_owned(),
        (_, Some("NoSuchKey")) => "there is no such object".to_owned(),
        (301 | 307 | 400, _) if response.headers().get("x-amz-bucket-region").is_some() => {
            format!(
                "the bucket is in region {}: set AWS_REGION to it",
                response
                    .headers()
                    .get("x-amz-bucket-region")
                    .unwrap_or_default()
            )
        }
        (404, _) => "there is no such object or bucket".to_owned(),
        (401 | 403, _) => "the credentials do not permit it".to_owned(),
        (412, _) => "the object has changed meanwhile".to_owned(),
        _ => "the service refused it".to_owned(),
    };
    let mut sentence = format!("{place}: {advice} (S3 answered {status}");
    for detail in [code, message].into_iter().flatten() {
        if let Some(words) = crate::storage::error::shown(detail, &[]) {
            sentence.push_str(", ");
            sentence.push_str(&words);
        }
    }
    sentence.push(')');
    let mut error = StorageError::new(kind, sentence);
    error.retry_after = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.parse().ok())
        .map(std::time::Duration::from_secs);
    error
}
