//! What a job is recorded as, so that another process can run it again: without secrets, large
//! texts beside it as blobs.

use serde_json::{Map, Value, json};

use crate::job::Source;
use crate::store::{Store, StoreError};

/// A text from this length on lies beside the record.
const BESIDE: usize = 64 * 1024;
/// The key that stands for such a text.
const BLOB: &str = "$comfyui-api/blob";

/// Whether a member of a request is never stored. `extra_data` that only says what the editor had
/// is in the pictures anyway.
pub(super) fn is_secret(name: &str, value: &Value) -> bool {
    match name {
        "credentials" => true,
        "extra_data" => value
            .as_object()
            .is_none_or(|members| members.keys().any(|key| key != "extra_pnginfo")),
        _ => false,
    }
}

/// A job that is to be.
pub struct NewSubmission {
    /// Its id, a UUID that nobody has; without one it gets one.
    pub id: Option<String>,
    /// The transport.
    pub source: Source,
    /// The body of `POST /prompt`, without an id.
    pub body: Map<String, Value>,
    /// What is said in the result although nothing failed.
    pub warnings: Vec<String>,
    /// Labels as given.
    pub metadata: Option<Value>,
    /// Labels one by one.
    pub labels: Vec<(String, String)>,
    /// As given.
    pub priority: Option<i64>,
    /// The idempotency key.
    pub key: Option<String>,
    /// What absolute addresses begin with, in webhooks too.
    pub base_url: String,
    /// The workflow endpoint that its graph comes from: what follows `/workflow/`.
    pub workflow: Option<String>,
}

impl NewSubmission {
    /// A body of `POST /prompt`, and nothing else.
    pub const fn new(source: Source, body: Map<String, Value>, base_url: String) -> Self {
        Self {
            id: None,
            source,
            body,
            metadata: None,
            labels: Vec::new(),
            priority: None,
            key: None,
            base_url,
            workflow: None,
            warnings: Vec::new(),
        }
    }
}

/// The record of a request, and the blobs it refers to.
pub(super) async fn pack(
    body: &Map<String, Value>,
    store: &Store,
) -> Result<(String, Vec<String>), StoreError> {
    let mut stored = Map::new();
    for (name, value) in body.iter().filter(|(name, value)| !is_secret(name, value)) {
        stored.insert(name.clone(), value.clone());
    }
    let mut stored = Value::Object(stored);
    let mut texts = Vec::new();
    move_out(&mut stored, &mut texts);
    let mut hashes = Vec::with_capacity(texts.len());
    for text in texts {
        hashes.push(store.add_text_blob(text).await?);
    }
    Ok((stored.to_string(), hashes))
}

fn move_out(value: &mut Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) if text.len() >= BESIDE => {
            let text = std::mem::take(text);
            let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
            texts.push(text);
            *value = json!({BLOB: hash});
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_out(item, texts)),
        Value::Object(members) => members.values_mut().for_each(|item| move_out(item, texts)),
        _ => {}
    }
}

/// The request again, from its record.
///
/// # Errors
/// When a blob is gone.
pub async fn unpack(stored: &str, store: &Store) -> Result<Map<String, Value>, StoreError> {
    let value: Value =
        serde_json::from_str(stored).map_err(|error| StoreError::Failed(error.to_string()))?;
    let store = store.clone();
    let moved = tokio::task::spawn_blocking(move || {
        let mut value = value;
        move_in(&mut value, &store).map(|()| value)
    });
    match moved
        .await
        .map_err(|error| StoreError::Failed(error.to_string()))??
    {
        Value::Object(body) => Ok(body),
        _ => Err(StoreError::NotFound),
    }
}

fn move_in(value: &mut Value, store: &Store) -> Result<(), StoreError> {
    match value {
        Value::Object(members) => {
            if let Some(hash) = members.get(BLOB).and_then(Value::as_str) {
                let text =
                    std::fs::read_to_string(store.blob_path(hash)).map_err(|_| StoreError::Gone)?;
                *value = text.into();
                return Ok(());
            }
            members
                .values_mut()
                .try_for_each(|item| move_in(item, store))
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| move_in(item, store)),
        _ => Ok(()),
    }
}

/// The blobs of all assets that a graph refers to, and the assets that are malformed or not there.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn assets_of(
    body: &Map<String, Value>,
    store: &Store,
) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let mut references = Vec::new();
    for name in ["prompt", "workflow"] {
        if let Some(graph) = body.get(name) {
            crate::job::asset_input::references(graph, &mut references);
        }
    }
    let (mut hashes, mut missing) = (Vec::new(), Vec::new());
    for reference in references {
        match reference.find(store).await? {
            Some(asset) if store.content(&asset).is_ok() => hashes.extend(asset.hash),
            _ => missing.push(reference.shown()),
        }
    }
    Ok((hashes, missing))
}
