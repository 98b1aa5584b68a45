//! The attempts at one delivery, until it has ended for now.

use std::time::{Duration, Instant};

use super::{Dispatcher, Load};
use crate::net::retry::RetryPolicy;
use crate::telemetry::metrics;
use crate::telemetry::trace::Transfer;
use crate::webhook::Kind;
use crate::webhook::attempt::{Attempt, Outcome, Route};

/// How a delivery ended, for now.
pub(super) enum End {
    Delivered,
    Gone,
    Hopeless(String),
    /// No attempts are left; the receiver may have asked for a pause.
    UsedUp {
        reason: String,
        asked: Option<Duration>,
        /// There was no answer.
        silent: bool,
    },
    /// The process ends.
    Interrupted,
}

impl Dispatcher {
    pub(super) async fn attempts(&self, load: &Load) -> End {
        let attempts = if load.again {
            1
        } else {
            self.retries.saturating_add(1)
        };
        let policy = RetryPolicy {
            attempts,
            ..self.options.schedule
        };
        let mut failures = 0;
        loop {
            // What is safe in the spool and has had its attempt is not begun again while the
            // process ends.
            let safe = load.claim.is_some() && (load.again || failures > 0);
            let ending = if safe { &self.draining } else { &self.over };
            let turn = tokio::select! {
                biased;
                () = ending.cancelled() => return End::Interrupted,
                turn = load.place.turn() => turn,
            };
            let outcome = tokio::select! {
                biased;
                () = self.over.cancelled() => return End::Interrupted,
                outcome = Box::pin(self.attempt(load, failures)) => outcome,
            };
            drop(turn);
            let (reason, asked, silent) = match outcome {
                Outcome::Delivered(_) => return End::Delivered,
                Outcome::Gone => return End::Gone,
                Outcome::Hopeless(reason) => return End::Hopeless(reason),
                Outcome::Failed {
                    reason,
                    asked,
                    status,
                } => (reason, asked, status.is_none()),
            };
            failures += 1;
            tracing::debug!(
                id = load.parcel.id,
                url = load.parcel.receiver(),
                failures,
                reason,
                "webhook attempt failed"
            );
            let Some(delay) = policy.delay(failures, asked) else {
                return End::UsedUp {
                    reason,
                    asked,
                    silent,
                };
            };
            load.record.waits(delay);
            if !self.pause(delay, load).await {
                return End::Interrupted;
            }
            load.record.sends();
        }
    }

    /// Waits, unless somebody wants it sent now; `false` when the process is ending and the rest is
    /// not for this delivery.
    pub(super) async fn pause(&self, delay: Duration, load: &Load) -> bool {
        let safe = load.claim.is_some();
        let ending = if safe { &self.draining } else { &self.over };
        let nudge = load.record.nudge();
        tokio::select! {
            biased;
            () = ending.cancelled() => false,
            () = nudge.notified() => true,
            () = tokio::time::sleep(delay) => true,
        }
    }

    async fn attempt(&self, load: &Load, failures: u32) -> Outcome {
        let parcel = &load.parcel;
        let mut transfer = Transfer::begin("POST", &parcel.url, parcel.context.as_ref());
        // What comes out of the spool was tried before, nobody knows how often.
        transfer.resent(failures + u32::from(load.again));
        transfer.webhook(&parcel.id, load.body.len());
        let signed = parcel.kind == Kind::V2;
        let attempt = Attempt {
            route: Route::Guarded(&self.outbound),
            url: &parcel.url,
            id: signed.then_some(parcel.id.as_str()),
            keys: &self.keys,
            body: &load.body,
            patience: self.patience,
        };
        let began = Instant::now();
        let outcome = attempt.make(&mut transfer).await;
        drop(transfer);
        load.record.attempted(began, &outcome);
        let delivered = outcome.is_delivered();
        load.place.note(
            delivered,
            !matches!(outcome, Outcome::Failed { status: None, .. }),
        );
        metrics::webhook_attempt(parcel.kind.as_str(), delivered);
        outcome
    }
}
