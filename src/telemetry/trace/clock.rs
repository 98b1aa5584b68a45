//! Moments as OTLP has them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        })
}

/// The same from milliseconds.
pub const fn from_ms(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}
