//! When the next attempt comes: exponential backoff with jitter, and what the receiver asked for by `Retry-After`.
//!
//! The only place in `webhook` that knows delays, so that it can be replaced by a rule shared with other clients.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// The delays between attempts.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// The longest first delay; each next one is twice as long.
    pub base: Duration,
    /// No delay of our own is longer.
    pub longest: Duration,
    /// A `Retry-After` longer than this is cut: a receiver must not park results for a year.
    pub longest_asked: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { base: Duration::from_secs(1), longest: Duration::from_secs(120), longest_asked: Duration::from_secs(15 * 60) }
    }
}

impl Schedule {
    /// The delay after the `failures`-th failure in a row (from 1), `asked` being the receiver's own wish.
    ///
    /// The jitter takes away up to half, so that delays still grow while many deliveries to one receiver spread out.
    /// A wish is a lower bound: it is never shortened by our own schedule, only by [`Self::longest_asked`].
    pub fn delay(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let full = self.base.saturating_mul(1 << doublings).min(self.longest);
        let own = full.mul_f64(rand::random_range(0.5..=1.0));
        asked.map_or(own, |asked| own.max(self.bounded(asked)))
    }

    /// What is granted of a receiver's wish.
    pub fn bounded(&self, asked: Duration) -> Duration {
        asked.min(self.longest_asked)
    }
}

/// `Retry-After` in either of its forms; `None` when it is missing or means nothing.
pub fn asked_delay(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let when = httpdate::parse_http_date(text).ok()?;
    Some(when.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_a_bound() {
        let schedule = Schedule { base: Duration::from_secs(1), longest: Duration::from_secs(10), longest_asked: Duration::from_secs(60) };
        for (failures, full) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (1000, 10)] {
            for _ in 0..50 {
                let delay = schedule.delay(failures, None);
                assert!(delay <= Duration::from_secs(full) && delay >= Duration::from_millis(full * 500), "{failures}: {delay:?}");
            }
        }
        assert_eq!(schedule.delay(1, Some(Duration::from_secs(30))), Duration::from_secs(30));
        assert_eq!(schedule.delay(1, Some(Duration::from_secs(1 << 40))), Duration::from_secs(60));
    }

    #[test]
    fn both_forms_of_retry_after() {
        let asked = |text: &str| asked_delay(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let soon = asked(&httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100))).unwrap();
        assert!(soon > Duration::from_secs(95) && soon <= Duration::from_secs(100));
        assert_eq!(asked("-3"), None);
        assert_eq!(asked("soon"), None);
    }
}
