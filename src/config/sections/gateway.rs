//! The gateway in front of a fleet (fleet.md, part 2).

use std::net::IpAddr;

use crate::config::Reader;
use crate::config::variables::amqp::{GATEWAY_ID, GATEWAY_QUEUES, GATEWAY_URL};

/// How instances reach the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayAddress {
    /// As configured, without a slash at its end.
    Url(String),
    /// At our side of the broker's connection, or at `HOST` where that is one address.
    Found {
        /// `HOST`.
        host: Option<IpAddr>,
    },
    /// Not at all: files travel in messages.
    Nowhere,
}

/// `GATEWAY_*`.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// `GATEWAY_QUEUES`; at least one.
    pub queues: Vec<String>,
    /// `GATEWAY_URL`.
    pub url: GatewayAddress,
    /// `GATEWAY_ID`.
    pub id: Option<String>,
}

/// The longest name of a queue: AMQP has 255 bytes, and `.stream` comes behind.
const LONGEST: usize = 240;

impl GatewayConfig {
    /// `input_queue` is what `INSTANCE_*` say.
    pub(in crate::config) fn read(r: &mut Reader, host: &str, input_queue: &str) -> Self {
        let mut queues = Vec::new();
        for queue in r.list(&GATEWAY_QUEUES) {
            if queue.len() > LONGEST {
                r.problem(format!(
                    "GATEWAY_QUEUES: \"{queue}\" is longer than {LONGEST} bytes"
                ));
            }
            if !queues.contains(&queue) {
                queues.push(queue);
            }
        }
        if queues.is_empty() {
            queues.push(input_queue.to_owned());
        }
        let id = r.text(&GATEWAY_ID);
        if let Some(id) = &id
            && (id.len() > 200 || id.chars().any(|c| c.is_control() || c.is_whitespace()))
        {
            r.problem("GATEWAY_ID must be 1 to 200 characters without blanks");
        }
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let found = GatewayAddress::Found {
            host: address.filter(|address| !address.is_unspecified()),
        };
        let url = match r.text(&GATEWAY_URL).as_deref() {
            None => found,
            Some("none") => GatewayAddress::Nowhere,
            Some(_) => match r.url(&GATEWAY_URL) {
                Some(url) if url.query().is_some() || url.fragment().is_some() => {
                    r.problem("GATEWAY_URL must have neither a query nor a fragment");
                    found
                }
                Some(url) => GatewayAddress::Url(url.as_str().trim_end_matches('/').to_owned()),
                None => found,
            },
        };
        Self { queues, url, id }
    }
}
