//! Webhooks, system events and their metadata.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::config::Reader;
use crate::config::variables::EVENT_NAMES;
use crate::config::variables::webhooks::{
    PROMPT_WEBHOOK_RETRIES, SYSTEM_WEBHOOK_EVENTS, SYSTEM_WEBHOOK_URL, WEBHOOK_SECRET,
    WEBHOOK_SPOOL_DIR, WEBHOOK_TIMEOUT_S,
};

/// Webhooks for prompts.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// The keys of `WEBHOOK_SECRET`, which may hold several; empty means unsigned.
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
        let keys = match r.secret(&WEBHOOK_SECRET) {
            Some(secret) => read_keys(r, secret.expose()),
            None => Vec::new(),
        };
        Self {
            keys,
            retries: r.number(&PROMPT_WEBHOOK_RETRIES),
            timeout: r.seconds(&WEBHOOK_TIMEOUT_S),
            spool_dir: r.path(&WEBHOOK_SPOOL_DIR),
        }
    }
}

/// A key for each word, its prefix dropped, and one for the whole text as the Node server reads it,
/// where that is another one. A receiver accepts whichever signature it knows.
fn read_keys(r: &mut Reader, text: &str) -> Vec<SigningKey> {
    let words = || {
        text.split_whitespace()
            .map(|word| word.strip_prefix("whsec_").unwrap_or(word))
    };
    if !words().all(is_clean_base64) {
        r.warning(
            "WEBHOOK_SECRET is not base64: it is decoded as the Node server does it, other \
             characters skipped; make one with `openssl rand -base64 32`",
        );
    }
    let mut keys: Vec<SigningKey> = Vec::new();
    for key in words().chain([text]).map(decode_leniently) {
        if keys.iter().all(|known| known.0 != key) {
            keys.push(SigningKey(key));
        }
    }
    keys
}

/// `Buffer.from(text, "base64")`: both alphabets, other characters skipped, the end at `=`, an odd
/// rest dropped.
fn decode_leniently(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for character in text.bytes().take_while(|byte| *byte != b'=') {
        let six = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => continue,
        };
        bits = (bits << 6) | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

fn is_clean_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    !digits.is_empty()
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte))
        && digits.len() % 4 != 1
        && (padding == 0 || (padding <= 2 && text.len().is_multiple_of(4)))
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
        for name in r.list(&SYSTEM_WEBHOOK_EVENTS) {
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
            if let Some(value) = r.foreign(name) {
                on_salad_cloud = true;
                metadata.insert(name.to_ascii_lowercase(), value);
            }
        }
        Self {
            url: r.url(&SYSTEM_WEBHOOK_URL),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What Node.js 22 makes of these texts.
    #[test]
    fn any_text_is_decoded_as_node_does_it() {
        for (text, bytes) in [
            ("abcde", &[0x69, 0xb7, 0x1d][..]),
            ("p@ssw0rd", &[0xa6, 0xcb, 0x30, 0xd2, 0xb7]),
            ("a b c d", &[0x69, 0xb7, 0x1d]),
            ("ab=cd", &[0x69]),
            ("-_-_", &[0xfb, 0xff, 0xbf]),
            ("+/+/", &[0xfb, 0xff, 0xbf]),
            ("!", &[]),
            ("bWFya2Vk", b"marked"),
        ] {
            assert_eq!(decode_leniently(text), bytes, "{text}");
        }
    }

    #[test]
    fn only_clean_base64_is_called_that() {
        for (text, clean) in [
            ("bWFya2VkLTQ=", true),
            ("bWFya2VkLTQ", true),
            ("-_-_", true),
            ("abcde", false),
            ("ab=cd", false),
            ("p@ssw0rd", false),
            ("", false),
        ] {
            assert_eq!(is_clean_base64(text), clean, "{text}");
        }
    }
}
