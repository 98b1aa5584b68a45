//! The way of one delivery from its acceptance to its end, and the round through the spool.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attempt::{Attempt, Outcome, Route};
use super::body::Body;
use super::per_receiver_queue::{PerReceiverQueue, Place};
use super::spool::{Spool, SpoolLock, SpooledWebhook};
use super::{Delivery, Kind, Options, Parcel};
use crate::config::{SigningKey, WebhookConfig};
use crate::net::Outbound;
use crate::net::retry::RetryPolicy;
use crate::telemetry::metrics;

/// How long spool files may take to be written once the grace period is over.
const LAST_WRITES: Duration = Duration::from_secs(5);
/// A round through the spool begins no more than this for one endpoint: thousands for a dead one must not crowd out others.
const PER_ROUND: usize = 100;

/// What all deliveries share.
#[derive(Debug)]
pub struct Dispatcher {
    keys: Vec<SigningKey>,
    retries: u32,
    patience: Duration,
    outbound: Outbound,
    options: Options,
    queues: PerReceiverQueue,
    spool: Option<Spool>,
    tasks: TaskTracker,
    /// The process is ending: nothing that is safe in the spool is begun any more.
    draining: CancellationToken,
    /// The grace period is over.
    over: CancellationToken,
}

/// A delivery on its way.
struct Load {
    parcel: Parcel,
    body: Body,
    /// The spool file, if there is one.
    claim: Option<SpoolLock>,
    place: Place,
    /// It came from an earlier round or process: one attempt, and a failure is no news.
    again: bool,
}

/// How a delivery ended, for now.
enum End {
    Delivered,
    Gone,
    Hopeless(String),
    /// No attempts are left; the receiver may have asked for a pause.
    UsedUp(String, Option<Duration>),
    /// The process ends.
    Interrupted,
}

impl Dispatcher {
    pub(super) fn new(config: &WebhookConfig, outbound: Outbound, options: Options) -> Self {
        Self {
            keys: config.keys.clone(),
            retries: config.retries,
            patience: config.timeout,
            outbound,
            options,
            queues: PerReceiverQueue::new(),
            spool: config.spool_dir.clone().map(Spool::new),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            over: CancellationToken::new(),
        }
    }

