//! What a transport decides for its jobs. The pipeline asks these values and never which transport
//! a job came through.

use std::sync::Arc;

use super::event::Listener;
use super::origin::Origin;
use super::request::Source;
use crate::telemetry::trace::{self, Context};

/// What a transport hands in beside the request.
#[derive(Clone)]
pub struct Submission {
    /// The name in lists, metrics and the log; nothing acts on it.
    pub source: Source,
    /// How the job is treated.
    pub policy: Policy,
    /// Its events are kept for a reader from the first on.
    pub stream: bool,
    /// Told of everything that happens to it, from the first on.
    pub listener: Option<Listener>,
    /// Its outputs are kept in the store, where a record of the job with this id is.
    pub keep: Option<Arc<Keep>>,
    /// The span that it belongs to.
    pub context: Option<Context>,
    /// Whoever has given it to this server and takes its files.
    pub origin: Option<Arc<dyn Origin>>,
    /// The workflow endpoint that it came through: what follows `/workflow/`.
    pub workflow: Option<Arc<str>>,
}

/// How the outputs of a job are kept.
pub struct Keep {
    /// The address of an asset, for whoever is told of the result.
    pub address: Box<dyn Fn(&str) -> String + Send + Sync>,
    /// `images` hold these addresses instead of the files, unless they were uploaded elsewhere. If
    /// not, nobody waits until they are kept.
    pub by_address: bool,
    /// Webhooks name it as a job of the store.
    pub is_job: bool,
    /// When its record says that it was made, milliseconds since 1970; `None` where the record
    /// takes over the pipeline's own time.
    pub created_at: Option<u64>,
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keep").finish_non_exhaustive()
    }
}

impl Submission {
    /// The usual: whoever submits waits for the verdict and is told of it.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            policy: Policy::default(),
            stream: false,
            listener: None,
            keep: None,
            context: trace::current(),
            origin: None,
            workflow: None,
        }
    }
}

/// How a job is treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Taken although the server is not ready yet: what makes it ready.
    pub before_ready: bool,
    /// Webhooks tell also of failures before ComfyUI accepted the graph, because the submitter has
    /// no other answer. Such a job keeps its graph as submitted.
    pub webhook_tells_refusals: bool,
    /// Another attempt follows a transient failure, so that nobody is told of it.
    pub tried_again: bool,
    /// A job that the shutdown ends goes on elsewhere, so that nobody is told of it either.
    pub given_back: bool,
    /// Its events go to the broker.
    pub published: bool,
    /// Its submitter is told of a refusal, if that comes soon (a fleet answers later than a
    /// ComfyUI).
    pub waits_for_verdict: bool,
    /// How many runs it may have when it loses its ComfyUI and goes on in another; as configured,
    /// unless its transport knows better.
    pub runs: Option<u32>,
    /// It runs in this ComfyUI alone.
    pub only: Option<usize>,
}
