//! Signals to a child and all its descendants that stayed in its process group.

use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

/// A process group of ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessGroup(pub Pid);

impl ProcessGroup {
    /// Sends a signal to every member. Members that are gone already are no error.
    pub fn signal(self, signal: Signal) {
        let _ = killpg(self.0, signal);
    }

    /// Waits until no member runs any more; `false` when the deadline came first.
    pub async fn empty_by(self, deadline: Instant) -> bool {
        loop {
            if tokio::task::spawn_blocking(move || !self.has_live_member()).await.unwrap_or(true) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether a member runs. Asked of /proc because `kill(-group, 0)` also counts zombies, which only their parent can end.
    fn has_live_member(self) -> bool {
        if killpg(self.0, None).is_err() {
            return false;
        }
        let Ok(entries) = std::fs::read_dir("/proc") else { return true };
        entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)).any(|entry| {
            let Ok(stat) = std::fs::read(entry.path().join("stat")) else { return false };
            // `pid (name) state ppid pgrp ...`; the name may hold blanks and brackets, so fields count from the last bracket.
            let text = String::from_utf8_lossy(&stat);
            let Some((_, fields)) = text.rsplit_once(") ") else { return false };
            let mut fields = fields.split(' ');
            let state = fields.next().unwrap_or("");
            let group = fields.nth(1).and_then(|field| field.parse::<i32>().ok());
            group == Some(self.0.as_raw()) && !matches!(state, "Z" | "X")
        })
    }
}
