//! The engine's numbers in one place, so that tests can make them small.

use std::time::Duration;

use super::pace::Pace;
use crate::net::retry::RetryPolicy;

/// Sizes and times of the transfer engine.
#[derive(Debug, Clone, Copy)]
pub struct TransferSettings {
    /// How often and how patiently transfers are tried again. Failures count from the last
    /// progress.
    pub retry: RetryPolicy,
    /// A download that brings nothing for so long is tried again.
    pub stall: Duration,
    /// Files from this size on, in bytes, come in parallel ranges.
    pub parallel_from: u64,
    /// Between two lines in the log about a large file.
    pub log_interval: Duration,
    /// Between two calls of a progress callback.
    pub progress_interval: Duration,
    /// However much progress there is in between, a download that failed so often is given up.
    pub most_failures: u32,
    /// What is slow, and what stands still.
    pub pace: Pace,
}

impl Default for TransferSettings {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            stall: Duration::from_secs(45),
            parallel_from: 64 * 1024 * 1024,
            log_interval: Duration::from_secs(5),
            progress_interval: Duration::from_millis(250),
            most_failures: 50,
            pace: Pace::default(),
        }
    }
}
