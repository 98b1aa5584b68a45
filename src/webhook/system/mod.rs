//! The worker that sends system events to `SYSTEM_WEBHOOK_URL`, in order, with a bounded queue
//! (events.md).
//!
//! One worker, one event at a time. An event that may be dropped (progress, previews) is tried as
//! often as a webhook, and given up earlier when the queue is full. Any other is tried for an hour:
//! an outage of that length loses nothing, and an event that its receiver cannot stand does not
//! hold up the rest for ever. Refused by a 4xx that says the event is at fault, it has the retries
//! of a webhook; by 410, none.

mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use reqwest::StatusCode;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;
use uuid::Uuid;

use self::queue::{LENGTH, Queue, is_droppable};
use super::SCHEDULE;
use super::attempt::{Attempt, Outcome, Route};
use super::body::Body;
use super::deliveries::{About, Deliveries};
use super::javascript::stringify;
use crate::config::{EventsConfig, SigningKey, WebhookConfig, public};
use crate::document::Document;
use crate::events::{EventSink, Source, SystemEvent};
use crate::net::Outbound;
use crate::net::retry::RetryPolicy;
use crate::telemetry::metrics;
use crate::telemetry::trace::Transfer;

/// How long an event that is kept is retried.
const KEEP_TRYING: Duration = Duration::from_secs(3600);

/// The system webhook: a listener of events, and the worker that sends them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SystemWebhook {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    url: Url,
    names: Vec<&'static str>,
    metadata: BTreeMap<String, String>,
    keys: Vec<SigningKey>,
    retries: u32,
    patience: Duration,
    schedule: RetryPolicy,
    outbound: Outbound,
    deliveries: Deliveries,
    queue: Mutex<Queue>,
    pushed: Notify,
    worker: TaskTracker,
    /// Send what is queued, then end.
    draining: CancellationToken,
    /// End.
    over: CancellationToken,
    /// A kept event had to go; said once per outage.
    overflowed: AtomicBool,
}

impl SystemWebhook {
    /// Sets it up; `None` when there is no `SYSTEM_WEBHOOK_URL` or no event is asked for. Sends
    /// nothing before [`Self::start`].
    pub fn new(
        events: &EventsConfig,
        webhook: &WebhookConfig,
        outbound: Outbound,
        deliveries: Deliveries,
    ) -> Option<Self> {
        let schedule = RetryPolicy {
            longest: Duration::from_secs(30),
            ..SCHEDULE
        };
        Self::listed(events, webhook, outbound, schedule, deliveries)
    }

    /// The same with other delays.
    pub fn with_schedule(
        events: &EventsConfig,
        webhook: &WebhookConfig,
        outbound: Outbound,
        schedule: RetryPolicy,
    ) -> Option<Self> {
        Self::listed(events, webhook, outbound, schedule, Deliveries::default())
    }

    fn listed(
        events: &EventsConfig,
        webhook: &WebhookConfig,
        outbound: Outbound,
        schedule: RetryPolicy,
        deliveries: Deliveries,
    ) -> Option<Self> {
        let url = events.url.clone().filter(|_| !events.names.is_empty())?;
        let shared = Shared {
            url,
            names: events.names.clone(),
            metadata: events.metadata.clone(),
            keys: webhook.keys.clone(),
            retries: webhook.retries,
            patience: webhook.timeout,
            // How often depends on the event and the failure, which the policy does not know.
            schedule: RetryPolicy {
                attempts: u32::MAX,
                ..schedule
            },
            outbound,
            deliveries,
            queue: Mutex::default(),
            pushed: Notify::new(),
            worker: TaskTracker::new(),
            draining: CancellationToken::new(),
            over: CancellationToken::new(),
            overflowed: AtomicBool::new(false),
        };
        Some(Self {
            shared: Arc::new(shared),
        })
    }

    /// Starts the worker. Call once, inside the runtime.
    pub fn start(&self) {
        let shared = Arc::clone(&self.shared);
        self.shared.worker.spawn(async move { shared.work().await });
    }

    /// At shutdown: sends what is queued, at most so long; what is left is counted as dropped and
    /// logged.
    pub async fn drain(&self, grace: Duration) {
        let shared = &self.shared;
        shared.draining.cancel();
        shared.worker.close();
        if tokio::time::timeout(grace, shared.worker.wait())
            .await
            .is_err()
        {
            shared.over.cancel();
            shared.worker.wait().await;
        }
        let mut left = 0;
        while let Some(event) = { shared.queue().pop() } {
            metrics::event_dropped("webhook", &event.name);
            left += 1;
        }
        if left > 0 {
            tracing::error!(
                url = public(&shared.url),
                "{left} system events were not delivered before the process ended"
            );
        }
    }
}

