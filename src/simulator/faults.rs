//! What can be broken on purpose, at start or while running.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Faults; a body of `POST /simulator/faults` replaces the fields it names.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Cut every websocket that is open now, without a closing handshake.
    #[serde(skip_serializing)]
    pub drop_websockets: bool,
    /// Cut every websocket after this many further messages.
    pub drop_websockets_after: Option<u64>,
    /// Websockets stay open, nothing is read, sent or answered.
    pub freeze_websockets: bool,
    /// Websockets answer pings and send nothing else; what would have been sent is lost.
    pub deafen_websockets: bool,
    /// New websockets are refused with 503 for so many milliseconds from now.
    pub refuse_websockets_ms: u64,
    /// End the process now with this exit code.
    #[serde(skip_serializing)]
    pub crash: Option<i32>,
    /// End the process with an exit code when one of these classes runs.
    pub crash_class: BTreeMap<String, i32>,
    /// Become another process under the same id, which listens after so many seconds.
    #[serde(skip_serializing)]
    pub restart_in_place_s: Option<f64>,
    /// Answer `GET /queue` with this text and 200.
    pub queue_answer: Option<String>,
    /// Log lines are coloured.
    pub colours: bool,
    /// HTTP requests (all but `/simulator/*`) are accepted and not answered until this is false
    /// again.
    pub hang_http: bool,
    /// Classes that raise, with their messages; one that begins like `OSError: ` raises that
    /// instead of a `RuntimeError`.
    pub fail_class: BTreeMap<String, String>,
    /// Milliseconds that each sampling step takes.
    pub step_ms: u64,
    /// Milliseconds that each node takes.
    pub node_ms: u64,
    /// Seconds before the port is bound; at start only.
    pub slow_start_s: f64,
    /// The worker dies of an exception when it takes the next prompt; HTTP stays healthy.
    pub dead_worker: bool,
    /// The worker goes without a word when it takes the next prompt.
    pub silent_worker_death: bool,
    /// So many of the next prompts vanish: out of the queue, into no history, without an event.
    pub lose_prompts: u64,
    /// Milliseconds between `execution_success` and the history entry.
    pub history_delay_ms: u64,
    /// Milliseconds before each answer to an HTTP request.
    pub http_delay_ms: u64,
    /// Modification times of model folders are read as if the file system's clock ticked so
    /// seldom.
    pub mtime_tick_ms: u64,
    /// So many of the next prompts are checked as if no model folder had a file.
    pub hide_models: u64,
    /// Set everything back first.
    #[serde(skip_serializing)]
    pub reset: bool,
}

/// The faults in force, and how many times the sockets have been cut.
#[derive(Debug, Clone, Default)]
pub struct InForce {
    /// The switches.
    pub faults: Faults,
    /// Grows with each cut; a socket that sees it grow dies.
    pub cuts: u64,
    /// Until when new websockets are refused.
    pub refuse_until: Option<Instant>,
}

/// The switchboard.
#[derive(Debug)]
pub struct Switchboard {
    state: watch::Sender<InForce>,
}

impl Switchboard {
    /// Starts with these faults.
    pub fn new(faults: Faults) -> Self {
        let refuse_until = until(faults.refuse_websockets_ms);
        Self {
            state: watch::Sender::new(InForce {
                faults,
                cuts: 0,
                refuse_until,
            }),
        }
    }

    /// Replaces the fields that a JSON object names. Says what is wrong with it otherwise.
    pub fn change(&self, change: &serde_json::Value) -> Result<Faults, String> {
        let fields = change.as_object().ok_or("the body must be a JSON object")?;
        let asked: Faults = serde_json::from_value(change.clone()).map_err(|e| e.to_string())?;
        let base = if asked.reset {
            Faults::default()
        } else {
            self.state.borrow().faults.clone()
        };
        let mut merged = serde_json::to_value(base).map_err(|e| e.to_string())?;
        if let Some(merged) = merged.as_object_mut() {
            merged.extend(
                fields
                    .iter()
                    .filter(|(name, _)| *name != "reset")
                    .map(|(name, value)| (name.clone(), value.clone())),
            );
        }
        let mut merged: Faults = serde_json::from_value(merged).map_err(|e| e.to_string())?;
        let cut = std::mem::take(&mut merged.drop_websockets);
        merged.crash = None;
        merged.restart_in_place_s = None;
        self.state.send_modify(|state| {
            state.faults = merged;
            state.cuts += u64::from(cut);
            if fields.contains_key("refuse_websockets_ms") || asked.reset {
                state.refuse_until = until(asked.refuse_websockets_ms);
            }
        });
        Ok(asked)
    }

    /// To be told of changes.
    pub fn watch(&self) -> watch::Receiver<InForce> {
        self.state.subscribe()
    }

    /// Looks at the faults.
    pub fn read<T>(&self, look: impl FnOnce(&Faults) -> T) -> T {
        look(&self.state.borrow().faults)
    }

    /// Whether a new websocket is to be refused.
    pub fn refuses_websockets(&self) -> bool {
        self.state
            .borrow()
            .refuse_until
            .is_some_and(|until| Instant::now() < until)
    }

    /// Counts a message sent; the last one allowed cuts all sockets.
    pub fn message_sent(&self) {
        if self.state.borrow().faults.drop_websockets_after.is_none() {
            return;
        }
        self.state
            .send_modify(|state| match state.faults.drop_websockets_after {
                Some(0 | 1) => {
                    state.faults.drop_websockets_after = None;
                    state.cuts += 1;
                }
                Some(n) => state.faults.drop_websockets_after = Some(n - 1),
                None => {}
            });
    }

    /// Takes one of the prompts that find no models.
    pub fn hides_models(&self) -> bool {
        let mut hidden = false;
        if self.read(|faults| faults.hide_models > 0) {
            self.state.send_modify(|state| {
                hidden = state.faults.hide_models > 0;
                state.faults.hide_models = state.faults.hide_models.saturating_sub(1);
            });
        }
        hidden
    }

    /// Takes one of the prompts that are to be lost.
    pub fn loses_this_prompt(&self) -> bool {
        let mut lost = false;
        if self.read(|faults| faults.lose_prompts > 0) {
            self.state.send_modify(|state| {
                lost = state.faults.lose_prompts > 0;
                state.faults.lose_prompts = state.faults.lose_prompts.saturating_sub(1);
            });
        }
        lost
    }
}

fn until(milliseconds: u64) -> Option<Instant> {
    (milliseconds > 0).then(|| Instant::now() + Duration::from_millis(milliseconds))
}
