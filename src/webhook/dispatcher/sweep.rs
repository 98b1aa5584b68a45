//! The round through the spool: what waits there, and what was promised by processes that were
//! killed.

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::StreamExt;
use parking_lot::Mutex;
use url::Url;

use super::resume::Reception;
use super::{Dispatcher, about};
use crate::document::Document;
use crate::webhook::backlog::{origin, receiver};
use crate::webhook::deliveries::{About, BodyAt};
use crate::webhook::promise::{BrokenPromise, Promises};
use crate::webhook::spool::{Spool, SpoolLock, SpooledWebhook};
use crate::webhook::{Delivery, Parcel};

/// Backlogs that a round works on at a time.
const BACKLOGS: usize = 256;

impl Dispatcher {
    pub(in crate::webhook) fn start_sweeping(self: Arc<Self>) {
        let Some(spool) = self.spool.clone() else {
            return;
        };
        tokio::spawn(async move {
            if let Err(error) = spool.prepare().await {
                tracing::error!(
                    %error,
                    "the spool {} (WEBHOOK_SPOOL_DIR) cannot be created: webhooks do not survive \
                     this process",
                    spool.dir().display()
                );
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

    /// One round: every receiver with something in the spool is tried with the oldest; whoever
    /// takes that gets the rest.
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
                        || silent.lock().contains(&origin)
                        || !self.backlogs.begin(&receiver)
                    {
                        return;
                    }
                    if self.work_off(&receiver, 1).await == Reception::Silent {
                        silent.lock().insert(origin);
                    }
                }
            })
            .await;
    }

    /// Finds what waits in the spool and is not known yet, and what was promised by processes that
    /// were killed. Blocks.
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

pub(super) fn set_aside(claim: &SpoolLock, reason: &str) {
    match claim.set_aside() {
        Ok(path) => tracing::error!(
            "the spool file {} is damaged ({reason}): kept, but not delivered",
            path.display()
        ),
        Err(error) => {
            tracing::error!(
                %error,
                "the spool file {} is damaged ({reason})",
                claim.path().display()
            )
        }
    }
}