    pub(super) fn accept(self: Arc<Self>, delivery: Delivery) {
        let Delivery {
            kind,
            url,
            id,
            body,
        } = delivery;
        let place = self.queues.place(&url, body.text_len());
        let load = Load {
            parcel: Parcel { kind, url, id },
            body: Body::Document(body),
            claim: None,
            place,
            again: false,
        };
        let crowded = self.is_crowded(&load.place, self.options.waiting_per_endpoint);
        if self.spool.is_none()
            && (crowded || load.place.waiting().text > self.options.waiting_text)
        {
            lost(
                &load.parcel,
                "too many deliveries wait already, and WEBHOOK_SPOOL_DIR is not set",
            );
            return;
        }
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            let load = self.spool_early(load).await;
            if crowded && load.claim.is_some() {
                metrics::webhook_outcome(load.parcel.kind.as_str(), "spooled");
                return;
            }
            self.carry(load).await;
        });
    }

    fn is_crowded(&self, place: &Place, per_endpoint: usize) -> bool {
        let waiting = place.waiting();
        waiting.here > per_endpoint || waiting.everywhere > self.options.waiting
    }

    /// Writes the delivery to the spool and lets go of its document.
    async fn spool_early(&self, mut load: Load) -> Load {
        let Some(spool) = &self.spool else {
            return load;
        };
        match spool.keep(&load.parcel, &load.body).await {
            Ok((claim, body)) => {
                load.claim = Some(claim);
                load.body = body;
                load.place.text_is_stored();
            }
            Err(error) => {
                let dir = spool.dir().display();
                tracing::error!(id = load.parcel.id, %error, "webhook cannot be written to the spool {dir}; it is delivered from memory");
            }
        }
        load
    }

    async fn carry(&self, mut load: Load) {
        // Boxed: thousands of these wait, and only a few are inside an attempt.
        let end = Box::pin(self.attempts(&load)).await;
        if load.claim.is_none() && matches!(end, End::UsedUp(..) | End::Interrupted) {
            load = self.spool_early(load).await;
        }
        self.conclude(load, end).await;
    }

    async fn attempts(&self, load: &Load) -> End {
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
            // What is safe in the spool and has had its attempt is not begun again while the process ends.
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
                outcome = Box::pin(self.attempt(load)) => outcome,
            };
            drop(turn);
            let (reason, asked) = match outcome {
                Outcome::Delivered => return End::Delivered,
                Outcome::Gone => return End::Gone,
                Outcome::Hopeless(reason) => return End::Hopeless(reason),
                Outcome::Failed { reason, asked, .. } => (reason, asked),
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
                return End::UsedUp(reason, asked);
            };
            if !self.pause(delay, load.claim.is_some()).await {
                return End::Interrupted;
            }
        }
    }

    /// Waits; `false` when the process is ending and the rest is not for this delivery.
    async fn pause(&self, delay: Duration, safe: bool) -> bool {
        let ending = if safe { &self.draining } else { &self.over };
        tokio::select! {
            biased;
            () = ending.cancelled() => false,
            () = tokio::time::sleep(delay) => true,
        }
    }

    async fn attempt(&self, load: &Load) -> Outcome {
        let parcel = &load.parcel;
        let signed = parcel.kind == Kind::V2;
        let attempt = Attempt {
            route: Route::Guarded(&self.outbound),
            url: &parcel.url,
            id: signed.then_some(parcel.id.as_str()),
            keys: &self.keys,
            body: &load.body,
            patience: self.patience,
        };
        let outcome = attempt.make().await;
        let delivered = outcome == Outcome::Delivered;
        load.place.note(
            delivered,
            !matches!(outcome, Outcome::Failed { status: None, .. }),
        );
        metrics::webhook_attempt(parcel.kind.as_str(), delivered);
        outcome
    }

    async fn conclude(&self, load: Load, end: End) {
        let Load {
            parcel,
            claim,
            again,
            place,
            ..
        } = load;
        let (kind, id, url) = (parcel.kind.as_str(), parcel.id.as_str(), parcel.receiver());
        let spooled = claim.is_some();
        match end {
            End::Delivered => {
                tracing::debug!(id, url, kind, "webhook delivered");
                metrics::webhook_outcome(kind, "delivered");
                finish(claim).await;
            }
            End::Gone => {
                tracing::warn!(
                    id,
                    url,
                    kind,
                    "webhook dropped: the receiver answered 410 Gone"
                );
                metrics::webhook_outcome(kind, "gone");
                finish(claim).await;
            }
            End::Hopeless(reason) => {
                tracing::error!(id, url, kind, "webhook dropped: {reason}");
                metrics::webhook_outcome(kind, "failed");
                finish(claim).await;
            }
            End::UsedUp(reason, asked) if spooled => {
                if !again {
                    tracing::warn!(
                        id,
                        url,
                        kind,
                        "webhook not delivered yet, it stays in the spool: {reason}"
                    );
                    metrics::webhook_outcome(kind, "spooled");
                }
                drop(place);
                // The file stays claimed for as long as the receiver wants to be left alone.
                if let Some(asked) = asked {
                    self.pause(asked.min(self.options.schedule.longest_asked), true)
                        .await;
                }
                drop(claim);
            }
            End::Interrupted if spooled => {
                tracing::info!(
                    id,
                    url,
                    kind,
                    "webhook stays in the spool for the next start"
                );
                if !again {
                    metrics::webhook_outcome(kind, "spooled");
                }
            }
            End::UsedUp(reason, _) => lost(&parcel, &reason),
            End::Interrupted => lost(
                &parcel,
                "the process is ending, and WEBHOOK_SPOOL_DIR is not set or cannot be written",
            ),
        }
    }

    pub(super) fn start_sweeping(self: Arc<Self>) {
        let Some(spool) = self.spool.clone() else {
            return;
        };
        tokio::spawn(async move {
            if let Err(error) = spool.prepare().await {
                tracing::error!(%error, "the spool {} (WEBHOOK_SPOOL_DIR) cannot be created: webhooks do not survive this process", spool.dir().display());
            }
            loop {
                self.sweep(&spool).await;
                tokio::select! {
                    biased;
                    () = self.draining.cancelled() => return,
                    () = tokio::time::sleep(self.options.sweep_every) => {}
                }
            }
        });
    }

    /// Gives everything in the spool that nobody works on one more attempt.
    async fn sweep(self: &Arc<Self>, spool: &Spool) {
        let listing = spool.clone();
        let found = match tokio::task::spawn_blocking(move || listing.waiting()).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::error!(%error, "the spool {} cannot be read", spool.dir().display());
                return;
            }
            Err(_) => return,
        };
        for claim in found {
            if self.draining.is_cancelled() {
                return;
            }
            let opened = tokio::task::spawn_blocking(move || {
                let kept = claim.open();
                if let Err(Some(reason)) = &kept {
                    set_aside(&claim, reason);
                }
                kept.ok().map(|kept| (claim, kept))
            });
            if let Ok(Some((claim, kept))) = opened.await {
                self.resume(claim, kept).await;
            }
        }
    }

    async fn resume(self: &Arc<Self>, claim: SpoolLock, kept: SpooledWebhook) {
        let SpooledWebhook {
            parcel,
            created,
            body,
        } = kept;
        if SystemTime::now()
            .duration_since(created)
            .is_ok_and(|age| age > self.options.keep_for)
        {
            let hours = self.options.keep_for.as_secs() / 3600;
            lost(
                &parcel,
                &format!("it could not be delivered for {hours} hours"),
            );
            finish(Some(claim)).await;
            return;
        }
        let place = self.queues.place(&parcel.url, 0);
        if self.is_crowded(&place, PER_ROUND) {
            return;
        }
        let load = Load {
            parcel,
            body,
            claim: Some(claim),
            place,
            again: true,
        };
        let dispatcher = Arc::clone(self);
        self.tasks
            .spawn(async move { dispatcher.carry(load).await });
    }

    pub(super) async fn drain(&self, grace: Duration) {
        self.draining.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_ok() {
            self.over.cancel();
            return;
        }
        self.over.cancel();
        if tokio::time::timeout(LAST_WRITES, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::error!(
                "{} webhooks were still being written to the spool when the process ended",
                self.tasks.len()
            );
        }
    }
}

fn lost(parcel: &Parcel, reason: &str) {
    let kind = parcel.kind.as_str();
    tracing::error!(
        id = parcel.id,
        url = parcel.receiver(),
        kind,
        "webhook lost: {reason}"
    );
    metrics::webhook_outcome(kind, "failed");
}

async fn finish(claim: Option<SpoolLock>) {
    let Some(claim) = claim else { return };
    let path = claim.path().to_owned();
    if let Err(error) = claim.finish().await {
        tracing::error!(%error, "the spool file {} cannot be deleted: its webhook will be sent again", path.display());
    }
}

fn set_aside(claim: &SpoolLock, reason: &str) {
    match claim.set_aside() {
        Ok(path) => tracing::error!(
            "the spool file {} is damaged ({reason}): kept, but not delivered",
            path.display()
        ),
        Err(error) => {
            tracing::error!(%error, "the spool file {} is damaged ({reason})", claim.path().display())
        }
    }
}
