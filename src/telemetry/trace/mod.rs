//! Traces: the W3C context through every transport, and the spans of telemetry.md.
//!
//! Spans are made explicitly, by the parts that know what happens; nothing is taken from the
//! `tracing` spans of libraries. Without an exporter there are no spans at all: a [`Span`] is then
//! an empty value that only carries the context that came in, and costs neither memory nor a task.
//! What a task is about is known by [`current`], which log lines and new jobs read.

mod clock;
mod context;
mod ids;
mod job;
pub mod names;
#[cfg(test)]
mod off;
mod queue;
mod request;
mod sampler;
mod scope;
mod span;
mod strategy;
mod tracer;
mod transfer;

pub use clock::now;
pub use context::Context;
pub use job::{Carried, JobTrace, NodeRun, PromptFacts, output_type};
pub use queue::Queue;
pub use request::{MatchedRoute, RequestTrace, matched_route};
pub use sampler::{NAMES as SAMPLERS, Sampler};
pub use scope::{current, log_ids, scope, with};
pub use span::{Event, Kind, Span, SpanData, Value};
pub use strategy::Strategy;
pub use tracer::{Tracer, install, tracer};
pub use transfer::{Attempts, Transfer, UploadSpans, seen_status};
