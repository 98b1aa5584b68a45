//! Logging, its last lines, metrics, traces, and the way of the last two to a collector.

pub mod logging;
pub mod metrics;
pub mod otlp;
pub mod recent;
pub mod trace;
