//! What a transport decides for its jobs. The pipeline asks these values and never which transport a
//! job came through.

use super::request::Source;

/// What a transport hands in beside the request.
#[derive(Debug, Clone, Copy)]
pub struct Submission {
    /// The name in lists, metrics and the log; nothing acts on it.
    pub source: Source,
    /// How the job is treated.
    pub policy: Policy,
    /// Its events are kept for a reader from the first on.
    pub stream: bool,
}

impl Submission {
    /// The usual: whoever submits waits for the verdict and is told of it.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            policy: Policy::default(),
            stream: false,
        }
    }
}

/// How a job is treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Taken although the server is not ready yet: what makes it ready.
    pub before_ready: bool,
    /// Webhooks tell also of failures before ComfyUI accepted the graph, because the submitter has no
    /// other answer. Such a job keeps its graph as submitted.
    pub webhook_tells_refusals: bool,
    /// Another attempt follows a transient failure, so that nobody is told of it.
    pub tried_again: bool,
    /// A job that the shutdown ends goes on elsewhere, so that nobody is told of it either.
    pub given_back: bool,
    /// Its events go to the broker.
    pub published: bool,
}
