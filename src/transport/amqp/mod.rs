//! The AMQP transport: tasks from RabbitMQ, events to RabbitMQ. Runs tasks through a [`TaskRunner`]
//! that `app` hands in.
//!
//! What outlives a connection and what does not is the plan of this module; what it is built on is
//! `crate::broker`.
//! - for the whole life: the [`worker`] (tasks that run here, who waits for their ends, memory of
//!   recent results), the [`custody`] and the [`notes`] (which task is to blame when ComfyUI or we
//!   die), the outbox (messages that the broker has not confirmed yet), the [`sink`] (events on
//!   their way into the outbox), the heartbeat's timer;
//! - for one connection ([`session`]): the publisher that empties the outbox, the [`consumer`] that
//!   feeds the worker, the registration. Each has channels of its own, which come back by
//!   themselves.
//!
//! A task is acknowledged only after the broker has confirmed its result. When the connection
//! breaks in between, the result stays in the outbox, and the redelivered task meets its own run at
//! the worker or is answered from memory.

mod answers;
mod attempts;
mod consumer;
mod control;
mod custody;
pub mod gateway;
mod gpu;
mod heartbeat;
mod host_metrics;
mod memory;
mod notes;
mod quoted;
mod registry;
pub mod reply;
mod service;
mod session;
mod sink;
mod task;
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

/// A task to be run.
pub struct TaskRun {
    /// Its id.
    pub id: Arc<str>,
    /// A `POST /prompt` body without the id.
    pub body: Map<String, Value>,
    /// Cancelled at shutdown: the task ends as a transient failure as soon as possible.
    pub give_back: CancellationToken,
    /// Told by the runner.
    pub milestones: Milestones,
    /// Whoever wants answers to it in a queue of his own.
    pub reply: Option<Arc<reply::Reply>>,
    /// The gateway that has sent it.
    pub gateway: Option<Arc<gateway::Gateway>>,
}

/// How far a task has come. Whoever is to blame for the death of ComfyUI is found by this.
#[derive(Debug, Clone, Default)]
pub struct Milestones {
    /// It is being given to a ComfyUI that lives.
    pub submitted: CancellationToken,
    /// ComfyUI executes it.
    pub executing: CancellationToken,
}

/// Runs prompts for the queue.
#[async_trait::async_trait]
pub trait TaskRunner: Send + Sync {
    /// Runs a task to its end. Nobody but the caller is told of a transient failure: another
    /// attempt may follow.
    async fn run(&self, task: TaskRun) -> TaskOutcome;
    /// A task ends with a transient failure, or without a run, and no attempt follows: whoever it
    /// names for that is told.
    async fn given_up(&self, id: &str, body: Map<String, Value>, failure: &Failure);
    /// Whether ComfyUI has died within the last moments.
    fn comfyui_has_died(&self) -> bool;
    /// Whether somebody has wanted ComfyUI started anew within the last moments: no task is to
    /// blame for that.
    fn comfyui_was_restarted(&self) -> bool;
    /// Whether a prompt of another transport was executing when it did.
    fn other_prompt_was_executing(&self) -> bool;
    /// True while tasks may be taken: ComfyUI up and warm, not draining.
    fn ready(&self) -> watch::Receiver<bool>;
    /// Prompts in flight from any transport, and the id of the one that runs.
    fn load(&self) -> Load;
    /// Cancels a task that runs; `false` when it does not.
    fn cancel(&self, id: &str) -> bool;
    /// What stands for the catalogue of ComfyUI's nodes: another one has another hash. None while
    /// it is not known.
    fn catalogue_hash(&self) -> Option<String>;
    /// That catalogue: `{hash, object_info (gzip in base64), models, versions}`.
    async fn catalogue(&self) -> Option<serde_json::Value>;
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
    /// One of several ComfyUI has nothing to do.
    pub one_is_idle: bool,
}
