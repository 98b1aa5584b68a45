//! What is known of the request that is being answered.

use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::McpState;
use super::revision::Revision;
use crate::transport::v2::address::Base;

/// Progress is told no more often than this.
const PAUSE: Duration = Duration::from_millis(200);
/// What progress rises by when only its message has changed.
const STEP: f64 = 0.000_1;

/// A request.
pub struct Context {
    /// Everything.
    pub state: McpState,
    /// The revision it follows.
    pub revision: Revision,
    /// What addresses in the answer begin with.
    pub base: Base,
    /// Its client knows the tasks extension.
    pub knows_tasks: bool,
    /// Where its progress is told, if it is.
    pub progress: Option<Progress>,
}

/// Tells a client how far its request is.
pub struct Progress {
    token: Value,
    to: mpsc::UnboundedSender<Value>,
    told: Mutex<Told>,
}

struct Told {
    value: f64,
    message: String,
    at: Option<Instant>,
}

impl Progress {
    /// For a token.
    pub fn new(token: Value, to: mpsc::UnboundedSender<Value>) -> Self {
        let told = Told {
            value: -1.0,
            message: String::new(),
            at: None,
        };
        Self {
            token,
            to,
            told: Mutex::new(told),
        }
    }

    /// When something may be told again.
    pub fn next(&self) -> Instant {
        let told = self.told.lock();
        told.at.map_or_else(Instant::now, |at| at + PAUSE)
    }

    /// Tells it, if it is new. `percent` is below 100.
    pub fn tell(&self, percent: f64, message: &str) {
        let mut told = self.told.lock();
        if told.message == message && percent <= told.value {
            return;
        }
        let value = percent.clamp(0.0, 99.9).max(told.value + STEP);
        told.value = value;
        message.clone_into(&mut told.message);
        told.at = Some(Instant::now());
        let value = if value < STEP { 0.0 } else { value };
        let _ = self.to.send(json!({
            "jsonrpc": "2.0",
            "method": "notifications/progress",
            "params": {
                "progressToken": self.token,
                "progress": value,
                "total": 100,
                "message": message
            },
        }));
    }
}

/// The token of a request that wants to be told.
pub fn progress_token(params: &Map<String, Value>) -> Option<Value> {
    let token = params.get("_meta")?.get("progressToken")?;
    (token.is_string() || token.is_i64() || token.is_u64()).then(|| token.clone())
}

/// Whether the client of a request knows the tasks extension.
pub fn knows_tasks(params: &Map<String, Value>) -> bool {
    let known = || {
        params
            .get("_meta")?
            .get("io.modelcontextprotocol/clientCapabilities")?
            .get("extensions")?
            .get(rmcp::model::TASKS_EXTENSION_ID)
    };
    known().is_some_and(Value::is_object)
}
