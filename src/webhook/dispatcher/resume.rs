//! The backlog of a receiver, worked off from the spool.

use std::ffi::OsString;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::conclude::lost;
use super::sweep::set_aside;
use super::taken::is_older;
use super::{Dispatcher, Load, about};
use crate::telemetry::trace;
use crate::telemetry::trace::Carried;
use crate::webhook::deliveries::{About, BodyAt};
use crate::webhook::spool::SpooledWebhook;

/// So many deliveries of a backlog are under way at a time, once its receiver has taken one.
const BURST: usize = 8;

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
pub(super) enum Reception {
    Took,
    Refused,
    /// It did not even answer.
    Silent,
    /// There was nothing to send, or we are ending.
    Nothing,
}

impl Dispatcher {
    /// A receiver takes deliveries: its backlog follows.
    pub(super) fn wake(self: &Arc<Self>, receiver: String) {
        if !self.draining.is_cancelled() && self.backlogs.begin(&receiver) {
            let dispatcher = Arc::clone(self);
            self.tasks.spawn(async move {
                // It has just taken one: there is nothing to try out.
                dispatcher.work_off(&receiver, BURST).await;
            });
        }
    }

    /// Makes an attempt at a delivery now.
    pub(in crate::webhook) fn resend(self: Arc<Self>, id: &str) -> Resent {
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

    /// Sends the backlog of a receiver, oldest first, until one is refused: at first `width` at a
    /// time, and [`BURST`] when one has been taken. The caller has begun it.
    pub(super) async fn work_off(self: &Arc<Self>, receiver: &str, mut width: usize) -> Reception {
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
}
