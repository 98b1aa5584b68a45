//! Webhooks, system events and their metadata.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use url::Url;

use crate::config::Reader;
use crate::config::variables::EVENT_NAMES;

/// Webhooks for prompts.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// The decoded keys of `WEBHOOK_SECRET`, which may hold several separated by spaces; empty means unsigned.
    pub keys: Vec<SigningKey>,
    /// `PROMPT_WEBHOOK_RETRIES` after the first attempt.
    pub retries: u32,
    /// `WEBHOOK_TIMEOUT_S` of one attempt.
    pub timeout: Duration,
    /// `WEBHOOK_SPOOL_DIR`.
    pub spool_dir: Option<PathBuf>,
}

/// A key for HMAC-SHA256.
#[derive(Clone)]
pub struct SigningKey(pub Vec<u8>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl WebhookConfig {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let mut keys = Vec::new();
        if let Some(secrets) = r.secret("WEBHOOK_SECRET") {
            for (index, secret) in secrets.expose().split_whitespace().enumerate() {
                match decode_key(secret) {
                    Some(key) => keys.push(SigningKey(key)),
                    None => r.problem(format!("WEBHOOK_SECRET: secret {} is not base64 (with or without the prefix whsec_)", index + 1)),
                }
            }
        }
        Self {
            keys,
            // The Node server takes a negative number for none (drop-in.md, D21).
            retries: u32::try_from(
                r.number("PROMPT_WEBHOOK_RETRIES", 3, i64::MIN, 1000, "retries")
                    .max(0),
            )
            .unwrap_or(0),
            timeout: r.seconds("WEBHOOK_TIMEOUT_S", 30.0, 0.01),
            spool_dir: r.path("WEBHOOK_SPOOL_DIR"),
        }
    }
}

/// Decodes a Standard Webhooks secret leniently: optional prefix, either alphabet, padding or not.
fn decode_key(secret: &str) -> Option<Vec<u8>> {
    let text: String = secret
        .strip_prefix("whsec_")
        .unwrap_or(secret)
        .chars()
        .map(|c| {
            if c == '-' {
                '+'
            } else if c == '_' {
                '/'
            } else {
                c
            }
        })
        .collect();
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let key = GeneralPurpose::new(&alphabet::STANDARD, lenient)
        .decode(text)
        .ok()?;
    (!key.is_empty()).then_some(key)
}

/// System events and their metadata.
#[derive(Debug, Clone, Default)]
pub struct EventsConfig {
    /// `SYSTEM_WEBHOOK_URL`.
    pub url: Option<Url>,
    /// The names of `SYSTEM_WEBHOOK_EVENTS`, `all` spelled out.
    pub names: Vec<&'static str>,
    /// `SYSTEM_META_*` and SaladCloud's variables, as they appear in `metadata`.
    pub metadata: BTreeMap<String, String>,
    /// Whether any of SaladCloud's variables is set.
    pub on_salad_cloud: bool,
}

impl EventsConfig {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let mut names = Vec::new();
        for name in r.list("SYSTEM_WEBHOOK_EVENTS") {
            if name == "all" {
                names = EVENT_NAMES.to_vec();
                break;
            }
            match EVENT_NAMES.iter().find(|known| **known == name) {
                Some(known) if !names.contains(known) => names.push(*known),
                Some(_) => {}
                None => r.problem(format!(
                    "SYSTEM_WEBHOOK_EVENTS: \"{name}\" is not known: use all, or some of {}",
                    EVENT_NAMES.join(", ")
                )),
            }
        }
        let mut metadata = BTreeMap::new();
        for (name, value) in r.all() {
            if let Some(key) = name.strip_prefix("SYSTEM_META_")
                && !key.is_empty()
            {
                metadata.insert(key.to_owned(), value);
            }
        }
        let mut on_salad_cloud = false;
        for name in SALAD_VARIABLES {
            if let Some(value) = r.text(name) {
                on_salad_cloud = true;
                metadata.insert(name.to_ascii_lowercase(), value);
            }
        }
        Self {
            url: r.url("SYSTEM_WEBHOOK_URL", &["http", "https"]),
            names,
            metadata,
            on_salad_cloud,
        }
    }
}

/// The variables that SaladCloud sets in every container (events.md).
pub(super) const SALAD_VARIABLES: &[&str] = &[
    "SALAD_ORGANIZATION_NAME",
    "SALAD_ORGANIZATION_ID",
    "SALAD_PROJECT_NAME",
    "SALAD_PROJECT_ID",
    "SALAD_CONTAINER_GROUP_NAME",
    "SALAD_CONTAINER_GROUP_ID",
    "SALAD_INSTANCE_ID",
    "SALAD_MACHINE_ID",
];
