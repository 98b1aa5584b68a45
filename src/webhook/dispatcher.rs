//! The way of one delivery from its acceptance to its end, and the round through the spool.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use url::Url;

use super::attempt::{Attempt, Outcome, Route};
use super::backlog::{Backlogs, origin, receiver};
use super::body::Body;
use super::deliveries::{About, BodyAt, Deliveries, DeliveryRecord};
use super::per_receiver_queue::{PerReceiverQueue, Place};
use super::promise::{BrokenPromise, Promise, Promises};
use super::spool::{Spool, SpoolLock, SpooledWebhook, TAKEN};
use super::{Delivery, Kind, Options, Parcel, javascript};
use crate::config::{SigningKey, WebhookConfig};
use crate::document::Document;
use crate::net::Outbound;
use crate::net::retry::RetryPolicy;
use crate::telemetry::metrics;
use crate::telemetry::trace::{self, Carried, Transfer};

/// How long spool files may take to be written once the grace period is over.
const LAST_WRITES: Duration = Duration::from_secs(5);
/// So many deliveries of a backlog are under way at a time, once its receiver has taken one.
const BURST: usize = 8;
/// Backlogs that a round works on at a time.
const BACKLOGS: usize = 256;

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
    backlogs: Backlogs,
    promises: Option<Promises>,
    deliveries: Deliveries,
    /// When each receiver with a backlog has taken a delivery last.
    taken: Mutex<HashMap<String, SystemTime>>,
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
    /// What was promised to its receiver.
    promise: Option<Arc<Promise>>,
    /// Keeps the span of its prompt open.
    trace: Carried,
    /// It came from an earlier round or process: one attempt, and a failure is no news.
    again: bool,
    /// Its place in the list.
    record: DeliveryRecord,
}

/// What comes of the wish that a delivery be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resent {
    /// An attempt is made.
    Begun,
    /// There is no such delivery.
    Unknown,
    /// Its body is gone.
    BodyGone,
}

/// What a receiver did with a delivery from its backlog.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reception {
    Took,
    Refused,
    /// It did not even answer.
    Silent,
    /// There was nothing to send, or we are ending.
    Nothing,
}

/// How a delivery ended, for now.
enum End {
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
    pub(super) fn new(config: &WebhookConfig, outbound: Outbound, options: Options) -> Self {
        let spool = config.spool_dir.clone().map(Spool::new);
        Self {
            keys: config.keys.clone(),
            retries: config.retries,
            patience: config.timeout,
            outbound,
            options,
            queues: PerReceiverQueue::new(),
            promises: spool.clone().map(Promises::new),
            spool,
            backlogs: Backlogs::default(),
            deliveries: Deliveries::default(),
            taken: Mutex::default(),
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
            promise,
            trace: carried,
        } = delivery;
        let place = self.queues.place(&url, body.text_len());
        let crowded = self.is_crowded(&place);
        let context = carried.context.clone();
        let parcel = Parcel {
            kind,
            url,
            id,
            context: context.clone(),
        };
        let record = self.deliveries.begin(&About {
            size: body.len(),
            ..about(&parcel)
        });
        if self.spool.is_none() && (crowded || place.waiting().text > self.options.waiting_text) {
            let reason = "too many deliveries wait already, and WEBHOOK_SPOOL_DIR is not set";
            trace::with(context, || lost(&parcel, reason));
            record.lost(Some(reason));
            return;
        }
        let tasks = self.tasks.clone();
        let delivering = async move {
            let load = Load {
                body: Body::Document(signable(kind, body).await),
                parcel,
                claim: None,
                place,
                promise,
                trace: carried,
                again: false,
                record,
            };
            let mut load = self.spool_early(load).await;
            if let Some(claim) = load.claim.take_if(|_| crowded) {
                metrics::webhook_outcome(load.parcel.kind.as_str(), "spooled");
                let receiver = receiver(&load.parcel.url);
                load.record.stays_in_spool(claim.name(), &receiver);
                self.backlogs.add(&receiver, claim.name().clone());
                return;
            }
            self.carry(load).await;
        };
        tasks.spawn(trace::scope(context, delivering));
    }

    pub(super) fn keeps_promises(&self) -> bool {
        self.promises.is_some()
    }

    pub(super) fn release(&self, promise: Arc<Promise>) {
        self.tasks.spawn(promise.release());
    }

    /// Notes what is sent to a receiver should this process be killed before the end; nothing without a spool.
    pub(super) async fn promise(&self, parcel: &Parcel, body: &[u8]) -> Option<Arc<Promise>> {
        match self.promises.as_ref()?.note(parcel, body).await {
            Ok(promise) => Some(promise),
            Err(error) => {
                tracing::error!(id = parcel.id, %error, "the spool (WEBHOOK_SPOOL_DIR) cannot be written: if this server is killed, nobody tells the webhook of this prompt");
                None
            }
        }
    }

