//! The one rule for trying again: which failures are worth it, and how long to wait.

mod pauses;

use std::time::Duration;

use axum::http::StatusCode;
use rand::Rng;

pub use pauses::Pauses;

/// How often and how patiently. Delays grow by the factor 2 and are jittered, so that many clients
/// do not come back together.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// Before the second attempt.
    pub first: Duration,
    /// No delay of our own is longer.
    pub longest: Duration,
    /// A `Retry-After` is obeyed up to here.
    pub longest_asked: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(10),
            longest_asked: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// The same number of attempts with delays of milliseconds: for tests.
    #[must_use]
    pub fn hasty(self) -> Self {
        Self {
            first: Duration::from_millis(2),
            longest: Duration::from_millis(20),
            ..self
        }
    }

    /// How long to wait after failure number `failures` (1 for the first), or `None` when it was
    /// the last. What the peer asked for is the least that is waited.
    pub fn delay(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        let full = self
            .first
            .saturating_mul(
                1_u32
                    .checked_shl(failures.saturating_sub(1))
                    .unwrap_or(u32::MAX),
            )
            .min(self.longest);
        let jittered = full.mul_f64(rand::rng().random_range(0.5..=1.0));
        Some(asked.map_or(jittered, |asked| {
            asked.min(self.longest_asked).max(jittered)
        }))
    }
}

/// Whether an answer says "not now" rather than "no": 408, 425, 429, 5xx except those that will not
/// change.
pub fn is_transient_status(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    ) || status.is_server_error()
        && !matches!(
            status,
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED
        )
}

/// Whether a request that got no answer, or lost it midway, may fare better next time. A refused
/// address, a name that does not exist, or a request that cannot be built will not.
pub fn is_transient_error(error: &reqwest::Error) -> bool {
    !(super::refusal_of(error).is_some()
        || super::cause::<super::NameError>(error).is_some_and(|name| name.unknown)
        || error.is_builder())
}

/// Tries until an attempt succeeds, fails for good, or was the last one. `asked` judges a failure:
/// `None` is final, else another try makes sense, after what the peer asked for if it did.
///
/// # Errors
/// The last failure.
pub async fn retried<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    policy: &RetryPolicy,
    asked: impl Fn(&E) -> Option<Option<Duration>>,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E> {
    let mut failures = 0;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        failures += 1;
        let Some(delay) = asked(&error).and_then(|asked| policy.delay(failures, asked)) else {
            return Err(error);
        };
        tracing::debug!(%error, delay_ms = delay.as_millis() as u64, "it is tried again");
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_jittered_and_end() {
        let policy = RetryPolicy::default();
        for (failures, full) in [(1, 500), (2, 1000), (3, 2000), (4, 4000)] {
            let delay = policy.delay(failures, None).unwrap();
            assert!(
                delay >= Duration::from_millis(full / 2) && delay <= Duration::from_millis(full),
                "{failures}: {delay:?}"
            );
        }
        assert_eq!(policy.delay(5, None), None);
        assert_eq!(
            policy.delay(1, Some(Duration::from_secs(7))),
            Some(Duration::from_secs(7))
        );
        assert_eq!(
            policy.delay(1, Some(Duration::from_secs(7000))),
            Some(Duration::from_secs(60))
        );
    }

    #[test]
    fn statuses_are_told_apart() {
        for (status, transient) in [
            (408, true),
            (429, true),
            (500, true),
            (503, true),
            (501, false),
            (404, false),
            (401, false),
            (200, false),
        ] {
            assert_eq!(
                is_transient_status(StatusCode::from_u16(status).unwrap()),
                transient,
                "{status}"
            );
        }
    }
}
