//! Request bodies: a JSON object within the size limit, or an answer that says what is wrong.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use serde_json::{Map, Value};

use super::Door;
use crate::error::{Code, Failure};

/// Bodies above this size are parsed on a blocking thread.
const LARGE: usize = 1024 * 1024;

/// The members of a JSON object.
#[derive(Debug)]
pub struct JsonObject(pub Map<String, Value>);

impl FromRequest<Door> for JsonObject {
    type Rejection = Failure;

    async fn from_request(request: Request, door: &Door) -> Result<Self, Failure> {
        check_type(request.headers())?;
        let text = read(request, door.config.server.max_body_bytes).await?;
        let parsed = if text.len() > LARGE {
            let parsing = tokio::task::spawn_blocking(move || serde_json::from_slice::<Value>(&text));
            parsing.await.map_err(|error| Failure::new(Code::Internal, error.to_string()))?
        } else {
            serde_json::from_slice::<Value>(&text)
        };
        match parsed {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) => Err(Failure::invalid("body", "the body must be a JSON object")),
            Err(error) => Err(Failure::invalid("body", format!("the body is not JSON: {error}"))),
        }
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Failure> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || essence.starts_with("application/") && essence.ends_with("+json") {
        return Ok(());
    }
    let found = if essence.is_empty() { "missing".to_owned() } else { format!("\"{essence}\"") };
    Err(Failure::new(Code::UnsupportedMediaType, format!("the Content-Type is {found}: send application/json")))
}

async fn read(request: Request, limit: usize) -> Result<Bytes, Failure> {
    let too_large = || {
        let shown = limit as f64 / (1024.0 * 1024.0);
        Failure::new(Code::PayloadTooLarge, format!("the body is larger than {shown} MiB: send large inputs as URLs, or raise MAX_BODY_SIZE_MB"))
    };
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|value| value.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut stream = request.into_body().into_data_stream();
    let mut text = Vec::with_capacity(declared.map_or(0, |length| usize::try_from(length).unwrap_or(0)));
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Failure::invalid("body", "the connection broke before the whole body had arrived"))?;
        if text.len() + chunk.len() > limit {
            return Err(too_large());
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text.into())
}
