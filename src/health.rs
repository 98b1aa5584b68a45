//! The health of the whole: a small state machine with reasons, which the probes show and the transports ask (process.md, "Probes").

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::error::{Code, Failure};

/// How it stands with ComfyUI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComfyState {
    /// Not up, and why: starting, restarting, dead.
    Down(String),
    /// It answers; the warmup prompt may run.
    Up,
    /// It answers and is warm.
    Ready,
}

/// Everything the probes go by.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// ComfyUI.
    pub comfy: ComfyState,
    /// It has been ready once.
    pub was_ready: bool,
    /// Shutting down.
    pub draining: bool,
    /// A folder that prompts need cannot be written, and why.
    pub unwritable: Option<String>,
}

/// The one place where health is kept. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health {
    state: watch::Sender<Snapshot>,
    suspicion: Arc<Notify>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(Snapshot {
                comfy: ComfyState::Down("starting".to_owned()),
                was_ready: false,
                draining: false,
                unwritable: None,
            }),
            suspicion: Arc::default(),
        }
    }
}

impl Health {
    /// The state now.
    pub fn now(&self) -> Snapshot {
        self.state.borrow().clone()
    }

    /// The state and its changes.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.state.subscribe()
    }

    /// ComfyUI has changed.
    pub fn comfy(&self, comfy: ComfyState) {
        crate::telemetry::metrics::comfyui_up(!matches!(comfy, ComfyState::Down(_)));
        self.state.send_modify(|state| {
            state.was_ready |= comfy == ComfyState::Ready;
            state.comfy = comfy;
        });
    }

    /// Something could not be written: the folders are looked at now. Costs little, so a doubt is enough.
    pub fn suspect_folders(&self) {
        self.suspicion.notify_one();
    }

    /// Waits for [`Health::suspect_folders`]. For one waiter.
    pub async fn folders_suspected(&self) {
        self.suspicion.notified().await;
    }

    /// Why a folder that prompts need cannot be written; `None` when all can.
    pub fn unwritable(&self, reason: Option<String>) {
        self.state.send_if_modified(|state| {
            let changed = state.unwritable != reason;
            state.unwritable = reason;
            changed
        });
    }

    /// Shutdown has begun.
    pub fn drain(&self) {
        self.state.send_modify(|state| state.draining = true);
    }

    /// Whether a new prompt may begin; the warmup prompt may before anybody else's.
    ///
    /// # Errors
    /// A 503 that says why not.
    pub fn accepts(&self, warmup: bool) -> Result<(), Failure> {
        let state = self.state.borrow();
        match &state.comfy {
            _ if state.draining => Err(Failure::new(
                Code::ShuttingDown,
                "the server is shutting down: send the prompt to another instance, or again later",
            )),
            ComfyState::Ready => match &state.unwritable {
                None => Ok(()),
                Some(reason) => Err(Failure::new(
                    Code::ComfyuiUnavailable,
                    format!("{reason}: make room, or send the prompt to another instance"),
                )),
            },
            ComfyState::Up if warmup => Ok(()),
            ComfyState::Up => Err(Failure::new(
                Code::ComfyuiUnavailable,
                "ComfyUI is up but not warm yet: try again in a moment",
            )),
            ComfyState::Down(reason) => Err(Failure::new(
                Code::ComfyuiUnavailable,
                format!("ComfyUI is not available ({reason}): try again in a moment"),
            )),
        }
    }

    /// Why the server is not ready, if it is not.
    pub fn not_ready(&self) -> Option<String> {
        self.accepts(false).err().map(|failure| failure.message)
    }
}
