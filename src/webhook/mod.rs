//! Webhooks: signing, attempts, spool; system events. Knows nothing of prompts: it is given
//! documents to deliver.
//!
//! A delivery is a task of its own that waits for its turn ([`per_receiver_queue`]), makes attempts
//! ([`attempt`]) as the shared [`RetryPolicy`] spaces them, and ends delivered, given up, or in the
//! [`spool`]. With a spool a delivery is written there *before* its first attempt and deleted after
//! its last, so that not even kill -9 loses it, and what waits in memory is a URL, not a body.
//! Delivery is at least once: a receiver may see a `webhook-id` twice when its answer, or the
//! process after it, was lost.

mod attempt;
mod backlog;
mod body;
pub mod deliveries;
mod dispatcher;
pub mod javascript;
mod per_receiver_queue;
mod promise;
pub mod salad;
mod signature;
mod spool;
pub mod system;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::{WebhookConfig, public};
use crate::document::Document;
use crate::net::Outbound;
use crate::net::retry::RetryPolicy;
use crate::telemetry::trace::{Carried, Context};
use deliveries::Deliveries;
use dispatcher::Dispatcher;
pub use dispatcher::Resent;
pub use promise::Promise;

/// Which dialect a delivery speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Standard Webhooks: signed, retried.
    V2,
    /// Unsigned.
    Legacy,
}

impl Kind {
    /// As metrics and logs name it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::Legacy => "legacy",
        }
    }
}

/// One document for one receiver.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The dialect.
    pub kind: Kind,
    /// The receiver.
    pub url: Url,
    /// `webhook-id`: the prompt's id, the same over retries.
    pub id: String,
    /// The body. It is kept (and with it its files) until it is delivered, given up or spooled.
    pub body: Document,
    /// The note that is done with when this is safe or delivered.
    pub promise: Option<Arc<Promise>>,
    /// The trace that it belongs to.
    pub trace: Carried,
}

/// A delivery without its body: all that stays in memory while it waits.
#[derive(Debug, Clone)]
struct Parcel {
    kind: Kind,
    url: Url,
    id: String,
    context: Option<Context>,
}

impl Parcel {
    /// The receiver as it may be logged.
    fn receiver(&self) -> String {
        public(&self.url)
    }
}

/// About 1, 2, 4 ... seconds. A receiver may ask for more, but must not park results for a year.
const SCHEDULE: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    first: Duration::from_secs(1),
    longest: Duration::from_secs(120),
    longest_asked: Duration::from_secs(15 * 60),
};

/// Delays and bounds that the specification leaves open.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Delays between the attempts of one delivery. How many there are comes from
    /// `PROMPT_WEBHOOK_RETRIES`.
    pub schedule: RetryPolicy,
    /// How often the spool is looked through.
    pub sweep_every: Duration,
    /// What has been in the spool for so long is dropped.
    pub keep_for: Duration,
    /// How many deliveries may wait in memory for one endpoint. With a spool the rest waits only
    /// there; without one the newest beyond this are given up, with a log line: a receiver that is
    /// dead for days must not take the memory.
    pub waiting_per_endpoint: usize,
    /// How many may wait for all together.
    pub waiting: usize,
    /// Without a spool: how much text of waiting documents may sit in memory, in bytes. (A prompt
    /// may carry its inputs.)
    pub waiting_text: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            schedule: SCHEDULE,
            sweep_every: Duration::from_secs(180),
            keep_for: Duration::from_secs(24 * 3600),
            waiting_per_endpoint: 2_000,
            waiting: 10_000,
            waiting_text: 256 << 20,
        }
    }
}

/// The deliverer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Webhooks {
    dispatcher: Arc<Dispatcher>,
}

impl Webhooks {
    /// Sets it up; starts nothing yet.
    pub fn new(config: &WebhookConfig, outbound: Outbound) -> Self {
        Self::with_options(config, outbound, Options::default())
    }

    /// The same with other delays and bounds.
    pub fn with_options(config: &WebhookConfig, outbound: Outbound, options: Options) -> Self {
        Self {
            dispatcher: Arc::new(Dispatcher::new(config, outbound, options)),
        }
    }

    /// The last deliveries, of jobs and of system events.
    pub fn deliveries(&self) -> &Deliveries {
        self.dispatcher.deliveries()
    }

    /// Makes another attempt at a delivery now, in the background. Must be called inside the
    /// runtime.
    pub fn resend(&self, id: &str) -> Resent {
        Arc::clone(&self.dispatcher).resend(id)
    }

    /// Begins to retry what the spool holds, if there is one. Must be called inside the runtime.
    pub fn start(&self) {
        Arc::clone(&self.dispatcher).start_sweeping();
    }

    /// Delivers in the background; returns at once. Must be called inside the runtime.
    pub fn deliver(&self, delivery: Delivery) {
        static WARNED: AtomicBool = AtomicBool::new(false);
        if delivery.kind == Kind::Legacy && !WARNED.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "`webhook` is deprecated: use `webhook_v2`, whose bodies are signed (this is said \
                 once)"
            );
        }
        Arc::clone(&self.dispatcher).accept(delivery);
    }

    /// Whether there is a place for promises.
    pub fn keeps_promises(&self) -> bool {
        self.dispatcher.keeps_promises()
    }

    /// There is nothing to tell, or it is told by others who share the note.
    pub fn release(&self, promise: Option<Arc<Promise>>) {
        if let Some(promise) = promise {
            self.dispatcher.release(promise);
        }
    }

    /// Notes that this receiver will be told, so that it is told of it when this process is killed:
    /// then `body` is sent, with the time of that. Nothing without a spool.
    pub async fn promise(
        &self,
        kind: Kind,
        url: &Url,
        id: &str,
        body: &serde_json::Value,
        context: Option<&Context>,
    ) -> Option<Arc<Promise>> {
        let parcel = Parcel {
            kind,
            url: url.clone(),
            id: id.to_owned(),
            context: context.cloned(),
        };
        let body = javascript::stringify(body);
        self.dispatcher.promise(&parcel, body.as_bytes()).await
    }

    /// At shutdown: waits for deliveries under way, at most so long, then spools what is left.
    ///
    /// With a spool, deliveries that have failed already are not waited for: they are safe. Without
    /// one, retries go on until the time is over; each delivery that is lost then is logged with
    /// its id. Returns a few seconds after `grace` at the latest. Deliveries accepted afterwards
    /// only go to the spool.
    pub async fn drain(&self, grace: Duration) {
        self.dispatcher.drain(grace).await;
    }
}
