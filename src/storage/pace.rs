//! How fast a transfer gets on: a slow one gives its place back, one that stands still or is the
//! slowest of too many ends (A12, A49).

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::places::Place;
use super::{ErrorKind, StorageError};
use crate::limits::transfers;

/// The figures. Bytes per second over a window.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// What a speed is measured over.
    pub window: Duration,
    /// Slower than this, a transfer goes on beside the places.
    pub slow: u64,
    /// Slower than this, it stands still.
    pub still: u64,
    /// The longest wait for a place.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            window: transfers::WINDOW,
            slow: transfers::SLOW,
            still: transfers::STILL,
            patience: transfers::PATIENCE,
        }
    }
}

/// Samples in a window.
const SAMPLES: u32 = 12;

/// Why a transfer is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooSlow {
    Still,
    Slowest,
}

impl Pace {
    /// That a transfer from or to `place` was ended.
    pub(super) fn error(&self, why: TooSlow, place: &str) -> StorageError {
        let window = self.window.as_secs();
        let what = match why {
            TooSlow::Still => format!(
                "less than {} bytes/s moved over {window} s: given up",
                self.still
            ),
            TooSlow::Slowest => {
                "the slowest of too many slow transfers was given up: try again later".to_owned()
            }
        };
        StorageError::new(ErrorKind::Transient, format!("{place}: {what}"))
    }

    /// Watches a transfer until it must end. `read` tells the bytes so far, which never get fewer,
    /// and whether bytes are due: while the peer is to answer or to be asked again, a standstill is
    /// somebody else's to judge.
    pub(super) async fn watch(&self, place: &Place, read: impl Fn() -> (u64, bool)) -> TooSlow {
        let tick = self.window / SAMPLES;
        let mut all = Window::new(read().0);
        let mut due = Window::new(0);
        let (mut before, mut due_bytes) = (read().0, 0);
        loop {
            let began = Instant::now();
            tokio::select! {
                () = place.end.cancelled() => return TooSlow::Slowest,
                () = tokio::time::sleep(tick) => {}
            }
            let (bytes, is_due) = read();
            let brought = bytes.saturating_sub(before);
            before = bytes;
            if let Some(rate) = all.push(bytes, self.window) {
                place.note(rate);
                if rate < self.slow {
                    place.step_aside();
                }
            }
            due_bytes += brought;
            if is_due {
                due.time += began.elapsed();
                if due
                    .sample(due_bytes, self.window)
                    .is_some_and(|rate| rate < self.still)
                {
                    return TooSlow::Still;
                }
            }
        }
    }
}

/// Samples of a count, the oldest a window ago.
struct Window {
    samples: VecDeque<(Duration, u64)>,
    time: Duration,
    last: Instant,
}

impl Window {
    fn new(count: u64) -> Self {
        Self {
            samples: VecDeque::from([(Duration::ZERO, count)]),
            time: Duration::ZERO,
            last: Instant::now(),
        }
    }

    fn push(&mut self, count: u64, window: Duration) -> Option<u64> {
        self.time += self.last.elapsed();
        self.last = Instant::now();
        self.sample(count, window)
    }

    /// The rate over the window; `None` until it is full.
    fn sample(&mut self, count: u64, window: Duration) -> Option<u64> {
        let mut rate = None;
        while let Some((at, earlier)) = self.samples.front().copied()
            && self.time - at >= window
        {
            let seconds = (self.time - at).as_secs_f64();
            rate = Some((count.saturating_sub(earlier) as f64 / seconds) as u64);
            self.samples.pop_front();
        }
        self.samples.push_back((self.time, count));
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::super::places::Places;
    use super::*;

    /// A49: the watch ends after a window of a drip, and never for one that only waits for its
    /// turn.
    #[tokio::test]
    async fn drips_end_and_slow_ones_step_aside() {
        let pace = Pace {
            window: Duration::from_millis(240),
            ..Pace::default()
        };
        let places = Places::new(2, pace.patience);
        let (place, began) = (places.acquire("h").await, Instant::now());
        assert_eq!(pace.watch(&place, || (0, true)).await, TooSlow::Still);
        assert!(began.elapsed() >= pace.window && began.elapsed() < pace.window * 8);
        for (rate, due, ends) in [
            (500.0, true, true),
            (5_000.0, true, false),
            (0.0, false, false),
        ] {
            let place = places.acquire("h").await;
            let began = Instant::now();
            let read = || ((began.elapsed().as_secs_f64() * rate) as u64, due);
            let watched = pace.watch(&place, read);
            let ended = tokio::time::timeout(pace.window * 3, watched).await;
            assert_eq!(ended.is_ok(), ends, "{rate}");
            // It is slow: its place is free again, though it lives.
            let (first, second) = (places.acquire("x"), places.acquire("y"));
            let free = tokio::time::timeout(pace.window, async { (first.await, second.await) });
            assert!(free.await.is_ok(), "{rate}");
        }
    }
}
