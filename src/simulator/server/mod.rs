//! The HTTP side: routes with and without `/api`, and what happens to every request before its
//! handler.

mod catalogue;
mod control;
mod files;
mod jobs;
mod prompt;
mod socket;
mod system;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::net::TcpListener;

use super::args::Imitate;
use super::instance::Instance;
use super::python;

type Shared = State<Arc<Instance>>;

/// Answers requests until the runtime ends.
pub async fn serve(listener: TcpListener, instance: Arc<Instance>) {
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let _ = axum::serve(
        listener,
        router(instance).into_make_service_with_connect_info::<SocketAddr>(),
    )
    .await;
}

fn router(instance: Arc<Instance>) -> Router {
    let doubled = Router::new()
        .route("/ws", get(socket::open))
        .route("/prompt", get(prompt::count).post(prompt::submit))
        .route("/queue", get(prompt::queue).post(prompt::change_queue))
        .route("/interrupt", post(prompt::interrupt))
        .route("/free", post(prompt::free))
        .route(
            "/history",
            get(prompt::history).post(prompt::change_history),
        )
        .route("/history/{id}", get(prompt::history_entry))
        .route("/object_info", get(catalogue::all_classes))
        .route("/object_info/{class}", get(catalogue::one_class))
        .route("/models", get(catalogue::folders))
        .route("/models/{folder}", get(catalogue::folder))
        .route("/experiment/models", get(catalogue::experiment_folders))
        .route(
            "/experiment/models/{folder}",
            get(catalogue::experiment_folder),
        )
        .route("/embeddings", get(catalogue::embeddings))
        .route("/view", get(files::view))
        .route("/view_metadata/{folder}", get(files::view_metadata))
        .route("/upload/image", post(files::upload))
        .route("/upload/mask", post(files::upload))
        .route("/system_stats", get(system::stats))
        .route("/features", get(system::features))
        .route("/extensions", get(system::empty_list))
        .route("/users", get(system::users))
        .route("/settings", get(system::empty_object));
    let mut routes = doubled
        .clone()
        .nest("/api", doubled)
        .route("/", get(system::front_page))
        .route("/internal/logs", get(system::logs))
        .route("/internal/logs/raw", get(system::raw_logs))
        .route("/internal/logs/subscribe", patch(system::subscribe_logs))
        .route("/internal/folder_paths", get(catalogue::folder_paths))
        .route("/internal/files/{kind}", get(files::listing));
    if instance.imitate == Imitate::Current {
        routes = routes
            .route("/api/jobs", get(jobs::list))
            .route("/api/jobs/cancel", post(jobs::cancel_many))
            .route("/api/jobs/{id}", get(jobs::one))
            .route("/api/jobs/{id}/cancel", post(jobs::cancel));
    }
    routes
        .fallback(|| async {
            (
                StatusCode::NOT_FOUND,
                [(header::CONTENT_TYPE, "application/octet-stream")],
                "",
            )
        })
        .layer(DefaultBodyLimit::max(instance.args.body_limit()))
        .layer(from_fn_with_state(Arc::clone(&instance), before))
        // After the layers: these work while everything else hangs.
        .route(
            "/simulator/faults",
            get(control::faults).post(control::set_faults),
        )
        .route("/simulator/stats", get(control::stats))
        .with_state(instance)
}

/// Counts, hangs or delays, and refuses other origins.
async fn before(State(instance): Shared, request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<axum::extract::MatchedPath>()
        .map_or("(unknown)", |path| path.as_str());
    instance.count_request(format!("{} {route}", request.method()));
    let mut faults = instance.faults.watch();
    let _ = faults.wait_for(|state| !state.faults.hang_http).await;
    let delay = instance.faults.read(|faults| faults.http_delay_ms);
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > instance.args.body_limit()) {
        // Read to its end, so that the client is listening when the answer comes.
        let mut body = request.into_body().into_data_stream();
        while let Some(Ok(_)) = body.next().await {}
        return too_large();
    }
    match &instance.args.enable_cors_header {
        None if foreign(request.headers()) => StatusCode::FORBIDDEN.into_response(),
        None => next.run(request).await,
        Some(origin) => {
            let origin = origin.parse();
            let mut response = next.run(request).await;
            response.headers_mut().extend(
                origin
                    .ok()
                    .map(|origin| (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)),
            );
            response
        }
    }
}

/// The host is this machine and the origin another.
fn foreign(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &axum::http::HeaderValue| value.to_str().ok())
    };
    let (Some(host), Some(origin)) = (text(header::HOST), text(header::ORIGIN)) else {
        return false;
    };
    let loopback = ["127.", "localhost", "[::1]"]
        .iter()
        .any(|own| host.starts_with(own));
    let origin_host = origin.split_once("://").map_or(origin, |(_, host)| host);
    loopback && origin_host != host
}

/// JSON as Python writes it.
fn json_response(status: StatusCode, value: &Value) -> Response {
    json_text(status, python::dumps(value))
}

fn json_text(status: StatusCode, text: String) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
        Body::from(text),
    )
        .into_response()
}

fn ok_json(value: &Value) -> Response {
    json_response(StatusCode::OK, value)
}

/// What an exception in a handler becomes.
fn trouble() -> Response {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "500 Internal Server Error\n\nServer got itself in trouble",
    )
        .into_response()
}

fn too_large() -> Response {
    (
        StatusCode::PAYLOAD_TOO_LARGE,
        "Maximum request body size exceeded",
    )
        .into_response()
}

/// A body that is too large becomes 413 as text.
fn body_of(
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Bytes, Response> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => trouble(),
    })
}

/// The body as JSON; anything else is trouble.
fn parsed(
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Value, Response> {
    python::parse(&body_of(body)?).map_err(|_| trouble())
}
