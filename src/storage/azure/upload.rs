//! One block blob per file: in one request while it is small, else as staged blocks in parallel
//! that become visible together.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Body;
use tokio_util::sync::CancellationToken;

use super::failure::accepted;
use super::request::Resource;
use crate::storage::cloud::{FilePart, Meter, in_parallel, size_of, supervised};
use crate::storage::{ErrorKind, Progress, StorageError, UploadFile};

/// Above this, staged blocks.
const BLOCKS_ABOVE: u64 = 16 * 1024 * 1024;
/// Blocks at once; each holds one read buffer in memory, not the block.
const CONNECTIONS: usize = 4;
/// The service's limit.
const MAX_BLOCKS: u64 = 50_000;

const BLOB_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-type");
const CONTENT_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-content-type");

/// Uploads a file. Blocks of an attempt that fails are never visible; the service drops them after
/// a week.
pub async fn upload(
    blob: &Resource,
    file: &UploadFile,
    progress: Option<&Progress>,
    cancel: &CancellationToken,
) -> Result<(), StorageError> {
    let size = size_of(&file.path).await?;
    let meter = Meter::new(size, progress);
    let work = async {
        let content_type = HeaderValue::from_str(&file.content_type).map_err(|_| {
            let sentence = format!("{}: a content type that is no header", blob.shown);
            StorageError::new(ErrorKind::Failed, sentence)
        })?;
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
        if size > BLOCKS_ABOVE {
            return in_blocks(blob, file, size, &meter, headers).await;
        }
        headers.insert(BLOB_TYPE, HeaderValue::from_static("BlockBlob"));
        let whole = FilePart {
            path: file.path.clone(),
            offset: 0,
            length: size,
        };
        put(blob, &[], headers, size, body(&whole, &meter)).await
    };
    supervised(&blob.shown, &meter, cancel, work).await
}

async fn in_blocks(
    blob: &Resource,
    file: &UploadFile,
    size: u64,
    meter: &Arc<Meter>,
    headers: HeaderMap,
) -> Result<(), StorageError> {
    let blocks = FilePart::split(
        &file.path,
        size,
        BLOCKS_ABOVE.max(size.div_ceil(MAX_BLOCKS)),
    );
    // An id of this attempt's own: two uploads to one blob must not mix their blocks.
    let attempt = uuid::Uuid::new_v4().simple().to_string();
    let blocks = blocks.into_iter().enumerate().map(|(index, part)| {
        let id = STANDARD.encode(format!("{attempt}-{index:06}"));
        (id, part)
    });
    let ids = in_parallel(blocks.collect(), CONNECTIONS, |(id, part)| async move {
        let query = [("comp", "block"), ("blockid", id.as_str())];
        let body = body(&part, meter);
        put(blob, &query, HeaderMap::new(), part.length, body).await?;
        Ok(id)
    });
    let ids: String = ids
        .await?
        .into_iter()
        .map(|id| format!("<Latest>{id}</Latest>"))
        .collect();
    let list = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{ids}</BlockList>");
    let length = list.len() as u64;
    put(blob, &[("comp", "blocklist")], headers, length, list.into()).await
}

async fn put(
    blob: &Resource,
    query: &[(&str, &str)],
    mut headers: HeaderMap,
    length: u64,
    body: Body,
) -> Result<(), StorageError> {
    // It is a part of what is signed, and without it a stream would go out in chunks, which the
    // service refuses.
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let answer = blob.ask(Method::PUT, query, headers, Some(body)).await?;
    accepted(&blob.shown, answer).await.map(drop)
}

/// The bytes of a part, read when they are sent.
fn body(part: &FilePart, meter: &Arc<Meter>) -> Body {
    if part.length == 0 {
        return Body::from("");
    }
    Body::wrap_stream(part.stream(meter.clone()))
}
