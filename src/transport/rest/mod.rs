//! HTTP: one file per resource. Handlers translate between HTTP and the parts; they decide nothing.

mod accept;
mod answer;
mod auth;
pub(in crate::transport) mod body;
mod cache;
mod compression;
mod control;
mod convert;
mod deliveries;
pub mod docs;
mod events;
pub mod fleet;
mod graphs;
mod history;
mod inflate;
mod logs;
mod models;
mod operations;
mod origin;
mod path;
mod probes;
mod prompt;
mod query;
mod serve;
mod sse;
mod status;
mod uploads;
mod workflow;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

pub use answer::Uncompressed;
pub use events::OpenStreams;
pub use serve::{Listener, bind};
pub use status::{BrokerLink, Machine, keep_samples};
pub(in crate::transport) use workflow::from_file;

use crate::comfy::pool::Pool;
use crate::config::Config;
use crate::durable::DurableJobs;
use crate::error::{Code, Failure};
use crate::fleet::Fleet;
use crate::health::Health;
use crate::history::History;
use crate::job::Service;
use crate::net::Outbound;
use crate::storage::Storage;
use crate::telemetry::trace;
use crate::transport::check::check;
use crate::webhook::Webhooks;
use crate::workflow::Workflows;

/// What the handlers need, one for all requests.
pub type RouterState = Arc<Services>;

/// See [`RouterState`].
pub struct Services {
    /// The whole configuration.
    pub config: Arc<Config>,
    /// Whether prompts are taken.
    pub health: Health,
    /// All prompts.
    pub service: Service,
    /// ComfyUI.
    pub comfy: Pool,
    /// Downloads.
    pub storage: Storage,
    /// The guard over addresses.
    pub outbound: Outbound,
    /// Webhooks.
    pub webhooks: Webhooks,
    /// Endpoints from files.
    pub workflows: Workflows,
    /// Kept runs, and the store.
    pub durable: DurableJobs,
    /// What was run.
    pub history: History,
    /// What runs the jobs, where that is not the ComfyUI here.
    pub fleet: Option<Fleet>,
    /// A further condition for readiness: the broker, when it is required. `Some` is the reason
    /// why not.
    pub broker: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// The broker as it is shown, when there is one.
    pub broker_link: Option<BrokerLink>,
    /// The machine and its directories.
    pub machine: Machine,
    /// The streams of `GET /events`.
    pub streams: OpenStreams,
    /// Cancelled when the last answers are to end.
    pub closing: CancellationToken,
}

impl Services {
    /// Why `/ready` answers 503, if it does.
    pub fn not_ready(&self) -> Option<String> {
        let deep = || {
            let (limit, queued) = (
                self.config.server.max_queue_depth,
                self.comfy.queue_remaining(),
            );
            (limit > 0 && queued >= limit).then(|| {
                format!("ComfyUI's queue holds {queued} prompts; MAX_QUEUE_DEPTH is {limit}")
            })
        };
        self.health
            .not_ready()
            .or_else(deep)
            .or_else(|| (self.broker)())
    }
}

/// Everything that is served; `v2` is the Comfy API v2, `mcp` what agents use.
pub fn router(state: RouterState, v2: Router, mcp: Router) -> Router {
    let cors = cors(&state.config.server.cors_allowed_origins);
    let routes = Router::new()
        .route("/health", get(probes::health))
        .route("/ready", get(probes::ready))
        .route("/metrics", get(probes::prometheus))
        .route("/prompt", post(prompt::submit))
        .route(
            "/prompt/{id}",
            get(prompt::show).merge(delete(prompt::cancel)),
        )
        .route("/prompt/{id}/events", get(sse::attach))
        .route("/queue", get(prompt::queue))
        .route("/interrupt", post(prompt::interrupt))
        .route("/convert", post(convert::convert))
        .route("/workflows", get(graphs::workflows))
        .route("/graph/inspect", post(graphs::inspect))
        .route("/models", get(models::list).merge(post(models::add)))
        .route("/download", post(models::download))
        .route("/workflow/{*path}", post(workflow::run))
        .route("/uploads/{token}", put(uploads::receive))
        .route("/history", get(history::list).merge(delete(history::clear)))
        .route(
            "/history/{id}",
            get(history::show).merge(delete(history::delete)),
        )
        .merge(operations::routes())
        .route("/instances", get(fleet::instances))
        .merge(docs::routes())
        .merge(super::console::routes(
            state.config.server.console,
            state.config.server.console_dir.clone(),
        ))
        .merge(mcp.with_state(()))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        // Of several layers at once the first is the outermost.
        .layer((check(&state, auth::refusal), check(&state, fleet::refusal)))
        .nest_service("/api/v2", v2)
        .merge(state.fleet.clone().map(fleet::tasks).unwrap_or_default())
        .layer((CatchPanicLayer::custom(panicked), compression::Compress));
    let routes = if trace::tracer().is_some() {
        routes.layer(middleware::from_fn(trace::matched_route))
    } else {
        routes
    };
    match cors {
        Some(cors) => routes.layer(cors),
        None => routes,
    }
    .layer(check(&state, origin::refusal))
    .with_state(state)
}

async fn not_found(request: Request) -> Failure {
    let path: String = request.uri().path().chars().take(200).collect();
    Failure::new(
        Code::NotFound,
        format!("there is nothing at {path}: see /docs for what there is"),
    )
}

async fn method_not_allowed(request: Request) -> Failure {
    Failure::new(
        Code::MethodNotAllowed,
        format!(
            "{} is not a method of {}: see /docs",
            request.method(),
            crate::limits::text::quoted(request.uri().path())
        ),
    )
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a request handler panicked; this is a defect, please report it");
    Failure::new(
        Code::Internal,
        "the server failed to answer this request; this is a defect, please report it",
    )
    .into_response()
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(
            origins
                .iter()
                .filter_map(|origin| HeaderValue::from_str(origin).ok()),
        )
    };
    let headers = [
        header::CONTENT_TYPE,
        header::AUTHORIZATION,
        header::ACCEPT,
        HeaderName::from_static("x-api-key"),
        HeaderName::from_static("last-event-id"),
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static("mcp-protocol-version"),
        HeaderName::from_static("mcp-method"),
        HeaderName::from_static("mcp-name"),
        header::RANGE,
    ];
    let exposed = [
        header::RETRY_AFTER,
        header::CONTENT_RANGE,
        header::ACCEPT_RANGES,
        HeaderName::from_static("x-comfy-request-id"),
    ];
    Some(
        CorsLayer::new()
            .allow_origin(origin)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
            .allow_headers(headers)
            .expose_headers(exposed),
    )
}
