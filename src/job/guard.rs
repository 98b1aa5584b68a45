//! What must be done when a run is really over, whoever waits for that: its unfinished files go,
//! and the next graph that shares names with it may begin.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::cleanup::{Claim, Cleaner};
use super::pipeline::Pipeline;
use crate::error::{Code, Failure};

/// Held by whoever waits for the run. Dropped before [`Self::finish`], it removes what the run has
/// written: a run that was interrupted or lost leaves files that nobody reports.
pub(super) struct RunGuard {
    cleaner: Cleaner,
    claim: Arc<Claim>,
    /// ComfyUI may have written files.
    armed: AtomicBool,
    turn: Mutex<Option<OwnedSemaphorePermit>>,
}

impl RunGuard {
    pub fn new(cleaner: Cleaner, claim: Arc<Claim>) -> Self {
        Self {
            cleaner,
            claim,
            armed: AtomicBool::new(false),
            turn: Mutex::default(),
        }
    }

    /// Whether ComfyUI may have the graph.
    pub fn arm(&self, armed: bool) {
        self.armed.store(armed, Ordering::Relaxed);
    }

    /// Waits until no other graph that shares names is in ComfyUI.
    ///
    /// # Errors
    /// The reason for stopping when the prompt is stopped meanwhile.
    pub async fn wait_for_turn(&self, pipeline: &Pipeline<'_>) -> Result<(), Failure> {
        if self.turn().is_some() {
            return Ok(());
        }
        let (inner, job) = (pipeline.inner, pipeline.job);
        let turns = inner.turns.clone();
        let turn = match turns.clone().try_acquire_owned() {
            Ok(turn) => turn,
            Err(_) => {
                // It waits as others wait in ComfyUI's queue.
                inner.jobs.accepted(job);
                tokio::select! {
                    turn = turns.acquire_owned() => turn.map_err(|_| {
                        Failure::new(Code::Internal, "nobody hands out turns any more")
                    })?,
                    () = job.cancel.cancelled() => return Err(job.stop_reason()),
                }
            }
        };
        *self.turn() = Some(turn);
        Ok(())
    }

    /// All that was written is in the prompt's own folder.
    pub fn finish(&self) {
        self.arm(false);
        self.claim.release_names();
        self.turn().take();
    }

    fn turn(&self) -> parking_lot::MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.turn.lock()
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        let (claim, turn) = (self.claim.clone(), self.turn().take());
        if self.armed.load(Ordering::Relaxed) {
            self.cleaner.later(move || {
                claim.sweep();
                drop((claim, turn));
            });
        }
    }
}
