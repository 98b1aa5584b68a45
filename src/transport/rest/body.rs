//! Request bodies: a JSON object within the size limit, or an answer that says what is wrong.

use std::time::Duration;

use axum::body::{BodyDataStream, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use serde_json::{Map, Value};

use super::RouterState;
use crate::error::{Code, Failure};

/// Bodies above this size are parsed on a blocking thread.
const LARGE: usize = 1024 * 1024;
/// A body that stops coming for so long is given up.
const STALLED: Duration = Duration::from_secs(60);
/// How much of a body that is too large is read before the answer, and for how long.
const POURED_AWAY: usize = 1 << 30;
const POURING: Duration = Duration::from_secs(30);

/// The members of a JSON object.
#[derive(Debug)]
pub struct JsonObject(pub Map<String, Value>);

impl FromRequest<RouterState> for JsonObject {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &RouterState) -> Result<Self, Failure> {
        check_type(request.headers())?;
        object(request, state.config.server.max_body_bytes)
            .await
            .map(Self)
    }
}

/// Reads the body as a JSON object of at most `limit` bytes, whatever its type is said to be.
///
/// # Errors
/// 400 when it is none, 413 when it is larger.
pub async fn object(request: Request, limit: usize) -> Result<Map<String, Value>, Failure> {
    let text = read(request, limit).await?;
    let parsed = if text.len() > LARGE {
        let parsing = tokio::task::spawn_blocking(move || serde_json::from_slice::<Value>(&text));
        parsing
            .await
            .map_err(|error| Failure::new(Code::Internal, error.to_string()))?
    } else {
        serde_json::from_slice::<Value>(&text)
    };
    match parsed {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Failure::invalid("body", "the body must be a JSON object")),
        Err(error) => Err(Failure::invalid(
            "body",
            format!("the body is not JSON: {error}"),
        )),
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Failure> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if essence == "application/json"
        || essence.starts_with("application/") && essence.ends_with("+json")
    {
        return Ok(());
    }
    let found = if essence.is_empty() {
        "missing".to_owned()
    } else {
        format!("\"{essence}\"")
    };
    Err(Failure::new(
        Code::UnsupportedMediaType,
        format!("the Content-Type is {found}: send application/json"),
    ))
}

async fn read(request: Request, limit: usize) -> Result<Bytes, Failure> {
    let too_large = || {
        let shown = limit as f64 / (1024.0 * 1024.0);
        Failure::new(
            Code::PayloadTooLarge,
            format!(
                "the body is larger than {shown} MiB: send large inputs as URLs, or raise MAX_BODY_SIZE_MB"
            ),
        )
    };
    let headers = request.headers();
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    // A client that asks first has sent nothing yet, and will not after this answer.
    let asks_first = headers.contains_key(header::EXPECT);
    let mut stream = request.into_body().into_data_stream();
    if declared.is_some_and(|length| length > limit as u64) {
        if !asks_first {
            pour_away(stream).await;
        }
        return Err(too_large());
    }
    // What is declared is not there yet: memory is taken as it arrives.
    let mut text = Vec::with_capacity(
        declared
            .map_or(0, |length| usize::try_from(length).unwrap_or(0))
            .min(LARGE),
    );
    loop {
        let next = tokio::time::timeout(STALLED, stream.next()).await;
        let next = next.map_err(|_| {
            Failure::invalid(
                "body",
                format!(
                    "the body stopped coming: nothing for {} s",
                    STALLED.as_secs()
                ),
            )
        })?;
        let Some(chunk) = next else { break };
        let chunk = chunk.map_err(|_| {
            Failure::invalid(
                "body",
                "the connection broke before the whole body had arrived",
            )
        })?;
        if text.len() + chunk.len() > limit {
            drop(text);
            pour_away(stream).await;
            return Err(too_large());
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text.into())
}

/// Reads on for a while. A client that is still sending when the connection is closed would see a broken connection instead of
/// the answer that explains it.
async fn pour_away(mut stream: BodyDataStream) {
    let mut left = POURED_AWAY;
    let pouring = async {
        while let Some(Ok(chunk)) = stream.next().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(POURING, pouring).await;
}
