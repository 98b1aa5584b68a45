//! Webhooks: signing, attempts, spool; system events. Knows nothing of prompts: it is given documents to deliver.

pub mod system;

use std::time::Duration;

use url::Url;

use crate::config::WebhookConfig;
use crate::document::Document;
use crate::net::Outbound;

/// Which dialect a delivery speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Standard Webhooks: signed, retried.
    V2,
    /// Unsigned.
    Legacy,
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
}

/// The deliverer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Webhooks {}

impl Webhooks {
    /// Sets it up; starts nothing yet.
    pub fn new(config: &WebhookConfig, outbound: Outbound) -> Self {
        let _ = (config, outbound);
        Self {}
    }

    /// Begins to retry what the spool holds, if there is one.
    pub fn start(&self) {}

    /// Delivers in the background; returns at once.
    pub fn deliver(&self, delivery: Delivery) {
        let _ = delivery;
    }

    /// At shutdown: waits for deliveries under way, at most so long, then spools what is left.
    pub async fn drain(&self, grace: Duration) {
        let _ = grace;
    }
}
