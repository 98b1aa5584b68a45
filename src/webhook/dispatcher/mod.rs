//! The way of one delivery from its acceptance to its end, and the round through the spool.

mod accept;
mod attempts;
mod conclude;
mod resume;
mod sweep;
mod taken;

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backlog::Backlogs;
use super::body::Body;
use super::deliveries::{About, Deliveries, DeliveryRecord};
use super::per_receiver_queue::{PerReceiverQueue, Place};
use super::promise::{Promise, Promises};
use super::spool::{Spool, SpoolLock};
use super::{Options, Parcel};
use crate::config::{SigningKey, WebhookConfig};
use crate::net::Outbound;
use crate::telemetry::trace::Carried;

pub use resume::Resent;

/// How long spool files may take to be written once the grace period is over.
const LAST_WRITES: Duration = Duration::from_secs(5);

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

    pub(super) fn keeps_promises(&self) -> bool {
        self.promises.is_some()
    }

    pub(super) fn release(&self, promise: Arc<Promise>) {
        self.tasks.spawn(promise.release());
    }

    /// Notes what is sent to a receiver should this process be killed before the end; nothing
    /// without a spool.
    pub(super) async fn promise(&self, parcel: &Parcel, body: &[u8]) -> Option<Arc<Promise>> {
        match self.promises.as_ref()?.note(parcel, body).await {
            Ok(promise) => Some(promise),
            Err(error) => {
                tracing::error!(
                    id = parcel.id,
                    %error,
                    "the spool (WEBHOOK_SPOOL_DIR) cannot be written: if this server is killed, \
                     nobody tells the webhook of this prompt"
                );
                None
            }
        }
    }

    pub(super) fn deliveries(&self) -> &Deliveries {
        &self.deliveries
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