impl EventSink for SystemWebhook {
    fn emit(&self, event: &Arc<SystemEvent>) {
        let dropped = self.shared.queue().push(Arc::clone(event));
        self.shared.pushed.notify_one();
        let Some(dropped) = dropped else { return };
        metrics::event_dropped("webhook", &dropped.name);
        if !is_droppable(&dropped.name) && !self.shared.overflowed.swap(true, Ordering::Relaxed) {
            tracing::error!(
                url = public(&self.shared.url),
                "the receiver of system events is too slow: the oldest events are dropped from \
                 now on"
            );
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.shared.names.contains(&name)
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    async fn work(&self) {
        loop {
            let next = self.queue().pop();
            let Some(event) = next else {
                tokio::select! {
                    biased;
                    () = self.pushed.notified() => continue,
                    () = self.draining.cancelled() => return,
                }
            };
            tokio::select! {
                biased;
                () = self.over.cancelled() => {
                    metrics::event_dropped("webhook", &event.name);
                    return;
                }
                () = self.send(&event) => {}
            }
        }
    }

    /// Sends one event, with retries. The id is the same over them, and no other event has it.
    async fn send(&self, event: &SystemEvent) {
        let id = Uuid::new_v4().to_string();
        let body = Body::Document(Document::from_text(stringify(&self.envelope(event))));
        let droppable = is_droppable(&event.name);
        let record = self.deliveries.begin(&About {
            kind: "system",
            url: &self.url,
            prompt_id: event.prompt.as_ref().map(|prompt| &*prompt.id),
            size: body.len(),
        });
        let nudge = record.nudge();
        let begun = Instant::now();
        let mut failures = 0;
        loop {
            let began = std::time::Instant::now();
            let outcome = self.attempt(event, &id, &body, failures).await;
            record.attempted(began, &outcome);
            metrics::webhook_attempt("system", outcome.is_delivered());
            let (reason, status, asked) = match outcome {
                Outcome::Delivered(_) => {
                    self.overflowed.store(false, Ordering::Relaxed);
                    record.delivered();
                    return metrics::webhook_outcome("system", "delivered");
                }
                Outcome::Gone => {
                    record.lost(None);
                    return self.give_up(event, "gone", "the receiver answered 410 Gone");
                }
                Outcome::Hopeless(reason) => {
                    record.lost(Some(&reason));
                    return self.give_up(event, "failed", &reason);
                }
                Outcome::Failed {
                    reason,
                    status,
                    asked,
                } => (reason, status, asked),
            };
            failures += 1;
            let few = droppable || status.is_some_and(is_events_fault);
            let crowded = droppable && self.queue().len() >= LENGTH;
            if crowded || (few && failures > self.retries) || begun.elapsed() > KEEP_TRYING {
                record.lost(Some(&reason));
                return self.give_up(event, "failed", &reason);
            }
            let delay = self.schedule.delay(failures, asked);
            let delay = delay.unwrap_or(self.schedule.longest);
            record.waits(delay);
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = nudge.notified() => {}
            }
            record.sends();
        }
    }

    async fn attempt(&self, event: &SystemEvent, id: &str, body: &Body, failures: u32) -> Outcome {
        let route = Route::Operator(&self.outbound);
        let attempt = Attempt {
            route,
            url: &self.url,
            id: Some(id),
            keys: &self.keys,
            body,
            patience: self.patience,
        };
        let prompt = event.prompt.as_ref();
        let parent = prompt.and_then(|prompt| prompt.context.as_ref());
        let mut transfer = Transfer::begin("POST", &self.url, parent);
        transfer.resent(failures);
        transfer.webhook(id, body.len());
        attempt.make(&mut transfer).await
    }

    fn give_up(&self, event: &SystemEvent, fate: &'static str, reason: &str) {
        metrics::webhook_outcome("system", fate);
        metrics::event_dropped("webhook", &event.name);
        let url = public(&self.url);
        if is_droppable(&event.name) {
            tracing::debug!(url, event = &*event.name, "system event dropped: {reason}");
        } else {
            tracing::error!(url, event = &*event.name, "system event lost: {reason}");
        }
    }

    fn envelope(&self, event: &SystemEvent) -> serde_json::Value {
        let side = match event.source {
            Source::Comfy => "comfy",
            Source::Storage => "storage",
        };
        json!({
            "event": format!("{side}.{}", event.name),
            "data": &*event.data,
            "metadata": &self.metadata
        })
    }
}

/// A 4xx other than those that speak of the moment or of the receiver's own set-up.
fn is_events_fault(status: StatusCode) -> bool {
    use StatusCode as S;
    let passing = [
        S::UNAUTHORIZED,
        S::FORBIDDEN,
        S::NOT_FOUND,
        S::REQUEST_TIMEOUT,
        S::TOO_EARLY,
        S::TOO_MANY_REQUESTS,
    ];
    status.is_client_error() && !passing.contains(&status)
}
