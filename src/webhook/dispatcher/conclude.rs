//! What follows the end of a delivery: log line, metric, list, spool file.

use std::time::Duration;

use super::attempts::End;
use super::{Dispatcher, Load};
use crate::telemetry::metrics;
use crate::webhook::Parcel;
use crate::webhook::backlog::receiver;
use crate::webhook::deliveries::DeliveryRecord;
use crate::webhook::spool::SpoolLock;

const GONE: &str = "the receiver answered 410 Gone";

impl Dispatcher {
    pub(super) async fn conclude(&self, load: Load, end: End) {
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
                tracing::warn!(id, url, kind, "webhook dropped: {GONE}");
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
                    not_delivered_yet(&parcel, &reason);
                }
                drop(place);
                if let Some(claim) = claim {
                    self.stays_in_spool(&parcel, &claim, &record, asked);
                }
            }
            End::Interrupted if spooled => {
                waits_for_the_next_start(&parcel, again);
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

    fn stays_in_spool(
        &self,
        parcel: &Parcel,
        claim: &SpoolLock,
        record: &DeliveryRecord,
        asked: Option<Duration>,
    ) {
        let receiver = receiver(&parcel.url);
        record.stays_in_spool(claim.name(), &receiver);
        self.backlogs.add(&receiver, claim.name().clone());
        if let Some(asked) = asked {
            let pause = asked.min(self.options.schedule.longest_asked);
            self.backlogs.pause(&receiver, pause);
        }
    }
}

fn waits_for_the_next_start(parcel: &Parcel, again: bool) {
    let kind = parcel.kind.as_str();
    tracing::info!(
        id = parcel.id.as_str(),
        url = parcel.receiver(),
        kind,
        "webhook stays in the spool for the next start"
    );
    if !again {
        metrics::webhook_outcome(kind, "spooled");
    }
}

fn not_delivered_yet(parcel: &Parcel, reason: &str) {
    let kind = parcel.kind.as_str();
    tracing::warn!(
        id = parcel.id.as_str(),
        url = parcel.receiver(),
        kind,
        "webhook not delivered yet, it stays in the spool: {reason}"
    );
    metrics::webhook_outcome(kind, "spooled");
}

pub(super) fn lost(parcel: &Parcel, reason: &str) {
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
        tracing::error!(
            %error,
            "the spool file {} cannot be deleted: its webhook will be sent again",
            path.display()
        );
    }
}
