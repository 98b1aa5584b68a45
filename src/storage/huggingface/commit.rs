//! The commit: one request of JSON lines, streamed, with small files inside it and large ones by
//! their LFS name.

use std::sync::Arc;

use axum::http::{Method, header};
use base64::Engine;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::hub::Hub;
use super::location;
use super::upload::{LargeFile, Outgoing, answer};
use crate::storage::cloud::{FilePart, Meter};
use crate::storage::{HfTarget, StorageError};

/// Read at once for base64: a multiple of three, so that pieces can be put together.
const PIECE: usize = 192 * 1024;

/// A piece of the request's body.
enum Line {
    Text(Bytes),
    Base64(FilePart),
}

/// Makes all files visible at once.
pub async fn commit(
    hub: &Hub,
    target: &HfTarget,
    place: &str,
    regular: &[Outgoing],
    large: &[LargeFile],
    meter: &Arc<Meter>,
) -> Result<(), StorageError> {
    let lines = lines(regular, large);
    let length: u64 = lines.iter().map(Line::length).sum();
    let path = format!(
        "api/{}/{}/commit/{}",
        location::plural(target),
        target.repo,
        location::encoded(&target.revision)
    );
    let body = stream::iter(lines).flat_map({
        let meter = meter.clone();
        move |line| line.stream(meter.clone())
    });
    let request = hub
        .api(Method::POST, &path)?
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .header(header::CONTENT_LENGTH, length);
    let _answer: serde_json::Value = answer(
        hub,
        target,
        place,
        request.body(reqwest::Body::wrap_stream(body)),
    )
    .await?;
    Ok(())
}

fn lines(regular: &[Outgoing], large: &[LargeFile]) -> Vec<Line> {
    let count = regular.len() + large.len();
    let summary = if count == 1 {
        "Upload 1 file with comfyui-api".to_owned()
    } else {
        format!("Upload {count} files with comfyui-api")
    };
    let mut lines = vec![Line::text(format!(
        "{}\n",
        json!({ "key": "header", "value": { "summary": summary, "description": "" } })
    ))];
    for file in regular {
        let path = json!(file.path);
        lines.push(Line::text(format!(
            "{{\"key\":\"file\",\"value\":{{\"path\":{path},\"encoding\":\"base64\",\"content\":\""
        )));
        lines.push(Line::Base64(file.part.clone()));
        lines.push(Line::text("\"}}\n".to_owned()));
    }
    for LargeFile { file, oid } in large {
        let value =
            json!({ "path": file.path, "algo": "sha256", "oid": oid, "size": file.part.length });
        lines.push(Line::text(format!(
            "{}\n",
            json!({ "key": "lfsFile", "value": value })
        )));
    }
    lines
}

impl Line {
    fn text(text: String) -> Self {
        Self::Text(text.into())
    }

    fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Base64(part) => part.length.div_ceil(3) * 4,
        }
    }

    fn stream(self, meter: Arc<Meter>) -> BoxStream<'static, std::io::Result<Bytes>> {
        match self {
            Self::Text(text) => stream::once(async move { Ok(text) }).boxed(),
            Self::Base64(part) => {
                stream::try_unfold((part, None), move |state| encode(state, meter.clone())).boxed()
            }
        }
    }
}

type Reader = Option<tokio::io::Take<tokio::fs::File>>;

/// The next piece of a file in base64. Each but the last is full, so that no padding falls between
/// them.
async fn encode(
    (part, reader): (FilePart, Reader),
    meter: Arc<Meter>,
) -> std::io::Result<Option<(Bytes, (FilePart, Reader))>> {
    let mut reader = match reader {
        Some(reader) => reader,
        None => tokio::fs::File::open(&part.path).await?.take(part.length),
    };
    let mut piece = Vec::with_capacity(PIECE);
    (&mut reader)
        .take(PIECE as u64)
        .read_to_end(&mut piece)
        .await?;
    if piece.is_empty() {
        return Ok(None);
    }
    meter.add(piece.len() as u64);
    Ok(Some((
        base64::engine::general_purpose::STANDARD
            .encode(&piece)
            .into(),
        (part, Some(reader)),
    )))
}
