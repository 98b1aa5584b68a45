//! How long to wait before ComfyUI is started again (process.md, "When ComfyUI dies").

use std::time::Duration;

/// Longest wait between two starts.
const LONGEST: Duration = Duration::from_secs(30);
/// A ComfyUI that was up for so long was healthy: the next death starts the schedule anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// The schedule 0 s, 1 s, 2 s, 4 s ... 30 s.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    deaths: u32,
}

impl Backoff {
    /// A schedule at its beginning.
    pub const fn new() -> Self {
        Self { deaths: 0 }
    }

    /// ComfyUI died after it had been up (answering) for `up`; returns how long to wait before the
    /// next start.
    pub fn next(&mut self, up: Duration) -> Duration {
        if up >= HEALTHY_AFTER {
            self.deaths = 0;
        }
        let wait = match self.deaths {
            0 => Duration::ZERO,
            n => Duration::from_secs(1_u64 << (n - 1).min(5)).min(LONGEST),
        };
        self.deaths = self.deaths.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_thirty_seconds_and_start_anew_after_a_healthy_minute() {
        let mut backoff = Backoff::new();
        let waits: Vec<u64> = (0..8)
            .map(|_| backoff.next(Duration::from_secs(59)).as_secs())
            .collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.next(Duration::from_secs(60)), Duration::ZERO);
        assert_eq!(backoff.next(Duration::ZERO), Duration::from_secs(1));
    }
}
