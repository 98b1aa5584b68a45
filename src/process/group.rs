//! Children with a process group of their own, and signals to all of its members.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::{inheritance, parent_thread, proc};

/// A file that was written a moment ago may still be open for writing in a process that was forked
/// meanwhile.
const BUSY_RETRIES: u32 = 20;

/// Starts a command in a process group of its own, with clean signals; it dies with us, and when
/// the handle is dropped.
///
/// # Errors
/// When the command is not there or cannot be executed.
pub(crate) async fn spawn_in_group(mut command: Command) -> io::Result<Child> {
    command.process_group(0);
    inheritance::start_clean(&mut command);
    inheritance::die_with_parent(&mut command);
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    parent_thread::run(move || {
        for _ in 0..BUSY_RETRIES {
            match command.spawn() {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(Duration::from_millis(10))
                }
                result => return result,
            }
        }
        command.spawn()
    })
    .await
}

/// A process group of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessGroup(pub Pid);

impl ProcessGroup {
    /// Sends a signal to every member. Members that are gone already are no error.
    pub fn signal(self, signal: Signal) {
        let _ = killpg(self.0, signal);
    }

    /// Waits until no member runs any more; `false` when the deadline came first.
    pub async fn empty_by(self, deadline: Instant) -> bool {
        loop {
            if tokio::task::spawn_blocking(move || !self.has_live_member())
                .await
                .unwrap_or(true)
            {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether a member runs. Asked of /proc because `kill(-group, 0)` also counts zombies, which
    /// only their parent can end.
    fn has_live_member(self) -> bool {
        killpg(self.0, None).is_ok()
            && proc::processes().is_none_or(|mut all| {
                all.any(|process| process.group == self.0.as_raw() && process.runs)
            })
    }
}
