//! All ComfyUI started anew, each when the one before is up: there is always one that works.

use std::sync::atomic::Ordering;

use super::Pool;
use crate::comfy::life::Phase;
use crate::health::Health;

impl Pool {
    /// Begins; `false` when it is going on already, or none is ready.
    pub fn restart_all(&self, health: Health) -> bool {
        let mut all = self.instances().iter();
        let any_ready = all.any(|comfy| comfy.life.now().phase == Phase::Ready);
        if !any_ready || self.inner.rolling.swap(true, Ordering::Relaxed) {
            return false;
        }
        let pool = self.clone();
        tokio::spawn(async move {
            for comfy in pool.instances() {
                if health.now().draining {
                    break;
                }
                // One that is on its way up by itself is waited for all the same.
                comfy.life.want_restart();
                let mut life = comfy.life.watch();
                let up = life.wait_for(|standing| standing.phase == Phase::Ready);
                tokio::select! {
                    up = up => if up.is_err() { break },
                    () = pool.inner.closed.cancelled() => break,
                }
            }
            pool.inner.rolling.store(false, Ordering::Relaxed);
        });
        true
    }
}
