//! HeadObject and GetObject.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType};
use aws_smithy_checksums::ChecksumAlgorithm;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use base64::Engine;
use futures_util::StreamExt;

use super::Location;
use super::client::Store;
use super::failure::from_sdk;
use crate::net::http_fields::{ContentRange, content_range, disposition_name, media_type};
use crate::storage::backend::{ByteRange, Checksum, ObjectInfo, ObjectStream};
use crate::storage::cloud;
use crate::storage::{ErrorKind, StorageError};

/// Asks about an object, its checksum included.
pub async fn head(store: &Store, location: &Location) -> Result<ObjectInfo, StorageError> {
    let ask = |checked: bool| {
        let request = store
            .client
            .head_object()
            .bucket(&location.bucket)
            .key(&location.key)
            .set_version_id(location.version.clone());
        match checked {
            true => request.checksum_mode(ChecksumMode::Enabled),
            false => request,
        }
        .send()
    };
    let head = with_checksums(store, true, ask)
        .await
        .map_err(|error| from_sdk(&location.shown(), error))?;
    Ok(ObjectInfo {
        size: head
            .content_length()
            .and_then(|length| u64::try_from(length).ok()),
        etag: head.e_tag().and_then(strong),
        weak_etag: None,
        last_modified: head.last_modified().map(date),
        ranges: true,
        sha256: whole_sha256(head.checksum_sha256(), head.checksum_type()),
        checksum: None,
        content_type: head.content_type().map(media_type),
        disposition_name: head.content_disposition().and_then(disposition_name),
        final_url: None,
    })
}

/// Asks with checksums where the service may know them. Where it refuses that, it is asked once
/// more without (F08).
async fn with_checksums<T, E, F>(
    store: &Store,
    wanted: bool,
    ask: impl Fn(bool) -> F,
) -> Result<T, SdkError<E, HttpResponse>>
where
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    E: ProvideErrorMetadata,
{
    let checked = wanted && store.knows_checksums();
    let answer = ask(checked).await;
    if !checked || !answer.as_ref().err().is_some_and(is_unknown) {
        return answer;
    }
    let again = ask(false).await;
    if !again.as_ref().err().is_some_and(is_unknown) {
        store.without_checksums();
    }
    again
}

/// Whether a service may have stumbled over a header that it does not know. HEAD is answered
/// without words.
fn is_unknown<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    let code = error.code().unwrap_or_default();
    let message = error.message().unwrap_or_default().to_ascii_lowercase();
    match status {
        Some(501) => true,
        Some(400) => {
            matches!(
                code,
                "" | "NotImplemented" | "InvalidArgument" | "InvalidRequest" | "BadRequest"
            ) || [
                "header",
                "checksum",
                "unsupported",
                "not implemented",
                "parameter",
            ]
            .iter()
            .any(|word| message.contains(word))
        }
        _ => false,
    }
}

/// Begins to fetch an object; a whole one with whatever checksum the service keeps, which the
/// engine verifies.
pub async fn open(
    store: &Store,
    location: &Location,
    range: Option<ByteRange>,
    if_match: Option<&str>,
) -> Result<ObjectStream, StorageError> {
    let ask = |checked: bool| {
        let request = store
            .client
            .get_object()
            .bucket(&location.bucket)
            .key(&location.key)
            .set_version_id(location.version.clone())
            .set_if_match(if_match.map(str::to_owned));
        match range {
            Some(range) => request.range(range.to_string()),
            None if checked => request.checksum_mode(ChecksumMode::Enabled),
            None => request,
        }
        .send()
    };
    let shown = location.shown();
    let got = match with_checksums(store, range.is_none(), ask).await {
        Ok(got) => got,
        // The whole of it shows the engine that the object has changed.
        Err(error)
            if range.is_some()
                && error
                    .raw_response()
                    .is_some_and(|raw| matches!(raw.status().as_u16(), 412 | 416)) =>
        {
            return Box::pin(open(store, location, None, None)).await;
        }
        Err(error) => return Err(from_sdk(&shown, error)),
    };
    let length = got
        .content_length()
        .and_then(|length| u64::try_from(length).ok());
    let (offset, size) = match got.content_range().map(content_range) {
        Some(Some(ContentRange {
            start: Some(start),
            total,
        })) => (start, total),
        Some(_) => {
            return Err(StorageError::new(
                ErrorKind::Transient,
                format!("{shown}: S3 sent a Content-Range that makes no sense"),
            ));
        }
        None => (0, length),
    };
    let info = info(&got, size);
    Ok(ObjectStream {
        info,
        offset,
        body: body(shown, got.body).boxed(),
    })
}

fn info(got: &GetObjectOutput, size: Option<u64>) -> ObjectInfo {
    ObjectInfo {
        size,
        etag: got.e_tag().and_then(strong),
        weak_etag: None,
        last_modified: got.last_modified().map(date),
        ranges: true,
        sha256: whole_sha256(got.checksum_sha256(), got.checksum_type()),
        checksum: whole_checksum(got),
        content_type: got.content_type().map(media_type),
        disposition_name: got.content_disposition().and_then(disposition_name),
        final_url: None,
    }
}

fn body(
    shown: String,
    stream: ByteStream,
) -> impl futures_util::Stream<Item = Result<bytes::Bytes, StorageError>> + Send {
    futures_util::stream::unfold(Some((shown, stream)), |state| async move {
        let (shown, mut stream) = state?;
        match stream.next().await? {
            Ok(bytes) => Some((Ok(bytes), Some((shown, stream)))),
            Err(error) => {
                let failed = StorageError::new(
                    ErrorKind::Transient,
                    format!("{shown}: the transfer broke off: {}", cloud::words(&error)),
                );
                Some((Err(failed), None))
            }
        }
    })
}

fn date(at: &aws_sdk_s3::primitives::DateTime) -> String {
    at.secs().to_string()
}

fn strong(etag: &str) -> Option<String> {
    (!etag.starts_with("W/") && !etag.is_empty()).then(|| etag.to_owned())
}

/// Another checksum of the whole object.
fn whole_checksum(got: &GetObjectOutput) -> Option<Checksum> {
    let kept = [
        (ChecksumAlgorithm::Crc64Nvme, got.checksum_crc64_nvme()),
        (ChecksumAlgorithm::Crc32c, got.checksum_crc32_c()),
        (ChecksumAlgorithm::Crc32, got.checksum_crc32()),
        (ChecksumAlgorithm::Sha1, got.checksum_sha1()),
    ];
    kept.into_iter().find_map(|(algorithm, value)| {
        Some(Checksum {
            algorithm,
            digest: whole(algorithm, value, got.checksum_type())?,
        })
    })
}

/// The SHA-256 of the whole object in hex.
fn whole_sha256(value: Option<&str>, kind: Option<&ChecksumType>) -> Option<String> {
    whole(ChecksumAlgorithm::Sha256, value, kind).map(hex::encode)
}

/// A checksum as the service states it. A composite one (of the parts' checksums, with `-<parts>`
/// behind, which does not decode) says nothing of the whole.
fn whole(
    algorithm: ChecksumAlgorithm,
    value: Option<&str>,
    kind: Option<&ChecksumType>,
) -> Option<Vec<u8>> {
    let value = value.filter(|_| kind != Some(&ChecksumType::Composite))?;
    let digest = base64::engine::general_purpose::STANDARD
        .decode(value)
        .ok()?;
    (digest.len() as u64 == aws_smithy_checksums::Checksum::size(&*algorithm.into_impl()))
        .then_some(digest)
}
