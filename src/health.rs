//! The health of the whole: a small state machine with reasons, which the probes show and the
//! transports ask (process.md, "Probes").

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::error::{Code, Failure};

/// How it stands with a ComfyUI, or with all of them: then the best counts.
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
    /// Each ComfyUI's own state.
    each: Arc<Mutex<Vec<ComfyState>>>,
    suspicion: Arc<Notify>,
}

/// The health of one ComfyUI, as part of the whole. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ComfyHealth {
    whole: Health,
    index: usize,
}

impl ComfyHealth {
    /// It has changed.
    pub fn set(&self, state: ComfyState) {
        self.whole.comfy(self.index, state);
    }

    /// How it stands with it.
    pub fn now(&self) -> ComfyState {
        self.whole.each()[self.index].clone()
    }

    /// Whether it can be given work.
    pub fn is_up(&self) -> bool {
        !matches!(self.now(), ComfyState::Down(_))
    }

    /// Something could not be written: the folders are looked at now.
    pub fn suspect_folders(&self) {
        self.whole.suspect_folders();
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new(1)
    }
}

impl ComfyState {
    const fn rank(&self) -> u8 {
        match self {
            Self::Down(_) => 0,
            Self::Up => 1,
            Self::Ready => 2,
        }
    }
}

impl Health {
    /// Of a server with so many ComfyUIs, at least one.
    pub fn new(comfyuis: usize) -> Self {
        let starting = ComfyState::Down("starting".to_owned());
        Self {
            each: Arc::new(Mutex::new(vec![starting.clone(); comfyuis.max(1)])),
            state: watch::Sender::new(Snapshot {
                comfy: starting,
                was_ready: false,
                draining: false,
                unwritable: None,
            }),
            suspicion: Arc::default(),
        }
    }

    /// The part of one ComfyUI.
    pub fn of(&self, index: usize) -> ComfyHealth {
        ComfyHealth {
            whole: self.clone(),
            index: index.min(self.each().len() - 1),
        }
    }

    /// How it stands with each.
    pub fn each(&self) -> Vec<ComfyState> {
        self.each.lock().clone()
    }

    /// The state now.
    pub fn now(&self) -> Snapshot {
        self.state.borrow().clone()
    }

    /// The state and its changes.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.state.subscribe()
    }

    /// Every ComfyUI waits for the same thing.
    pub fn all_wait(&self, reason: &str) {
        for index in 0..self.each().len() {
            self.comfy(index, ComfyState::Down(reason.to_owned()));
        }
    }

    fn comfy(&self, index: usize, comfy: ComfyState) {
        let up = !matches!(comfy, ComfyState::Down(_));
        let mut each = self.each.lock();
        crate::telemetry::metrics::comfyui_up((each.len() > 1).then_some(index), up);
        each[index] = comfy.clone();
        // Of several that are down, the one that went last tells why.
        let best = each.iter().max_by_key(|state| state.rank());
        let best = best.filter(|best| best.rank() > comfy.rank());
        let whole = best.cloned().unwrap_or(comfy);
        self.state.send_modify(|state| {
            state.was_ready |= whole == ComfyState::Ready;
            state.comfy = whole;
        });
    }

    /// Something could not be written: the folders are looked at now. Costs little, so a doubt is
    /// enough.
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
