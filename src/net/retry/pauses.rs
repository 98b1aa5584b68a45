//! Pauses between tries that go on until something holds: each twice as long as the one before.

use std::time::Duration;

use tokio::time::sleep;

/// Growing pauses. Unlike [`super::RetryPolicy`] they do not end: whoever waits decides when it has
/// been long enough.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Pauses {
    /// The first and the longest.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            next: first,
            first,
            longest,
        }
    }

    /// How long the next one is.
    pub const fn peek(&self) -> Duration {
        self.next
    }

    /// Takes the next one.
    pub fn take(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// Waits for the next one.
    pub async fn wait(&mut self) {
        sleep(self.take()).await;
    }

    /// From the beginning: it has worked.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let mut pauses = Pauses::new(Duration::from_secs(1), Duration::from_secs(3));
        let taken: Vec<u64> = (0..4).map(|_| pauses.take().as_secs()).collect();
        assert_eq!(taken, [1, 2, 3, 3]);
        pauses.reset();
        assert_eq!(pauses.peek().as_secs(), 1);
    }
}
