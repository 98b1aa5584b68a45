//! What a gateway serves beside the API: the addresses of tasks, which open with their token alone,
//! and the instances of the fleet (fleet.md). What belongs to an instance is answered with 501.

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use super::{RouterState, Services, Uncompressed};
use crate::error::{Code, Failure};
use crate::fleet::{Fleet, PutError};

/// Bytes of a file that are sent at a time.
const CHUNK: usize = 64 * 1024;
/// The longest body of a claim.
const CLAIM: usize = 64 * 1024;

/// Addresses of tasks; no key is asked for.
pub fn tasks(fleet: Fleet) -> Router<RouterState> {
    Router::new()
        .route("/fleet/{token}/claim", post(claim))
        .route("/fleet/{token}/in/{number}", get(input))
        .route(
            "/fleet/{token}/out/{name}",
            put(output).layer(DefaultBodyLimit::disable()),
        )
        .with_state(fleet)
}

/// Nothing that tells a token that has ended from one that never was.
fn nothing() -> Failure {
    Failure::new(Code::NotFound, "there is no such task, or it has ended")
}

async fn claim(
    State(fleet): State<Fleet>,
    Path(token): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let body = axum::body::to_bytes(request.into_body(), CLAIM)
        .await
        .unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let instance = body.get("instance_id").and_then(Value::as_str);
    let Some(instance) = instance.filter(|id| !id.is_empty() && id.len() <= 255) else {
        let message = "\"instance_id\" must be the id of the instance that claims the task";
        return Err(Failure::invalid("instance_id", message));
    };
    let granted = fleet.claim(&token, instance).await.ok_or_else(nothing)?;
    Ok(Json(granted).into_response())
}

async fn input(
    State(fleet): State<Fleet>,
    Path((token, number)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let number: usize = number.parse().map_err(|_| nothing())?;
    let input = fleet.input(&token, number).ok_or_else(nothing)?;
    let file = tokio::fs::File::open(&input.path).await;
    let file = file.map_err(|_| nothing())?;
    let size = file.metadata().await.map_err(|_| nothing())?.len();
    let mut response = Response::new(Body::from_stream(ReaderStream::with_capacity(file, CHUNK)));
    let name =
        percent_encoding::utf8_percent_encode(&input.name, percent_encoding::NON_ALPHANUMERIC);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    let binary = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, binary);
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename*=UTF-8''{name}")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response.extensions_mut().insert(Uncompressed);
    Ok(response)
}

async fn output(
    State(fleet): State<Fleet>,
    Path((token, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let put = fleet.put(&token, &name, request.into_body()).await;
    match put.ok_or_else(nothing)? {
        Ok(file) => Ok(Json(file).into_response()),
        Err(PutError::Name) => Err(Failure::invalid(
            "name",
            "an output's name is one path segment without control characters",
        )),
        Err(PutError::Body) => Err(Failure::new(
            Code::InvalidRequest,
            "the file was cut off: send it again",
        )),
        Err(PutError::Disk(error)) => Err(Failure::new(
            Code::Internal,
            format!("the gateway cannot keep the file: {error}"),
        )
        .with_status(StatusCode::INSUFFICIENT_STORAGE)),
    }
}

/// `GET /instances`
pub async fn instances(State(state): State<RouterState>) -> Result<Response, Failure> {
    match &state.fleet {
        Some(fleet) => Ok(Json(fleet.instances()).into_response()),
        None => Err(Failure::new(
            Code::NotFound,
            "this server is no gateway: there is no fleet behind it",
        )),
    }
}

/// What a gateway says of its queues in `GET /status`.
pub fn queues(fleet: &Fleet) -> Value {
    let shown = fleet.queues().into_iter().map(|(queue, oldest)| {
        json!({
            "name": queue.name,
            "waiting": queue.waiting,
            "consumers": queue.consumers,
            "oldest_waiting_ms": oldest,
        })
    });
    Value::Array(shown.collect())
}

/// Answers for a gateway what only an instance can do.
pub fn refusal(state: &Services, request: &Request) -> Option<Failure> {
    let elsewhere = state.fleet.is_some() && belongs_to_instances(request);
    elsewhere.then(|| {
        Failure::new(
            Code::NotSupported,
            "belongs to an instance: see GET /instances",
        )
    })
}

fn belongs_to_instances(request: &Request) -> bool {
    let path = request.uri().path();
    let first = path.trim_start_matches('/').split('/').next();
    match first.unwrap_or_default() {
        "models" | "download" | "downloads" | "cache" | "free" | "restart" => {
            request.method() != Method::OPTIONS
        }
        "logs" => {
            let query = request.uri().query().unwrap_or_default();
            query.split('&').any(|part| part == "source=comfyui")
        }
        _ => false,
    }
}
