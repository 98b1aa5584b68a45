//! A storage of one's own for a test: temporary directories, short delays, an ear for events.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use comfyui_api::config::{Config, StorageConfig};
use comfyui_api::events::{EventSink, Events, SystemEvent};
use comfyui_api::net::Outbound;
use comfyui_api::storage::{
    Auth, Credential, Credentials, Fetch, Fetched, Storage, StorageError, TransferSettings,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Waits until something is so, at most 20 s.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A storage configuration from variables.
pub fn config(variables: &[(&str, &str)]) -> StorageConfig {
    let env: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::from_env(&env).unwrap().storage
}

/// The defaults with delays of milliseconds and a low threshold for parallel ranges.
pub fn hasty() -> TransferSettings {
    let tuning = TransferSettings::default();
    TransferSettings {
        retry: tuning.retry.hasty(),
        stall: Duration::from_secs(3),
        parallel_from: 1 << 20,
        log_interval: Duration::from_millis(50),
        progress_interval: Duration::from_millis(5),
        ..tuning
    }
}

/// The same for an origin that goes silent: less patience than a busy machine may need between two
/// bytes.
pub fn impatient() -> TransferSettings {
    TransferSettings {
        stall: Duration::from_millis(400),
        ..hasty()
    }
}

/// A storage with a cache directory of its own.
pub struct Bench {
    pub storage: Storage,
    pub dir: TempDir,
    pub cache: PathBuf,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard(Mutex<Vec<(String, Value)>>);

impl EventSink for Heard {
    fn emit(&self, event: &Arc<SystemEvent>) {
        self.0
            .lock()
            .unwrap()
            .push((event.name.to_string(), (*event.data).clone()));
    }

    fn wants(&self, _name: &str) -> bool {
        true
    }
}

impl Bench {
    /// Local addresses allowed.
    pub async fn new(variables: &[(&str, &str)]) -> Self {
        Self::tuned(variables, hasty()).await
    }

    pub async fn tuned(variables: &[(&str, &str)], tuning: TransferSettings) -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), variables, tuning).await
    }

    /// With a directory that may be filled already.
    pub async fn in_dir(
        dir: TempDir,
        variables: &[(&str, &str)],
        tuning: TransferSettings,
    ) -> Self {
        let given = variables.iter().find(|(name, _)| *name == "CACHE_DIR");
        let cache = given.map_or_else(|| dir.path().join("cache"), |(_, path)| PathBuf::from(path));
        let mut all = vec![
            ("ALLOW_PRIVATE_NETWORKS", "true"),
            ("CACHE_DIR", cache.to_str().unwrap()),
        ];
        all.retain(|(name, _)| !variables.iter().any(|(other, _)| other == name));
        all.extend(variables);
        let config = config(&all);
        let (events, heard) = (Events::default(), Arc::new(Heard::default()));
        events.connect(vec![Arc::clone(&heard) as Arc<dyn EventSink>]);
        let storage =
            Storage::with_tuning(&config, Outbound::new(&config).unwrap(), events, tuning);
        storage.prepare().await.unwrap();
        Self {
            storage,
            dir,
            cache,
            heard,
        }
    }

    pub async fn get(&self, url: &str) -> Result<Fetched, StorageError> {
        self.storage.fetch(fetch(url)).await
    }

    pub async fn get_as(&self, url: &str, auth: Auth) -> Result<Fetched, StorageError> {
        self.storage
            .fetch(Fetch {
                auth: Some(auth),
                ..fetch(url)
            })
            .await
    }

    /// Names in the cache directory, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&self.cache)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Data of the events of a name, so far.
    pub fn events(&self, name: &str) -> Vec<Value> {
        self.heard
            .0
            .lock()
            .unwrap()
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, data)| data.clone())
            .collect()
    }
}

/// A fetch without credentials.
pub fn fetch(url: &str) -> Fetch {
    Fetch {
        url: url.to_owned(),
        auth: None,
        credentials: Credentials::default(),
        cancel: CancellationToken::new(),
        progress: None,
        purpose: None,
    }
}

/// A fetch with a request's credentials.
pub fn fetch_with(url: &str, credentials: Value) -> Fetch {
    let credentials: Vec<Credential> = serde_json::from_value(credentials).unwrap();
    Fetch {
        credentials: credentials.into(),
        ..fetch(url)
    }
}

/// Bytes that differ everywhere, so that a mix-up shows.
pub fn content(length: usize) -> Arc<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    Arc::new(bytes)
}

/// Bearer credentials.
pub fn bearer(token: &str) -> Auth {
    serde_json::from_value(serde_json::json!({"type": "bearer", "token": token})).unwrap()
}
