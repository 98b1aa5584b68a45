//! Whoever follows one job, and whoever follows all.

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::job::event::{JobEvent, Listener};

/// Tell whoever follows all prompts that something has changed.
#[derive(Debug, Clone)]
pub(super) struct Signals {
    /// Rises with everything.
    pub(super) changes: watch::Sender<u64>,
    /// Rises when a prompt comes, enters another state or ends.
    pub(super) moves: watch::Sender<u64>,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            changes: watch::Sender::new(0),
            moves: watch::Sender::new(0),
        }
    }
}

impl Signals {
    pub(super) fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(super) fn moved(&self) {
        self.moves.send_modify(|moves| *moves += 1);
        self.changed();
    }
}

/// Whoever listens to a job.
#[derive(Default)]
pub(in crate::job) struct Listeners {
    some: std::sync::atomic::AtomicBool,
    pub(super) all: Mutex<Vec<Listener>>,
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners")
            .field("some", &self.some)
            .finish_non_exhaustive()
    }
}

impl Listeners {
    pub(in crate::job) fn any(&self) -> bool {
        self.some.load(std::sync::atomic::Ordering::Relaxed)
    }

    pub(super) fn add(&self, listener: Listener) {
        self.all.lock().push(listener);
        self.some.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    pub(in crate::job) fn tell(&self, event: &JobEvent) {
        if self.any() {
            // Called without the lock: a listener may look at the job.
            let all = self.all.lock().clone();
            all.iter().for_each(|listener| listener(event));
        }
    }
}
