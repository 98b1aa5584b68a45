//! Properties of a blob, and its bytes as one continuous stream.

use azure_core::request_options::{IfMatchCondition, Range};
use azure_storage_blobs::blob::Blob;
use azure_storage_blobs::prelude::{BlobClient, BlobVersioning, Snapshot, VersionId};
use futures_util::StreamExt;

use super::failure::from_sdk;
use super::location::Location;
use crate::net::http_fields::{disposition_name, media_type};
use crate::storage::backend::{ByteRange, ObjectInfo, ObjectStream};
use crate::storage::cloud;
use crate::storage::{ErrorKind, StorageError};

/// The SDK fetches in chunks, one request each; a chunk larger than any blob (190 TiB) makes one
/// request of it.
const ONE_CHUNK: u64 = 1 << 50;

/// Asks about a blob.
pub async fn head(client: &BlobClient, location: &Location) -> Result<ObjectInfo, StorageError> {
    let mut request = client.get_properties();
    if let Some(version) = version(location) {
        request = request.blob_versioning(version);
    }
    let answer = request
        .await
        .map_err(|error| from_sdk(&location.shown, &error))?;
    let size = answer.blob.properties.content_length;
    Ok(info(&answer.blob, Some(size)))
}

/// Begins to fetch a blob.
pub async fn open(
    client: &BlobClient,
    location: &Location,
    range: Option<ByteRange>,
    if_match: Option<&str>,
) -> Result<ObjectStream, StorageError> {
    let start = range.map_or(0, |range| range.start);
    let end = range
        .and_then(|range| range.end)
        .map_or(start + ONE_CHUNK, |last| last + 1);
    let mut request = client
        .get()
        .chunk_size(ONE_CHUNK)
        .range(Range::new(start, end));
    if let Some(etag) = if_match {
        request = request.if_match(IfMatchCondition::Match(etag.to_owned()));
    }
    if let Some(version) = version(location) {
        request = request.blob_versioning(version);
    }
    let page = request.into_stream().next().await;
    let page = match page {
        Some(Ok(page)) => page,
        // Every range of an empty blob is out of range.
        Some(Err(error)) if start == 0 && status(&error) == Some(416) => {
            return empty(client, location).await;
        }
        // The whole of it shows the engine that the blob has changed.
        Some(Err(error)) if range.is_some() && matches!(status(&error), Some(412 | 416)) => {
            return Box::pin(open(client, location, None, None)).await;
        }
        Some(Err(error)) => return Err(from_sdk(&location.shown, &error)),
        None => {
            return Err(StorageError::new(
                ErrorKind::Transient,
                format!("{}: Azure sent nothing", location.shown),
            ));
        }
    };
    let length = page.blob.properties.content_length;
    let (offset, size) = match &page.content_range {
        // The SDK drops the whole size of a Content-Range, but what is asked for to the end ends
        // with the file.
        Some(Range::Range(sent)) => (
            sent.start,
            range
                .and_then(|range| range.end)
                .is_none()
                .then_some(sent.start + length),
        ),
        Some(Range::RangeFrom(sent)) => (sent.start, None),
        None => (0, Some(length)),
    };
    let shown = location.shown.clone();
    let body = page.data.map(move |bytes| {
        bytes.map_err(|error| {
            StorageError::new(
                ErrorKind::Transient,
                format!("{shown}: the transfer broke off: {}", cloud::words(&error)),
            )
        })
    });
    Ok(ObjectStream {
        info: info(&page.blob, size),
        offset,
        body: body.boxed(),
    })
}

async fn empty(client: &BlobClient, location: &Location) -> Result<ObjectStream, StorageError> {
    let info = head(client, location).await?;
    if info.size == Some(0) {
        return Ok(ObjectStream {
            info,
            offset: 0,
            body: futures_util::stream::empty().boxed(),
        });
    }
    Err(StorageError::new(
        ErrorKind::Transient,
        format!("{}: the blob has changed meanwhile", location.shown),
    ))
}

fn status(error: &azure_core::Error) -> Option<u16> {
    match error.kind() {
        azure_core::error::ErrorKind::HttpResponse { status, .. } => Some(u16::from(*status)),
        _ => None,
    }
}

fn version(location: &Location) -> Option<BlobVersioning> {
    // With a signature in it, the whole query goes out as it is.
    if location.parameter("sig").is_some() {
        return None;
    }
    if let Some(snapshot) = location.parameter("snapshot") {
        return Some(BlobVersioning::Snapshot(Snapshot::new(snapshot.to_owned())));
    }
    location
        .parameter("versionid")
        .map(|id| BlobVersioning::VersionId(VersionId::new(id.to_owned())))
}

fn info(blob: &Blob, size: Option<u64>) -> ObjectInfo {
    let properties = &blob.properties;
    let etag = properties.etag.to_string();
    // The SDK hands the header on as it is; older services leave the quotes out.
    let etag = if etag.starts_with('"') || etag.starts_with("W/") {
        etag
    } else {
        format!("\"{etag}\"")
    };
    ObjectInfo {
        size,
        weak_etag: etag.starts_with("W/").then(|| etag.clone()),
        etag: (!etag.starts_with("W/")).then_some(etag),
        last_modified: Some(properties.last_modified.unix_timestamp().to_string()),
        ranges: true,
        sha256: None,
        checksum: None,
        content_type: Some(media_type(&properties.content_type)),
        disposition_name: properties
            .content_disposition
            .as_deref()
            .and_then(disposition_name),
        final_url: None,
    }
}