    fn is_crowded(&self, place: &Place) -> bool {
        let waiting = place.waiting();
        waiting.here > self.options.waiting_per_endpoint
            || waiting.everywhere > self.options.waiting
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
                if let Some(promise) = load.promise.take() {
                    promise.release().await;
                }
            }
            Err(error) => {
                let dir = spool.dir().display();
                tracing::error!(id = load.parcel.id, %error, "webhook cannot be written to the spool {dir}; it is delivered from memory");
            }
        }
        load
    }

    async fn carry(self: &Arc<Self>, mut load: Load) -> Reception {
        // Boxed: thousands of these wait, and only a few are inside an attempt.
        let end = Box::pin(self.attempts(&load)).await;
        if load.claim.is_none() && matches!(end, End::UsedUp { .. } | End::Interrupted) {
            load = self.spool_early(load).await;
        }
        let reception = match &end {
            End::Delivered | End::Gone => Reception::Took,
            End::UsedUp { silent: true, .. } => Reception::Silent,
            End::UsedUp { .. } => Reception::Refused,
            End::Hopeless(_) | End::Interrupted => Reception::Nothing,
        };
        let (again, receiver) = (load.again, receiver(&load.parcel.url));
        self.conclude(load, end).await;
        if reception == Reception::Took && !again {
            self.wake(receiver);
        }
        reception
    }

    /// A receiver takes deliveries: its backlog follows.
    fn wake(self: &Arc<Self>, receiver: String) {
        if !self.draining.is_cancelled() && self.backlogs.begin(&receiver) {
            let dispatcher = Arc::clone(self);
            self.tasks.spawn(async move {
                // It has just taken one: there is nothing to try out.
                dispatcher.work_off(&receiver, BURST).await;
            });
        }
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

    /// Waits, unless somebody wants it sent now; `false` when the process is ending and the rest is not for this delivery.
    async fn pause(&self, delay: Duration, load: &Load) -> bool {
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

    async fn conclude(&self, load: Load, end: End) {
        let Load {
            parcel,
            claim,
            again,
            place,
            promise,
            record,
            trace: carried,
            ..
        } = load;
        let (kind, id, url) = (parcel.kind.as_str(), parcel.id.as_str(), parcel.receiver());
        let spooled = claim.is_some();
        match end {
            End::Delivered => {
                tracing::debug!(id, url, kind, "webhook delivered");
                metrics::webhook_outcome(kind, "delivered");
                record.delivered();
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
                record.lost(None);
                finish(claim).await;
            }
            End::Hopeless(reason) => {
                tracing::error!(id, url, kind, "webhook dropped: {reason}");
                metrics::webhook_outcome(kind, "failed");
                record.lost(Some(&reason));
                finish(claim).await;
            }
            End::UsedUp { reason, asked, .. } if spooled => {
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
                if let Some(claim) = claim {
                    let receiver = receiver(&parcel.url);
                    record.stays_in_spool(claim.name(), &receiver);
                    self.backlogs.add(&receiver, claim.name().clone());
                    if let Some(asked) = asked {
                        let pause = asked.min(self.options.schedule.longest_asked);
                        self.backlogs.pause(&receiver, pause);
                    }
                }
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
            End::UsedUp { reason, .. } => {
                lost(&parcel, &reason);
                record.lost(Some(&reason));
            }
            End::Interrupted => {
                let reason =
                    "the process is ending, and WEBHOOK_SPOOL_DIR is not set or cannot be written";
                lost(&parcel, reason);
                record.lost(Some(reason));
            }
        }
        drop(carried);
        if let Some(promise) = promise {
            promise.release().await;
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
                self.deliveries.next_round_in(self.options.sweep_every);
                tokio::select! {
                    biased;
                    () = self.draining.cancelled() => return,
                    () = tokio::time::sleep(self.options.sweep_every) => {}
                }
            }
        });
    }

    /// One round: every receiver with something in the spool is tried with the oldest; whoever takes that gets the rest.
    async fn sweep(self: &Arc<Self>, spool: &Spool) {
        let (dispatcher, listing) = (Arc::clone(self), spool.clone());
        let looked = tokio::task::spawn_blocking(move || dispatcher.look(&listing)).await;
        match looked {
            Ok(Ok(broken)) => self.keep_promises(broken),
            Ok(Err(error)) => {
                tracing::error!(%error, "the spool {} cannot be read", spool.dir().display());
                return;
            }
            Err(_) => return,
        }
        // One that does not answer under one address is not asked under each of a thousand others.
        let silent: Mutex<HashSet<String>> = Mutex::default();
        futures_util::stream::iter(self.backlogs.due())
            .for_each_concurrent(BACKLOGS, |receiver| {
                let silent = &silent;
                async move {
                    let origin = origin(&receiver).to_owned();
                    if self.draining.is_cancelled()
                        || lock(silent).contains(&origin)
                        || !self.backlogs.begin(&receiver)
                    {
                        return;
                    }
                    if self.work_off(&receiver, 1).await == Reception::Silent {
                        lock(silent).insert(origin);
                    }
                }
            })
            .await;
    }

    /// Finds what waits in the spool and is not known yet, and what was promised by processes that were killed. Blocks.
    fn look(&self, spool: &Spool) -> std::io::Result<Vec<BrokenPromise>> {
        for name in spool.names()? {
            if self.backlogs.knows(&name) {
                continue;
            }
            let Some(claim) = spool.claim(name.clone()) else {
                continue;
            };
            match claim.open() {
                Ok(kept) => {
                    let receiver = receiver(&kept.parcel.url);
                    self.list_found(&kept, &name, &receiver);
                    self.backlogs.add(&receiver, name);
                }
                Err(Some(reason)) => set_aside(&claim, &reason),
                Err(None) => {}
            }
        }
        let mut broken = self
            .promises
            .as_ref()
            .map(Promises::broken)
            .unwrap_or_default();
        if !broken.is_empty() {
            // One whose end is in the spool was kept: only the note was left.
            let told: HashSet<(String, Url)> = spool
                .names()?
                .into_iter()
                .filter_map(|name| spool.claim(name)?.open().ok())
                .map(|kept| (kept.parcel.id, kept.parcel.url))
                .collect();
            broken.retain(|broken| {
                let kept = told.contains(&(broken.parcel.id.clone(), broken.parcel.url.clone()));
                if kept {
                    broken.promise.forget();
                }
                !kept
            });
        }
        Ok(broken)
    }

    /// Lists what an earlier process has left in the spool, if it is not listed already.
    fn list_found(&self, kept: &SpooledWebhook, name: &OsString, receiver: &str) {
        if self.deliveries.spooled(name).is_some() {
            return;
        }
        let since = kept.created.duration_since(SystemTime::UNIX_EPOCH);
        let created_at = since.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
        let body = BodyAt::Spool {
            name: name.clone(),
            receiver: receiver.to_owned(),
        };
        let about = About {
            size: kept.body.len(),
            ..about(&kept.parcel)
        };
        self.deliveries.found(&about, created_at, body);
    }

    pub(super) fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// Makes an attempt at a delivery now.
    pub(super) fn resend(self: Arc<Self>, id: &str) -> Resent {
        let Some(entry) = self.deliveries.get(id) else {
            return Resent::Unknown;
        };
        match entry.body {
            BodyAt::Gone => Resent::BodyGone,
            BodyAt::Task => {
                entry.nudge.notify_one();
                Resent::Begun
            }
            BodyAt::Spool { name, receiver } => {
                // Otherwise somebody has just taken it, and sends it.
                if self.backlogs.take(&receiver, &name) {
                    let tasks = self.tasks.clone();
                    tasks.spawn(async move {
                        let taken = self.resume(&receiver, name).await == Reception::Took;
                        if taken {
                            self.wake(receiver);
                        }
                    });
                }
                Resent::Begun
            }
        }
    }

    /// Tells those who were promised an end that there will be none.
    fn keep_promises(self: &Arc<Self>, broken: Vec<BrokenPromise>) {
        for broken in broken {
            let BrokenPromise {
                parcel,
                body,
                promise,
            } = broken;
            tracing::warn!(
                id = parcel.id,
                url = parcel.receiver(),
                "the server was killed before this prompt had ended; its webhook is told"
            );
            let Parcel {
                kind,
                url,
                id,
                context,
            } = parcel;
            Arc::clone(self).accept(Delivery {
                kind,
                url,
                id,
                body: Document::from_text(dated(body)),
                promise: Some(Arc::new(promise)),
                trace: context.into(),
            });
        }
    }

    /// Sends the backlog of a receiver, oldest first, until one is refused: at first `width` at a time, and [`BURST`] when one
    /// has been taken. The caller has begun it.
    async fn work_off(self: &Arc<Self>, receiver: &str, mut width: usize) -> Reception {
        let mut under_way = FuturesUnordered::new();
        let mut last = Reception::Nothing;
        let mut over = false;
        loop {
            while !over && !self.draining.is_cancelled() && under_way.len() < width {
                let Some(name) = self.backlogs.next(receiver) else {
                    break;
                };
                under_way.push(self.resume(receiver, name));
            }
            let Some(reception) = under_way.next().await else {
                break;
            };
            match reception {
                Reception::Took => {
                    if last != Reception::Took {
                        self.note_taken(receiver).await;
                    }
                    width = BURST;
                }
                Reception::Refused | Reception::Silent => over = true,
                Reception::Nothing => {}
            }
            if reception != Reception::Nothing && (last == Reception::Nothing || over) {
                last = reception;
            }
        }
        if self.backlogs.end(receiver) {
            self.forget_taken(receiver).await;
        }
        last
    }

    /// One attempt at a file of a backlog.
    async fn resume(self: &Arc<Self>, receiver: &str, name: OsString) -> Reception {
        let record = self.deliveries.spooled(&name);
        let Some(claim) = self.spool.as_ref().and_then(|spool| spool.claim(name)) else {
            return Reception::Nothing;
        };
        let opened = tokio::task::spawn_blocking(move || {
            let kept = claim.open();
            if let Err(Some(reason)) = &kept {
                set_aside(&claim, reason);
            }
            kept.ok().map(|kept| (claim, kept))
        });
        let Ok(Some((claim, kept))) = opened.await else {
            if let Some(record) = record {
                record.lost(Some("its file in the spool is gone or damaged"));
            }
            return Reception::Nothing;
        };
        let SpooledWebhook {
            parcel,
            created,
            body,
        } = kept;
        // One that is not listed any more is listed again: something happens to it.
        let record = record.unwrap_or_else(|| {
            self.deliveries.begin(&About {
                size: body.len(),
                ..about(&parcel)
            })
        });
        record.sends();
        let too_old = is_older(created, self.options.keep_for);
        let (path, dropped, given_up) = (claim.path().to_owned(), parcel.clone(), record.clone());
        let load = Load {
            place: self.queues.place(&parcel.url, 0),
            parcel,
            body,
            claim: Some(claim),
            promise: None,
            trace: Carried::default(),
            again: true,
            record,
        };
        let reception = trace::scope(dropped.context.clone(), self.carry(load)).await;
        let refused = matches!(reception, Reception::Refused | Reception::Silent);
        // Old is what a receiver has not wanted for so long, not what waited behind others.
        if refused && too_old && !self.has_taken_lately(receiver).await {
            let hours = self.options.keep_for.as_secs() / 3600;
            let reason = format!("it could not be delivered for {hours} hours");
            lost(&dropped, &reason);
            given_up.lost(Some(&reason));
            let _ = tokio::fs::remove_file(path).await;
        }
        reception
    }

    /// Remembers beyond this process that a receiver takes deliveries.
    async fn note_taken(&self, receiver: &str) {
        lock(&self.taken).insert(receiver.to_owned(), SystemTime::now());
        if let Some(spool) = &self.spool {
            let _ = tokio::fs::write(spool.dir().join(taken_name(receiver)), b"").await;
        }
    }

    async fn forget_taken(&self, receiver: &str) {
        if lock(&self.taken).remove(receiver).is_some()
            && let Some(spool) = &self.spool
        {
            let _ = tokio::fs::remove_file(spool.dir().join(taken_name(receiver))).await;
        }
    }

    async fn has_taken_lately(&self, receiver: &str) -> bool {
        let known = lock(&self.taken).get(receiver).copied();
        let at = match (known, &self.spool) {
            (Some(at), _) => Some(at),
            (None, Some(spool)) => {
                let path = spool.dir().join(taken_name(receiver));
                let metadata = tokio::fs::metadata(path).await;
                metadata.and_then(|metadata| metadata.modified()).ok()
            }
            (None, None) => None,
        };
        at.is_some_and(|at| !is_older(at, self.options.keep_for))
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

/// What the list shows of a delivery, but for the size.
fn about(parcel: &Parcel) -> About<'_> {
    About {
        kind: parcel.kind.as_str(),
        url: &parcel.url,
        prompt_id: Some(&parcel.id),
        size: 0,
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_older(at: SystemTime, age: Duration) -> bool {
    SystemTime::now()
        .duration_since(at)
        .is_ok_and(|since| since > age)
}

/// The body as of now.
fn dated(body: Vec<u8>) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(&body) else {
        return body;
    };
    match value.get_mut("timestamp") {
        Some(timestamp) => *timestamp = crate::timestamp::now().into(),
        None => return body,
    }
    value.to_string().into_bytes()
}

/// The file whose time says when a receiver has taken a delivery of its backlog last.
fn taken_name(receiver: &str) -> String {
    let hash = Sha256::digest(receiver.as_bytes());
    let hex: String = hash
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{hex}.{TAKEN}")
}

/// The body as receivers verify it (drop-in.md, D06). A long one is written beside the threads that serve others.
async fn signable(kind: Kind, body: Document) -> Document {
    const LONG: u64 = 64 * 1024;
    if kind != Kind::V2 {
        return body;
    }
    if body.text_len() < LONG {
        return body.rewritten(javascript::rewritten);
    }
    let spare = body.clone();
    let writing = tokio::task::spawn_blocking(move || body.rewritten(javascript::rewritten));
    writing.await.unwrap_or(spare)
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
