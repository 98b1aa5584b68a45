//! The Comfy API v2, as the official SDKs speak it: one file per resource (v2.md). Handlers
//! translate between HTTP and [`crate::durable`]; they decide nothing about jobs.

mod access;
pub(in crate::transport) mod address;
mod assets;
mod content;
mod error;
mod events;
mod jobs;
mod labels;
mod list;
mod thumbnail;
mod upload;
mod view;

pub use view::time;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, head, post};
use axum::{Json, Router, middleware};
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;

use crate::comfy::pool::Pool;
use crate::config::Config;
use crate::durable::DurableJobs;
use crate::health::Health;
use crate::media::Media;
use crate::telemetry::trace;
use crate::transport::check::check;
use error::ApiError;

/// What the handlers need, one for all requests.
pub type V2State = Arc<Services>;

/// See [`V2State`].
pub struct Services {
    /// The whole configuration.
    pub config: Arc<Config>,
    /// All durable jobs, and the store.
    pub jobs: DurableJobs,
    /// Whether jobs are taken.
    pub health: Health,
    /// ComfyUI, for its model folders and its queue.
    pub comfy: Pool,
    /// Thumbnails.
    pub media: Media,
    /// Open event streams.
    pub streams: Arc<AtomicUsize>,
}

/// Everything below `/api/v2`.
pub fn router(state: V2State) -> Router {
    let mut routes = Router::new()
        .route(
            "/assets",
            post(upload::create).layer(DefaultBodyLimit::disable()),
        )
        .route("/assets/from-hash", post(assets::from_hash))
        .route("/assets/from-path", post(assets::from_path))
        .route("/assets/by-hash/{hash}", head(assets::head_by_hash))
        .route("/assets/{id}", get(assets::show).delete(assets::delete))
        .route("/assets/{id}/content", get(content::content));
    if state.config.state.v2_enabled {
        routes = routes
            .route("/health", get(health))
            .route("/jobs", get(list::list).merge(post(jobs::submit)))
            .route("/jobs/{id}", get(jobs::show))
            .route("/jobs/{id}/events", get(events::events))
            .route("/jobs/{id}/cancel", post(jobs::cancel))
            .route("/jobs/{id}/workflow", get(jobs::workflow))
            .route("/jobs/{id}/logs", get(jobs::logs));
    }
    let routes = if trace::tracer().is_some() {
        routes.layer(middleware::from_fn(trace::matched_route))
    } else {
        routes
    };
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        // The first is the outermost.
        .layer((
            middleware::from_fn(access::number),
            CatchPanicLayer::custom(panicked),
            check(&state, access::refusal),
        ))
        .with_state(state)
}

async fn health(axum::extract::State(state): axum::extract::State<V2State>) -> Response {
    let ready = state.health.not_ready().is_none();
    Json(json!({"status": "healthy", "version": crate::VERSION, "ready": ready})).into_response()
}

async fn not_found(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("there is nothing at /api/v2{path}: see /docs"),
    )
}

async fn method_not_allowed(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!(
            "{} is not a method of /api/v2{path}: see /docs",
            request.method()
        ),
    )
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a request handler panicked; this is a defect, please report it");
    ApiError::upstream().into_response()
}
