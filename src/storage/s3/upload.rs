//! PutObject for small files, multipart in parallel for large ones, always streamed from disk.

use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use tokio_util::sync::CancellationToken;

use super::failure::from_sdk;
use super::transport::SENT;
use crate::storage::cloud::{FilePart, Meter, READ, in_parallel, size_of, supervised};
use crate::storage::{ErrorKind, Progress, StorageError, UploadFile};

/// Above this, multipart (storage.md).
const MULTIPART_ABOVE: u64 = 16 * 1024 * 1024;
/// Parts at once; each holds one read buffer in memory, not the part.
const CONNECTIONS: usize = 4;
/// S3's limit.
const MAX_PARTS: u64 = 10_000;
/// Attempts for one part or a clean-up: the engine's retry would begin the whole file again.
const ATTEMPTS: u32 = 3;

/// Uploads a file.
pub async fn upload(
    client: &Client,
    bucket: &str,
    key: &str,
    file: &UploadFile,
    progress: Option<&Progress>,
    cancel: &CancellationToken,
) -> Result<(), StorageError> {
    let shown = format!("s3://{bucket}/{key}");
    let size = size_of(&file.path).await?;
    let meter = Meter::new(size, progress);
    let object = Object {
        client: client.clone(),
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        shown: shown.clone(),
    };
    if size <= MULTIPART_ABOVE {
        return supervised(&shown, &meter, cancel, object.put(file, size, &meter)).await;
    }
    // From here on the service keeps parts that cost money: whatever way this ends, even by being
    // dropped, they are cleaned up. In a task of its own, because an upload whose beginning is not
    // waited for any more has begun nevertheless.
    let begun = tokio::spawn({
        let (object, content_type) = (object.clone(), file.content_type.clone());
        async move { object.begin(&content_type).await }
    });
    let begun = async {
        begun
            .await
            .map_err(|error| StorageError::new(ErrorKind::Transient, error.to_string()))?
    };
    let unfinished = supervised(&shown, &meter, cancel, begun).await?;
    let result = supervised(
        &shown,
        &meter,
        cancel,
        object.send_parts(&unfinished.id, file, size, &meter),
    )
    .await;
    match result {
        Ok(()) => unfinished.keep(),
        Err(_) => unfinished.abort().await,
    }
    result
}

#[derive(Clone)]
struct Object {
    client: Client,
    bucket: String,
    key: String,
    shown: String,
}

impl Object {
    async fn put(
        &self,
        file: &UploadFile,
        size: u64,
        meter: &Arc<Meter>,
    ) -> Result<(), StorageError> {
        let meter = Arc::clone(meter);
        let whole = FilePart {
            path: file.path.clone(),
            offset: 0,
            length: size,
        };
        let body = body_of(whole).await?;
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(&self.key)
            .content_type(&file.content_type);
        let sending = request.content_length(size.cast_signed()).body(body).send();
        SENT.scope(meter, sending)
            .await
            .map_err(|error| from_sdk(&self.shown, error))?;
        Ok(())
    }

    async fn begin(self, content_type: &str) -> Result<Unfinished, StorageError> {
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.key)
            .content_type(content_type);
        let answer = request
            .send()
            .await
            .map_err(|error| from_sdk(&self.shown, error))?;
        let Some(id) = answer.upload_id else {
            return Err(StorageError::new(
                ErrorKind::Failed,
                format!("{}: S3 began a multipart upload without an id", self.shown),
            ));
        };
        Ok(Unfinished {
            object: Some(self),
            id,
        })
    }

    async fn send_parts(
        &self,
        id: &str,
        file: &UploadFile,
        size: u64,
        meter: &Arc<Meter>,
    ) -> Result<(), StorageError> {
        let part_size = MULTIPART_ABOVE.max(size.div_ceil(MAX_PARTS));
        let parts: Vec<_> = FilePart::split(&file.path, size, part_size)
            .into_iter()
            .zip(1..)
            .collect();
        let sent = in_parallel(parts, CONNECTIONS, |(part, number)| {
            self.send_part(id, part, number, meter)
        })
        .await?;
        let sent = CompletedMultipartUpload::builder()
            .set_parts(Some(sent))
            .build();
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(id);
        request
            .multipart_upload(sent)
            .send()
            .await
            .map_err(|error| from_sdk(&self.shown, error))?;
        Ok(())
    }

    async fn send_part(
        &self,
        id: &str,
        part: FilePart,
        number: i32,
        meter: &Arc<Meter>,
    ) -> Result<CompletedPart, StorageError> {
        let length = part.length;
        let request = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(id)
            .part_number(number);
        let request = request
            .content_length(length.cast_signed())
            .body(body_of(part).await?)
            .customize();
        let sending = request.config_override(patiently()).send();
        let answer = SENT
            .scope(Arc::clone(meter), sending)
            .await
            .map_err(|error| from_sdk(&self.shown, error))?;
        let done = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(answer.e_tag)
            .set_checksum_crc32(answer.checksum_crc32);
        Ok(done
            .set_checksum_crc64_nvme(answer.checksum_crc64_nvme)
            .build())
    }

    async fn abort(&self, id: &str) {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(id)
            .customize();
        if let Err(error) = request.config_override(patiently()).send().await {
            let error = from_sdk(&self.shown, error);
            tracing::warn!(
                upload_id = id,
                "an unfinished multipart upload could not be cleaned up: {error}"
            );
        }
    }
}

/// For requests that the engine does not repeat.
fn patiently() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::Config::builder().retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
}

/// A multipart upload that is aborted unless it is kept.
struct Unfinished {
    object: Option<Object>,
    id: String,
}

impl Unfinished {
    fn keep(mut self) {
        self.object = None;
    }

    /// In a task of its own, so that it ends even when nobody waits for it any more.
    async fn abort(mut self) {
        let id = std::mem::take(&mut self.id);
        if let Some(object) = self.object.take() {
            let _ = tokio::spawn(async move { object.abort(&id).await }).await;
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let (Some(object), Ok(runtime)) =
            (self.object.take(), tokio::runtime::Handle::try_current())
        {
            let id = std::mem::take(&mut self.id);
            runtime.spawn(async move { object.abort(&id).await });
        }
    }
}

async fn body_of(part: FilePart) -> Result<ByteStream, StorageError> {
    let shown = part.path.display().to_string();
    let body = ByteStream::read_from()
        .path(part.path)
        .offset(part.offset)
        .length(Length::Exact(part.length))
        .buffer_size(READ)
        .build()
        .await;
    body.map_err(|error| {
        StorageError::new(
            ErrorKind::Failed,
            format!("{shown}: {}", crate::storage::cloud::words(&error)),
        )
    })
}
