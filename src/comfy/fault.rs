//! What a prompt has shown of ComfyUI that no further prompt can be given to it.

use tokio::sync::watch;

use crate::health::{ComfyHealth, ComfyState};

/// Such a thing, in words that are fit for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The GPU is unusable for this process: every later prompt would fail like this one.
    Gpu(String),
    /// A cancelled run does not end.
    Hang(String),
}

impl Fault {
    /// What happened.
    pub fn reason(&self) -> &str {
        match self {
            Self::Gpu(reason) | Self::Hang(reason) => reason,
        }
    }
}

/// Where faults are reported, and whoever keeps ComfyUI alive learns of them. Cheap to clone.
#[derive(Clone)]
pub struct Faults {
    health: ComfyHealth,
    reported: watch::Sender<Option<Fault>>,
}

impl Faults {
    pub(super) fn new(health: ComfyHealth) -> Self {
        Self {
            health,
            reported: watch::Sender::new(None),
        }
    }

    /// Not ready from now on: whoever is told of the failure next already sees it.
    pub fn report(&self, fault: Fault) {
        self.health.set(ComfyState::Down(fault.reason().to_owned()));
        self.reported.send_replace(Some(fault));
    }

    /// A node could not write: the folders are looked at now.
    pub fn suspect_folders(&self) {
        self.health.suspect_folders();
    }

    /// ComfyUI is another process than before.
    pub fn clear(&self) {
        self.reported.send_replace(None);
    }

    /// Waits for a fault.
    pub async fn reported(&self) -> Fault {
        let mut reported = self.reported.subscribe();
        loop {
            let now = reported.borrow_and_update().clone();
            if let Some(fault) = now {
                return fault;
            }
            if reported.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
