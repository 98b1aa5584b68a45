//! The memory of request bodies. Those that are read or parsed at one time share a budget, half of
//! it for their text and half for what is built from it; who finds it used up waits, first come
//! first served. Small bodies never wait.
//!
//! A body has its place before its first byte is read, so no two can each hold a part of what the
//! other needs. Who holds a place and sends almost nothing while others wait for it loses it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::SMALL_BODY;

/// The budget as a multiple of the largest body.
pub const SHARE: usize = 4;
/// What one built value costs beside its text, in bytes.
const VALUE: usize = 128;
/// The unit of the budget, in bytes.
const UNIT: usize = 16 * 1024;
/// Who sends slower than so many bytes a second gives way to those who wait, after this time.
const SLOW: f64 = 64.0 * 1024.0;
const GRACE: Duration = Duration::from_secs(10);

/// The budget.
#[derive(Debug)]
pub struct Bodies {
    largest: usize,
    text: Pool,
    built: Pool,
}

#[derive(Debug)]
struct Pool {
    units: u32,
    free: Semaphore,
    waiting: AtomicUsize,
}

/// A part of the budget. Dropping it gives it back.
#[derive(Debug, Default)]
pub struct Share {
    _permit: Option<SemaphorePermit<'static>>,
}

static BODIES: OnceLock<Bodies> = OnceLock::new();

/// Sets the largest body (bytes) once, at start. There is one memory, so there is one budget.
pub fn configure(largest: usize) {
    let _ = BODIES.set(Bodies::new(largest));
}

/// The budget of this process.
pub fn bodies() -> &'static Bodies {
    BODIES.get_or_init(|| Bodies::new(100 * 1024 * 1024))
}

impl Bodies {
    fn new(largest: usize) -> Self {
        let half = largest.max(SMALL_BODY).saturating_mul(SHARE) / 2;
        Self {
            largest,
            text: Pool::new(half),
            built: Pool::new(half),
        }
    }

    /// The largest body, in bytes.
    pub const fn largest(&self) -> usize {
        self.largest
    }

    /// A place for the text of a body of so many bytes; of `None` when nobody knows how long it
    /// becomes.
    pub async fn text(&'static self, bytes: Option<usize>) -> Share {
        self.text.take(bytes.unwrap_or(self.largest)).await
    }

    /// A place for what is built from `bytes` of text with so many values.
    pub async fn built(&'static self, bytes: usize, values: usize) -> Share {
        self.built
            .take(bytes.saturating_add(values.saturating_mul(VALUE)))
            .await
    }

    /// Whether a body that has brought so many bytes since `began` must give way.
    pub fn gives_way(&self, began: Instant, bytes: usize) -> bool {
        let elapsed = began.elapsed();
        self.text.waiting.load(Ordering::Relaxed) > 0
            && elapsed > GRACE
            && bytes as f64 / elapsed.as_secs_f64() < SLOW
    }
}

impl Pool {
    fn new(bytes: usize) -> Self {
        let units = u32::try_from(bytes / UNIT)
            .unwrap_or(u32::MAX)
            .min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            units,
            free: Semaphore::new(units as usize),
            waiting: AtomicUsize::new(0),
        }
    }

    async fn take(&'static self, bytes: usize) -> Share {
        if bytes <= SMALL_BODY {
            return Share::default();
        }
        // One that needs more than there is gets all of it, alone.
        let units = u32::try_from(bytes.div_ceil(UNIT))
            .unwrap_or(u32::MAX)
            .min(self.units);
        let waits = Waiting::new(&self.waiting);
        let permit = self.free.acquire_many(units).await;
        drop(waits);
        // The semaphore is never closed.
        Share {
            _permit: permit.ok(),
        }
    }
}

/// Counts those who wait, also when they stop waiting.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// A10
    #[tokio::test]
    async fn large_bodies_wait_for_each_other_and_small_ones_for_nobody() {
        const MIB: usize = 1024 * 1024;
        let bodies: &'static Bodies = Box::leak(Box::new(Bodies::new(10 * MIB)));
        let first = bodies.text(Some(10 * MIB)).await;
        let second = bodies.text(None).await;
        let mut third = Box::pin(bodies.text(Some(2 * MIB)));
        assert!(third.as_mut().now_or_never().is_none(), "20 MiB are taken");
        assert_eq!(bodies.text.waiting.load(Ordering::Relaxed), 1);
        assert!(bodies.text(Some(SMALL_BODY)).now_or_never().is_some());
        let long_ago = Instant::now().checked_sub(Duration::from_secs(20)).unwrap();
        assert!(bodies.gives_way(long_ago, MIB), "52 KB/s while others wait");
        assert!(!bodies.gives_way(long_ago, 10 * MIB));
        assert!(!bodies.gives_way(Instant::now(), 0));
        drop(first);
        third.await;
        assert!(!bodies.gives_way(long_ago, MIB), "nobody waits");
        drop(second);
        let all = bodies.built(10, MIB).now_or_never();
        assert!(all.is_some(), "more than there is becomes all of it");
        assert!(bodies.built(2 * MIB, 0).now_or_never().is_none());
    }
}
