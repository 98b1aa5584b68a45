//! How far a download is: counted by whoever receives bytes, read by whoever waits, by the log, and
//! by the watch over its pace.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use url::Url;

use crate::config::public;

/// Bytes so far and in all.
#[derive(Default)]
pub(in crate::storage) struct Meter {
    done: AtomicU64,
    /// Total plus one; 0 means not known.
    total: AtomicU64,
    /// All bytes that came, those of beginnings that were given up included.
    came: AtomicU64,
    /// Bodies that are being received.
    bodies: AtomicUsize,
}

/// A body that is being received.
pub(in crate::storage) struct Receiving<'a>(&'a Meter);

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.0.bodies.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Meter {
    pub fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.came.fetch_add(bytes, Ordering::Relaxed);
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

    pub fn receiving(&self) -> Receiving<'_> {
        self.bodies.fetch_add(1, Ordering::Relaxed);
        Receiving(self)
    }

    /// Bytes that came, and whether more are due.
    pub fn pace(&self) -> (u64, bool) {
        (
            self.came.load(Ordering::Relaxed),
            self.bodies.load(Ordering::Relaxed) > 0,
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
            tracing::info!(
                url = %public(url),
                bytes = done,
                total_bytes = total,
                percent,
                mb_per_s = (speed * 10.0).round() / 10.0,
                "downloading"
            );
            before = done;
        }
    }
}
