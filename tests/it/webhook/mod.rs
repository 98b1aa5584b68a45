//! webhook: signatures by public verifiers, retries, dead receivers, the spool across kill -9,
//! system events.

mod delivery;
mod events;
mod load;
mod logs;
mod salad;
mod signing;
mod spool;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use comfyui_api::config::Config;
use comfyui_api::document::Document;
use comfyui_api::net::retry::RetryPolicy;
use comfyui_api::net::{self, Outbound};
use comfyui_api::webhook::{Delivery, Kind, Options, Webhooks};
use url::Url;

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A configuration with these variables, receivers on this machine allowed.
fn config(variables: &[(&str, &str)]) -> Config {
    let mut env: BTreeMap<String, String> =
        BTreeMap::from([("ALLOW_PRIVATE_NETWORKS".to_owned(), "true".to_owned())]);
    env.extend(
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    Config::from_env(&env).unwrap()
}

fn outbound(config: &Config) -> Outbound {
    net::install_crypto();
    Outbound::new(&config.storage).unwrap()
}

fn quick() -> RetryPolicy {
    RetryPolicy {
        attempts: u32::MAX,
        first: Duration::from_millis(40),
        longest: Duration::from_millis(400),
        longest_asked: Duration::from_secs(5),
    }
}

fn webhooks(variables: &[(&str, &str)]) -> Webhooks {
    webhooks_with(
        variables,
        Options {
            schedule: quick(),
            sweep_every: Duration::from_millis(100),
            ..Options::default()
        },
    )
}

fn webhooks_with(variables: &[(&str, &str)], options: Options) -> Webhooks {
    let config = config(variables);
    Webhooks::with_options(&config.webhook, outbound(&config), options)
}

fn delivery(url: Url, id: &str) -> Delivery {
    Delivery {
        kind: Kind::V2,
        url,
        id: id.to_owned(),
        body: Document::from_text(body(id)),
        promise: None,
        trace: Default::default(),
    }
}

fn body(id: &str) -> String {
    format!("{{\"type\":\"prompt.complete\",\"id\":\"{id}\",\"text\":\"Zoë \u{1F600} \\n\"}}")
}

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).map(|entries| {
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    });
    let mut names: Vec<String> = entries.unwrap_or_default();
    names.sort();
    names
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..600 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what} did not come true within 15 seconds");
}
