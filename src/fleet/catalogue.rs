//! What the ComfyUI of the instances offers, kept on the disk: forms and workflow files work while
//! the fleet sleeps. One instance is asked for each catalogue that is new.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Inner;
use crate::broker::envelope::service;
use crate::broker::publisher::properties;
use crate::comfy::catalogue::{Catalogue, Described};
use crate::comfy::pool::Pool;
use crate::paths;

/// An instance is not asked again before this time.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// A catalogue has no more bytes than this.
const LONGEST: u64 = 256 << 20;
/// What answers to our questions begin with.
const PREFIX: &str = "describe:";

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    hash: String,
    /// gzip in base64.
    object_info: String,
    #[serde(default)]
    models: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    versions: Value,
}

/// What is known.
#[derive(Debug)]
pub(super) struct Known {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// All that were seen, the newest last.
    hashes: Vec<String>,
    asked: HashMap<String, Instant>,
}

impl Known {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            path: dir.join("catalogue.json"),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn has(&self, hash: &str) -> bool {
        self.state().hashes.iter().any(|known| known == hash)
    }

    /// Whether it is time to ask an instance, for this catalogue or for itself.
    pub(super) fn may_ask(&self, instance: &str, hash: Option<&str>) -> bool {
        let mut state = self.state();
        state.asked.retain(|_, at| at.elapsed() < ASK_AGAIN);
        let key = hash.unwrap_or(instance);
        if state.asked.contains_key(key) {
            return false;
        }
        state.asked.insert(key.to_owned(), Instant::now());
        true
    }

    /// Whether a message answers a question of ours.
    pub(super) fn expects(&self, correlation: &str) -> bool {
        correlation.starts_with(PREFIX)
    }

    /// What was kept by the process before. Blocks.
    pub(super) fn load(&self, comfy: &Pool) {
        let Ok(text) = std::fs::read(&self.path) else {
            return;
        };
        match serde_json::from_slice::<Kept>(&text) {
            Ok(kept) => self.set(comfy, &kept),
            Err(error) => tracing::warn!(%error, "the kept catalogue cannot be read"),
        }
    }

    /// An instance has described itself.
    pub(super) async fn answer(&self, comfy: &Pool, body: Vec<u8>) -> Option<Value> {
        let reading = tokio::task::spawn_blocking(move || {
            let mut envelope: Value = serde_json::from_slice(&body).ok()?;
            let mut data = envelope.get_mut("data")?.take();
            let catalogue = data.get_mut("catalogue").map(Value::take);
            Some((data, catalogue.unwrap_or_default()))
        });
        let (registration, catalogue) = reading.await.ok().flatten()?;
        let Ok(kept) = serde_json::from_value::<Kept>(catalogue) else {
            return Some(registration);
        };
        self.set(comfy, &kept);
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            paths::replace(&path, serde_json::to_vec(&kept)?)
        });
        if !matches!(written.await, Ok(Ok(()))) {
            tracing::warn!("the catalogue of the instances cannot be kept");
        }
        Some(registration)
    }

    fn set(&self, comfy: &Pool, kept: &Kept) {
        let gzip = base64::engine::general_purpose::STANDARD.decode(&kept.object_info);
        let gzip = gzip.unwrap_or_default();
        let Some(info) = object_info(&gzip, LONGEST) else {
            tracing::warn!("the catalogue of an instance cannot be read");
            return;
        };
        let mut catalogue = Catalogue::of_others(&info, kept.models.keys().cloned());
        catalogue.described = Some(Arc::new(Described {
            gzip,
            hash: kept.hash.clone(),
        }));
        catalogue.version = kept
            .versions
            .get("comfyui")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let first = comfy.instance(0);
        first.set_models_of_others(kept.models.clone());
        comfy.set_catalogue(first, catalogue);
        let mut state = self.state();
        state.hashes.retain(|known| *known != kept.hash);
        state.hashes.push(kept.hash.clone());
        if state.hashes.len() > 1000 {
            state.hashes.remove(0);
        }
        tracing::info!(hash = kept.hash, "the catalogue of the instances is known");
    }
}

/// `None`: it cannot be read, or is longer.
fn object_info(gzip: &[u8], longest: u64) -> Option<Value> {
    let mut json = Vec::new();
    flate2::read::GzDecoder::new(gzip)
        .take(longest)
        .read_to_end(&mut json)
        .ok()?;
    serde_json::from_slice(&json).ok()
}

impl Inner {
    /// Asks one instance.
    pub(super) async fn ask_to_describe(self: &Arc<Self>, instance: &str) {
        let data = json!({"instance_id": instance});
        let body = service("control_describe", data, None);
        let correlation = format!("{PREFIX}{}", uuid::Uuid::new_v4());
        let correlation = lapin::types::ShortString::try_new(correlation).unwrap_or_default();
        let properties = properties(false)
            .with_reply_to(self.reply_queue.clone())
            .with_correlation_id(correlation);
        self.publisher
            .to_exchange(&self.exchange, "control.describe", properties, body)
            .await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_catalogue_that_unpacks_to_too_much_is_not_read() {
        let packed = |text: &str| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(text.as_bytes()).unwrap();
            gzip.finish().unwrap()
        };
        let long = json!({"Node": {"description": "x".repeat(5000)}}).to_string();
        let gzip = packed(&long);
        assert!(object_info(&gzip, long.len() as u64).is_some());
        assert!(object_info(&gzip, 4000).is_none());
        assert!(object_info(b"no gzip", LONGEST).is_none());
        assert_eq!(LONGEST, 256 * 1024 * 1024);
    }
}
