//! What makes spans, if anything does: one for the process, set once at the start.

use std::sync::{Arc, OnceLock};

use super::{Context, Queue, Sampler, ids};

static TRACER: OnceLock<Tracer> = OnceLock::new();

/// Decides which spans are recorded, and where they go.
#[derive(Debug)]
pub struct Tracer {
    pub(super) sampler: Sampler,
    pub(super) queue: Arc<Queue>,
}

impl Tracer {
    /// One that records into a queue.
    pub fn new(sampler: Sampler, queue: Arc<Queue>) -> Self {
        Self { sampler, queue }
    }

    /// The context of a span that begins below a parent.
    pub(super) fn child_of(&self, parent: Option<&Context>) -> Context {
        let trace_id = parent.map_or_else(ids::trace_id, |parent| parent.trace_id);
        let sampled = match parent {
            // Below our own spans the decision is made.
            Some(parent) if !parent.is_remote() => parent.is_sampled(),
            parent => self.sampler.samples(&trace_id, parent),
        };
        // Of the other flags only "the id is random" is known.
        let kept = parent.map_or(0, |parent| parent.flags & 2);
        let state = parent.and_then(|parent| parent.state.clone());
        Context::local(trace_id, ids::span_id(), kept | u8::from(sampled), state)
    }
}

/// From now on spans are recorded. Only the first call counts.
pub fn install(tracer: Tracer) {
    let _ = TRACER.set(tracer);
}

/// What records spans; `None` without an exporter.
pub fn tracer() -> Option<&'static Tracer> {
    TRACER.get()
}
