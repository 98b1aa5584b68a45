//! Where a ComfyUI is in its life, for people: what `GET /status` shows of it, and the wish that it
//! be started anew. Whether prompts are taken is [`crate::health`]'s business.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use crate::telemetry::logging::epoch_ms;

/// Where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It has never been ready, and is on its way there.
    Starting,
    /// It answers and is warm.
    Ready,
    /// It was ready before, and is on its way there again.
    Restarting,
    /// It is gone, and nobody has begun to start it again.
    Down,
}

/// What is known of its life now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where it is.
    pub phase: Phase,
    /// Since when, epoch milliseconds.
    pub since: u64,
    /// Its process, while it is our child.
    pub pid: Option<i32>,
    /// How often it was started again.
    pub restarts: u64,
    /// It has been ready once.
    was_ready: bool,
    /// Somebody wants it started anew.
    wanted: bool,
    /// When somebody wanted that last.
    wanted_at: Option<Instant>,
}

/// The life of one ComfyUI. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Life {
    standing: watch::Sender<Standing>,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            standing: watch::Sender::new(Standing {
                phase: Phase::Starting,
                since: epoch_ms(),
                pid: None,
                restarts: 0,
                was_ready: false,
                wanted: false,
                wanted_at: None,
            }),
        }
    }
}

impl Life {
    /// What is known now.
    pub fn now(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// What is known, and its changes.
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// It is being started or looked for, the first time or again.
    pub fn begins(&self) {
        self.standing.send_modify(|standing| {
            standing.wanted = false;
            let phase = match standing.was_ready {
                true => Phase::Restarting,
                false => Phase::Starting,
            };
            standing.enter(phase);
        });
    }

    /// It is our child now.
    pub fn spawned(&self, pid: i32) {
        self.standing
            .send_modify(|standing| standing.pid = Some(pid));
    }

    /// It answers and is warm.
    pub fn is_ready(&self) {
        self.standing.send_modify(|standing| {
            standing.was_ready = true;
            standing.enter(Phase::Ready);
        });
    }

    /// It does not answer any more; the process may still be there.
    pub fn is_lost(&self) {
        self.standing
            .send_modify(|standing| standing.enter(Phase::Down));
    }

    /// It is gone.
    pub fn ended(&self) {
        self.standing.send_modify(|standing| {
            standing.pid = None;
            standing.enter(Phase::Down);
        });
    }

    /// It will be started again.
    pub fn starts_again(&self) {
        self.standing.send_modify(|standing| standing.restarts += 1);
    }

    /// Wants it started anew; `false` when it is not ready, and so on its way there or about to be.
    pub fn want_restart(&self) -> bool {
        self.standing.send_if_modified(|standing| {
            let ready = standing.phase == Phase::Ready;
            if ready {
                standing.wanted = true;
                standing.wanted_at = Some(Instant::now());
                standing.enter(Phase::Restarting);
            }
            ready
        })
    }

    /// Whether somebody wanted that within the last while.
    pub fn restart_was_wanted_within(&self, period: Duration) -> bool {
        let wanted_at = self.standing.borrow().wanted_at;
        wanted_at.is_some_and(|at| at.elapsed() < period)
    }

    /// Waits until somebody wants it started anew. Cancel-safe.
    pub async fn restart_wanted(&self) {
        let mut standing = self.standing.subscribe();
        if standing.wait_for(|standing| standing.wanted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Standing {
    fn enter(&mut self, phase: Phase) {
        if std::mem::replace(&mut self.phase, phase) != phase {
            self.since = epoch_ms();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_ready_one_is_started_anew_and_only_once() {
        let life = Life::default();
        life.begins();
        assert!(!life.want_restart() && life.now().phase == Phase::Starting);
        life.spawned(7);
        life.is_ready();
        assert!(life.want_restart() && !life.want_restart());
        life.restart_wanted().await;
        assert_eq!(life.now().phase, Phase::Restarting);
        life.ended();
        life.starts_again();
        life.begins();
        let now = life.now();
        assert_eq!(
            (now.phase, now.pid, now.restarts, now.wanted),
            (Phase::Restarting, None, 1, false)
        );
    }
}
