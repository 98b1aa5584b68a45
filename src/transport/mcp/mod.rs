//! What agents use: a Model Context Protocol server over streamable HTTP (docs/contract/mcp.md).
//!
//! `http` receives a message and answers, as JSON or as a stream; `revision` decides which revision
//! of the protocol a message follows and whether its headers agree with it; `methods` knows the
//! methods. Behind them `tools`, `resources`, `tasks` and `listen` translate between the protocol
//! and [`crate::durable`].
//!
//! The protocol's words and shapes are those of `rmcp`, the official SDK. Its server loop is not
//! used: it answers bad JSON in plain text, cannot tell a call that is given up from one that was
//! handed over, and takes 2024-11-05 for a revision of ours. All that is left of such a loop
//! without sessions is one request and one answer, which `http` is.

mod content;
mod context;
mod earlier;
mod fleet;
mod http;
mod listen;
mod media_inputs;
mod message;
mod methods;
mod origin;
mod resources;
mod result;
mod revision;
mod run;
mod server;
mod span;
mod tasks;
mod tools;
mod wait;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::Router;
use axum::routing::post;
use tokio::sync::Semaphore;

use crate::durable::DurableJobs;
use crate::media::Media;
use crate::transport::rest::RouterState;

/// What the methods need. Cheap to clone.
#[derive(Clone)]
pub struct McpState {
    /// What every door over HTTP needs.
    pub rest: RouterState,
    /// All durable jobs, and the store.
    pub jobs: DurableJobs,
    /// For previews.
    pub media: Media,
    /// Open `subscriptions/listen`.
    pub listeners: Arc<AtomicUsize>,
    /// Results whose previews are being made.
    pub previews: Arc<Semaphore>,
}

/// `/mcp`, unless it is switched off.
pub fn router(state: McpState) -> Router {
    if !state.rest.config.mcp.enabled {
        return Router::new();
    }
    Router::new()
        .route("/mcp", post(http::receive))
        .with_state(state)
}
