//! The AMQP transport: tasks from RabbitMQ, events to RabbitMQ. Runs tasks through a [`TaskRunner`] that `app` hands in.
//!
//! What outlives a connection and what does not is the plan of this module:
//! - for the whole life: the [`worker`] (tasks that run here, who waits for their ends, memory of recent results), the
//!   [`outbox`] (messages that the broker has not confirmed yet), the [`sink`] (events on their way into the outbox), the
//!   heartbeat's timer;
//! - for one connection ([`session`]): [`dial`], [`topology`], the [`publisher`] that empties the outbox, the [`consumer`]
//!   that feeds the worker, the registration.
//!
//! A task is acknowledged only after the broker has confirmed its result. When the connection breaks in between, the result
//! stays in the outbox, and the redelivered task meets its own run at the worker or is answered from memory.

mod consumer;
mod dial;
mod envelope;
mod gpu;
mod heartbeat;
mod host_metrics;
mod memory;
mod outbox;
mod publisher;
mod registry;
mod service;
mod session;
mod sink;
mod task;
mod topology;
mod worker;

pub use service::{Amqp, Setup};

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::document::Document;
use crate::error::Failure;

/// How a task ended.
#[derive(Debug, Clone)]
pub enum TaskOutcome {
    /// The sync response body: `images`, `filenames`, `stats`, `outputs`, ...
    Success(Document),
    /// Why not; [`Failure::transient`] decides about putting it back.
    Failed(Failure),
}

/// Runs prompts for the queue.
#[async_trait::async_trait]
pub trait TaskRunner: Send + Sync {
    /// Runs a task to its end. `body` is a `POST /prompt` body, `id` the task's id. Cancelling `give_back` (shutdown,
    /// channel lost before the start) ends it as a transient failure as soon as possible. With `last` a failure is final though
    /// it is transient: nobody will try again (`AMQP_MAX_ATTEMPTS`).
    async fn run(
        &self,
        id: &str,
        body: Map<String, Value>,
        last: bool,
        give_back: CancellationToken,
    ) -> TaskOutcome;
    /// True while tasks may be taken: ComfyUI up and warm, not draining.
    fn ready(&self) -> watch::Receiver<bool>;
    /// Prompts in flight from any transport, and the id of the one that runs.
    fn load(&self) -> Load;
}

/// What the heartbeat tells of the work at hand.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Prompts in flight here that have not ended.
    pub in_flight: usize,
    /// ComfyUI's own queue.
    pub queue_size: u64,
    /// The id of the prompt that runs.
    pub current: Option<Arc<str>>,
    /// Shutting down.
    pub draining: bool,
    /// ComfyUI is up and warm.
    pub available: bool,
}
