//! Isolates that are warm and idle. One pool for all workflows: what was used last stays, what is
//! old goes.

use std::collections::VecDeque;

use parking_lot::{Mutex, MutexGuard};

use super::engine::Isolate;

/// Idle isolates of all workflows together; each holds about two megabytes.
const MOST_IDLE: usize = 64;
/// Calls after which an isolate is replaced: a file that piles something up in a global never
/// reaches its memory limit.
const MOST_CALLS: usize = 1000;

struct Idle {
    /// The workflow, and the state of the configuration it was made for.
    key: (u64, u64),
    isolate: Isolate,
}

/// The pool.
#[derive(Default)]
pub struct Pool(Mutex<VecDeque<Idle>>);

impl Pool {
    /// Takes an isolate of this workflow and this state, if one is idle.
    pub fn take(&self, key: (u64, u64)) -> Option<Isolate> {
        let mut idle = self.lock();
        let at = idle.iter().rposition(|one| one.key == key)?;
        idle.remove(at).map(|one| one.isolate)
    }

    /// Gives an isolate back.
    pub fn put(&self, key: (u64, u64), isolate: Isolate) {
        if isolate.calls() >= MOST_CALLS {
            return;
        }
        let mut idle = self.lock();
        idle.push_back(Idle { key, isolate });
        // Dropped after the lock: freeing a runtime takes a while.
        let old = if idle.len() > MOST_IDLE {
            idle.pop_front()
        } else {
            None
        };
        drop(idle);
        drop(old);
    }

    /// Drops everything whose key is not kept.
    pub fn retain(&self, keep: impl Fn((u64, u64)) -> bool) {
        let mut idle = self.lock();
        let (kept, old): (VecDeque<Idle>, VecDeque<Idle>) =
            idle.drain(..).partition(|one| keep(one.key));
        *idle = kept;
        drop(idle);
        drop(old);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.0.lock()
    }
}
