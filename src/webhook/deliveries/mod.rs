//! The deliveries of this server as people see them: webhooks of jobs and system events, the last
//! of each with their attempts, and the wish that one be sent again.

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;
use url::Url;

use super::attempt::Outcome;
use crate::config::public;
use crate::ledger::{Bound, Ledger, Listed};
use crate::limits::{MAX_ATTEMPTS_LISTED, MAX_DELIVERIES, text};
use crate::telemetry::logging::epoch_ms;

/// Characters of an error in the list.
const LONGEST_ERROR: usize = 500;

/// How it stands with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    /// An attempt is being made, or waits for its turn.
    Sending,
    /// Between attempts.
    Waiting,
    /// The receiver has it.
    Delivered,
    /// Its attempts are used up; the spool may still try it.
    Failed,
}

/// One attempt.
#[derive(Debug, Clone, Serialize)]
pub struct AttemptEntry {
    /// When it began, epoch milliseconds.
    pub at: u64,
    /// What the receiver answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

/// One delivery as it is listed. Free of secrets.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryEntry {
    /// Its name in the list.
    pub id: Arc<str>,
    /// The prompt that it tells of; `None` for events of none.
    pub prompt_id: Option<Arc<str>>,
    /// `v2`, `legacy` or `system`.
    pub kind: &'static str,
    /// The receiver, without secrets.
    pub url: String,
    /// How it stands.
    pub status: DeliveryStatus,
    /// The last attempts, oldest first.
    pub attempts: Vec<AttemptEntry>,
    /// When the next attempt is due, epoch milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<u64>,
    /// Why it was given up, where no attempt says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Bytes of the body.
    pub size: u64,
    /// When it was asked for, epoch milliseconds.
    pub created_at: u64,
    /// Whether another attempt can be made.
    #[serde(skip)]
    pub(super) body: BodyAt,
    /// Wakes a delivery that waits for its next attempt.
    #[serde(skip)]
    pub(super) nudge: Arc<Notify>,
}

/// Where the body of a delivery is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BodyAt {
    /// With the task that delivers it.
    Task,
    /// In the spool alone.
    Spool {
        /// The file.
        name: OsString,
        /// Whose backlog it is in.
        receiver: String,
    },
    /// Nowhere any more.
    Gone,
}

impl Listed for DeliveryEntry {
    fn id(&self) -> &str {
        &self.id
    }

    fn is_over(&self) -> bool {
        matches!(
            self.status,
            DeliveryStatus::Delivered | DeliveryStatus::Failed
        )
    }

    /// Events come by the thousand; what they tell nobody misses.
    fn is_minor(&self) -> bool {
        self.kind == "system" && self.status == DeliveryStatus::Delivered
    }
}

/// The list of deliveries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Deliveries {
    ledger: Arc<Ledger<DeliveryEntry>>,
    /// When the spool is looked through next, epoch milliseconds; 0 = never.
    next_round: Arc<AtomicU64>,
}

impl Default for Deliveries {
    fn default() -> Self {
        Self {
            ledger: Arc::new(Ledger::new(Bound::All(MAX_DELIVERIES))),
            next_round: Arc::default(),
        }
    }
}

/// What a delivery is about.
pub(super) struct About<'a> {
    pub kind: &'static str,
    pub url: &'a Url,
    pub prompt_id: Option<&'a str>,
    pub size: u64,
}

impl Deliveries {
    /// One delivery.
    pub fn get(&self, id: &str) -> Option<DeliveryEntry> {
        self.ledger.get(id)
    }

    /// All, newest first.
    pub fn all(&self) -> Vec<DeliveryEntry> {
        self.ledger.all()
    }

    /// The list itself, for who follows its changes.
    pub fn ledger(&self) -> &Ledger<DeliveryEntry> {
        &self.ledger
    }

    /// Lists a delivery that was just accepted.
    pub(super) fn begin(&self, about: &About<'_>) -> DeliveryRecord {
        self.add(about, DeliveryStatus::Sending, BodyAt::Task, epoch_ms())
    }

    /// Lists a delivery that was found in the spool.
    pub(super) fn found(&self, about: &About<'_>, created_at: u64, body: BodyAt) {
        self.add(about, DeliveryStatus::Failed, body, created_at)
            .change(|_| true);
    }

    /// The record of what is in a spool file.
    pub(super) fn spooled(&self, name: &OsString) -> Option<DeliveryRecord> {
        let entry = self.ledger.find(
            |entry| matches!(&entry.body, BodyAt::Spool { name: known, .. } if known == name),
        )?;
        Some(self.record(entry.id))
    }

