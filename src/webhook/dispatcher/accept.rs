//! A delivery is accepted: into the spool, and on its way.

use std::sync::Arc;

use super::attempts::End;
use super::conclude::lost;
use super::resume::Reception;
use super::{Dispatcher, Load, about};
use crate::document::Document;
use crate::telemetry::{metrics, trace};
use crate::webhook::backlog::receiver;
use crate::webhook::body::Body;
use crate::webhook::deliveries::About;
use crate::webhook::per_receiver_queue::Place;
use crate::webhook::{Delivery, Kind, Parcel, javascript};

impl Dispatcher {
    pub(in crate::webhook) fn accept(self: Arc<Self>, delivery: Delivery) {
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
                tracing::error!(
                    id = load.parcel.id,
                    %error,
                    "webhook cannot be written to the spool {dir}; it is delivered from memory"
                );
            }
        }
        load
    }

    pub(super) async fn carry(self: &Arc<Self>, mut load: Load) -> Reception {
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
}

/// The body as receivers verify it (drop-in.md, D06). A long one is written beside the threads that
/// serve others.
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
