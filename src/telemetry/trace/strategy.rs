//! How many traces are recorded, when somebody else decides that and may change his mind: the share
//! of all, or so many a second.

use std::time::Instant;

use parking_lot::Mutex;

use super::sampler::is_of_share;

/// What holds at this moment.
#[derive(Debug)]
pub struct Strategy(Mutex<Rule>);

#[derive(Debug)]
enum Rule {
    Share(f64),
    Rate {
        per_second: f64,
        /// Traces that may be recorded now.
        left: f64,
        at: Instant,
    },
}

impl Strategy {
    /// A share, until something else is said.
    pub const fn new(share: f64) -> Self {
        Self(Mutex::new(Rule::Share(share)))
    }

    /// From now on a share of all.
    pub fn share(&self, share: f64) {
        *self.lock() = Rule::Share(share);
    }

    /// From now on so many a second; saying the same again changes nothing.
    pub fn rate(&self, wanted: f64) {
        let mut rule = self.lock();
        if let Rule::Rate { per_second, .. } = &*rule
            && (*per_second - wanted).abs() < f64::EPSILON
        {
            return;
        }
        *rule = Rule::Rate {
            per_second: wanted,
            left: wanted,
            at: Instant::now(),
        };
    }

    pub(super) fn samples(&self, trace_id: &[u8; 16]) -> bool {
        match &mut *self.lock() {
            Rule::Share(share) => is_of_share(*share, trace_id),
            Rule::Rate {
                per_second,
                left,
                at,
            } => {
                let passed = at.elapsed();
                *at += passed;
                // Below one a second it takes longer until there is one.
                let most = per_second.max(1.0);
                *left = (*left + passed.as_secs_f64() * *per_second).min(most);
                let enough = *left >= 1.0;
                if enough {
                    *left -= 1.0;
                }
                enough
            }
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Rule> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::trace::ids;

    fn of_many(strategy: &Strategy) -> usize {
        let all = 0..1000;
        all.filter(|_| strategy.samples(&ids::trace_id())).count()
    }

    #[test]
    fn shares_and_rates_hold() {
        let strategy = Strategy::new(0.0);
        assert_eq!(of_many(&strategy), 0);
        strategy.share(1.0);
        assert_eq!(of_many(&strategy), 1000);
        strategy.rate(5.0);
        let first = of_many(&strategy);
        assert!((5..50).contains(&first), "{first}");
        // The same again gives nothing away.
        strategy.rate(5.0);
        assert!(of_many(&strategy) < 50);
        strategy.rate(0.0);
        assert_eq!(of_many(&strategy), 0);
    }
}
