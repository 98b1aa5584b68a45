//! How far a download is: counted by whoever receives bytes, read by whoever waits and by the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use url::Url;

use crate::config::public;

/// Bytes so far and in all.
#[derive(Default)]
pub(in crate::storage) struct Meter {
    done: AtomicU64,
    /// Total plus one; 0 means not known.
    total: AtomicU64,
}

impl Meter {
    pub fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn restart(&self, done: u64, total: Option<u64>) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(
            total.map_or(0, |total| total.saturating_add(1)),
            Ordering::Relaxed,
        );
    }

    pub fn read(&self) -> (u64, Option<u64>) {
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed).checked_sub(1),
        )
    }

    /// Writes a line from time to time, for ever: race it against the download.
    pub async fn log(&self, url: &Url, interval: Duration) {
        let mut before = 0;
        loop {
            tokio::time::sleep(interval).await;
            let (done, total) = self.read();
            let speed = done.saturating_sub(before) as f64 / interval.as_secs_f64() / 1e6;
            let percent = total
                .filter(|total| *total > 0)
                .map(|total| (done as f64 / total as f64 * 1000.0).round() / 10.0);
            tracing::info!(url = %public(url), bytes = done, total_bytes = total, percent, mb_per_s = (speed * 10.0).round() / 10.0, "downloading");
            before = done;
        }
    }
}