    fn add(
        &self,
        about: &About<'_>,
        status: DeliveryStatus,
        body: BodyAt,
        created_at: u64,
    ) -> DeliveryRecord {
        let id: Arc<str> = uuid::Uuid::new_v4().to_string().into();
        let next_at = matches!(body, BodyAt::Spool { .. }).then(|| self.next_round());
        self.ledger.add(DeliveryEntry {
            id: id.clone(),
            prompt_id: about.prompt_id.map(Into::into),
            kind: about.kind,
            url: public(about.url),
            status,
            attempts: Vec::new(),
            next_at: next_at.flatten(),
            error: None,
            size: about.size,
            created_at,
            body,
            nudge: Arc::default(),
        });
        self.record(id)
    }

    fn record(&self, id: Arc<str>) -> DeliveryRecord {
        DeliveryRecord {
            deliveries: self.clone(),
            id,
        }
    }

    fn next_round(&self) -> Option<u64> {
        let at = self.next_round.load(Ordering::Relaxed);
        (at > 0).then(|| at.max(epoch_ms()))
    }

    /// The spool is looked through again after so long.
    pub(super) fn next_round_in(&self, wait: Duration) {
        let next = epoch_ms() + millis(wait);
        self.next_round.store(next, Ordering::Relaxed);
        for entry in self.ledger.all() {
            if matches!(entry.body, BodyAt::Spool { .. }) {
                self.record(entry.id).change(|entry| {
                    let spooled = matches!(entry.body, BodyAt::Spool { .. });
                    if spooled {
                        entry.next_at = Some(next);
                    }
                    spooled
                });
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The place of a delivery in the list, for whoever sees to it. The list may have forgotten it.
#[derive(Debug, Clone)]
pub(super) struct DeliveryRecord {
    deliveries: Deliveries,
    id: Arc<str>,
}

impl DeliveryRecord {
    fn change(&self, change: impl FnOnce(&mut DeliveryEntry) -> bool) {
        self.deliveries.ledger.change(&self.id, change);
    }

    /// What wakes it while it waits.
    pub fn nudge(&self) -> Arc<Notify> {
        let entry = self.deliveries.ledger.get(&self.id);
        entry.map(|entry| entry.nudge).unwrap_or_default()
    }

    /// Somebody sees to it now.
    pub fn sends(&self) {
        self.change(|entry| {
            entry.status = DeliveryStatus::Sending;
            entry.next_at = None;
            entry.body = BodyAt::Task;
            true
        });
    }

    /// An attempt has ended.
    pub fn attempted(&self, began: Instant, outcome: &Outcome) {
        let took = began.elapsed();
        let (status, error) = match outcome {
            Outcome::Delivered(status) => (Some(*status), None),
            Outcome::Gone => (
                Some(reqwest::StatusCode::GONE),
                Some("it answered 410 Gone: it wants no more".to_owned()),
            ),
            Outcome::Hopeless(reason) => (None, Some(reason.clone())),
            Outcome::Failed { reason, status, .. } => (*status, Some(reason.clone())),
        };
        let attempt = AttemptEntry {
            at: epoch_ms().saturating_sub(millis(took)),
            status: status.map(|status| status.as_u16()),
            error: error.map(|error| text::shorten(&error, LONGEST_ERROR).into_owned()),
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        };
        self.change(|entry| {
            if entry.attempts.len() == MAX_ATTEMPTS_LISTED {
                entry.attempts.remove(0);
            }
            entry.attempts.push(attempt);
            true
        });
    }

    /// The next attempt comes after so long.
    pub fn waits(&self, delay: Duration) {
        let next = epoch_ms() + millis(delay);
        self.change(|entry| {
            entry.status = DeliveryStatus::Waiting;
            entry.next_at = Some(next);
            true
        });
    }

    /// The receiver has it.
    pub fn delivered(&self) {
        self.change(|entry| {
            entry.status = DeliveryStatus::Delivered;
            entry.next_at = None;
            entry.body = BodyAt::Gone;
            true
        });
    }

    /// It is given up.
    pub fn lost(&self, reason: Option<&str>) {
        let reason = reason.map(|reason| text::shorten(reason, LONGEST_ERROR).into_owned());
        self.change(|entry| {
            entry.status = DeliveryStatus::Failed;
            entry.next_at = None;
            entry.body = BodyAt::Gone;
            // What an attempt says need not be said twice.
            entry.error = reason.filter(|reason| {
                let last = entry.attempts.last().and_then(|last| last.error.as_ref());
                last != Some(reason)
            });
            true
        });
    }

    /// It is in the spool alone: its attempts are used up, or none was made because too many wait.
    pub fn stays_in_spool(&self, name: &OsString, receiver: &str) {
        let next = self.deliveries.next_round();
        self.change(|entry| {
            entry.status = match entry.attempts.is_empty() {
                true => DeliveryStatus::Waiting,
                false => DeliveryStatus::Failed,
            };
            entry.next_at = next;
            entry.body = BodyAt::Spool {
                name: name.clone(),
                receiver: receiver.to_owned(),
            };
            true
        });
    }
}
