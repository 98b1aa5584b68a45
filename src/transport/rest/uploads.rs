//! `PUT /uploads/{token}`: the bytes of an upload that was announced, from a client without a key.

use std::time::Duration;

use axum::Json;
use axum::body::BodyDataStream;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde_json::json;

use super::RouterState;
use super::body::pour_away;
use super::inflate::{Encoding, encoding};
use super::path::PathText;
use crate::error::{Code, Failure};
use crate::net::http_fields::media_type;
use crate::store::StoreError;
use crate::store::uploads::{UploadError, Uploads};

/// A body that stops coming for so long is given up.
const STALLED: Duration = Duration::from_secs(60);

/// Receives the bytes; they become the asset that was announced.
pub async fn receive(
    State(state): State<RouterState>,
    PathText(token): PathText,
    request: Request,
) -> Result<Response, Failure> {
    if encoding(request.headers())? != Encoding::Identity {
        return Err(Failure::new(
            Code::UnsupportedMediaType,
            "send the bytes as they are, without a Content-Encoding",
        ));
    }
    let max_bytes = state.config.state.max_upload_bytes;
    let uploads = Uploads::new(state.durable.store().clone(), max_bytes);
    let length = number(request.headers());
    let said = said(request.headers());
    let asks_first = request.headers().contains_key(header::EXPECT);
    let mut body = request.into_body().into_data_stream();
    let asset = match stored(&uploads, &token, length, said.as_deref(), &mut body).await {
        Ok(asset) => asset,
        Err(failure) => {
            // A client that is still sending would not see the answer; one that asks first has sent
            // nothing yet.
            if !asks_first {
                pour_away(body).await;
            }
            return Err(failure);
        }
    };
    let answer = json!({
        "id": asset.id,
        "input": format!("asset:{}", asset.id),
        "file_path": asset.file_path,
        "content_type": asset.content_type,
        "size_bytes": asset.size,
        "hash": asset.hash.map(|hash| format!("blake3:{hash}")),
    });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn stored(
    uploads: &Uploads,
    token: &str,
    length: Option<u64>,
    said: Option<&str>,
    body: &mut BodyDataStream,
) -> Result<crate::store::AssetRecord, Failure> {
    let mut reception = uploads.receive(token, length).await.map_err(failure)?;
    loop {
        let broken = |reason: &str| Failure::invalid("body", reason);
        match tokio::time::timeout(STALLED, body.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(piece))) => reception.take(&piece).await.map_err(failure)?,
            Ok(Some(Err(_))) => {
                return Err(broken(
                    "the connection broke before the whole body had arrived",
                ));
            }
            Err(_) => return Err(broken("the body stopped coming: nothing for 60 s")),
        }
    }
    reception.end(said).await.map_err(failure)
}

fn failure(error: UploadError) -> Failure {
    match error {
        UploadError::Unknown(sentence) => Failure::new(Code::NotFound, sentence),
        UploadError::TooLarge(limit) => Failure::new(
            Code::PayloadTooLarge,
            format!(
                "the file is larger than {} MiB, which is V2_MAX_UPLOAD_MB",
                limit as f64 / (1024.0 * 1024.0)
            ),
        ),
        UploadError::Store(error @ StoreError::Full { .. }) => {
            Failure::new(Code::Internal, error.to_string())
        }
        UploadError::Store(error) => {
            Failure::new(Code::Internal, format!("the file cannot be kept: {error}"))
        }
    }
}

fn number(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// The sender's word for the type, unless it is what a tool says of everything.
fn said(headers: &HeaderMap) -> Option<String> {
    let said = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = media_type(said);
    let nothing = matches!(
        &*essence,
        "application/x-www-form-urlencoded" | "application/octet-stream"
    );
    (!nothing).then(|| said.to_owned())
}
