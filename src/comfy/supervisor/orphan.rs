//! A ComfyUI that an earlier instance of this server has left behind: told by a mark in its
//! environment, ended when that instance is dead (attack.md, A45).

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::readiness::port_in_use;
use crate::process::proc::{self, Process};

/// The variable that says whose child a process is: our process id and its start.
pub(super) const MARK: &str = "COMFYUI_API_PARENT";
/// How long a killed process may hold its port.
const PATIENCE: Duration = Duration::from_secs(10);

/// The mark of our own children.
pub(super) fn own_mark() -> String {
    let pid = i32::try_from(std::process::id()).unwrap_or_default();
    let started = Process::of(pid).map_or(0, |process| process.started);
    format!("{pid}-{started}")
}

/// Ends who listens on `port` if it is the child of an instance of ours that is dead; `true` when
/// the port is free then.
pub async fn end_orphans(authority: &str, port: u16) -> bool {
    let ended = tokio::task::spawn_blocking(move || end(port)).await;
    if !ended.unwrap_or(false) {
        return false;
    }
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if !port_in_use(authority).await {
            return true;
        }
        sleep(Duration::from_millis(50)).await;
    }
    false
}

fn end(port: u16) -> bool {
    let sockets = listening(port);
    let Some(mark) = holders(&sockets).find_map(mark_of) else {
        return false;
    };
    if !is_dead(&mark) {
        return false;
    }
    let Some(all) = proc::processes() else {
        return false;
    };
    let orphans: Vec<i32> = all
        .filter(|process| process.runs)
        .map(|process| process.pid)
        .filter(|pid| mark_of(*pid).as_ref() == Some(&mark))
        .collect();
    warn!(
        port,
        pids = ?orphans,
        "a ComfyUI that an earlier instance of this server had started held the port; that \
         instance is dead, so it is ended"
    );
    for pid in orphans {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    true
}

/// Whether the instance that a mark names is gone.
fn is_dead(mark: &str) -> bool {
    let Some((pid, started)) = mark.split_once('-') else {
        return false;
    };
    match (pid.parse::<i32>(), started.parse::<u64>()) {
        (Ok(pid), Ok(started)) if pid > 0 && started > 0 => {
            !Process::of(pid).is_some_and(|process| process.started == started && process.runs)
        }
        _ => false,
    }
}

/// The mark in a process's environment, as it was started.
fn mark_of(pid: i32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(|entry| {
        let text = std::str::from_utf8(entry).ok()?;
        text.strip_prefix(MARK)?
            .strip_prefix('=')
            .map(str::to_owned)
    })
}

/// The sockets that listen on a port, as /proc names them.
fn listening(port: u16) -> HashSet<String> {
    const LISTEN: &str = "0A";
    let local = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| {
            table
                .lines()
                .filter_map(|line| {
                    let fields: Vec<&str> = line.split_whitespace().collect();
                    let listens = fields.get(1)?.ends_with(&local) && *fields.get(3)? == LISTEN;
                    listens.then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The processes that hold one of these sockets.
fn holders(sockets: &HashSet<String>) -> impl Iterator<Item = i32> {
    proc::processes()
        .into_iter()
        .flatten()
        .map(|process| process.pid)
        .filter(|pid| {
            fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|descriptors| {
                descriptors
                    .flatten()
                    .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
                    .any(|target| {
                        target
                            .to_str()
                            .is_some_and(|target| sockets.contains(target))
                    })
            })
        })
}
