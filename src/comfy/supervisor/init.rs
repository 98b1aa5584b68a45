//! The duties of PID 1.
//!
//! In a container without an init, `CMD ["./comfyui-api"]` is PID 1: orphans of ComfyUI become its
//! children and must be reaped, and signals without a handler are ignored. Reaping everybody inside
//! the server would steal the exits that Tokio waits for. So PID 1 starts itself once more as its
//! child, which is the real server, and stays behind as a small init: it forwards signals, reaps
//! whoever ends, and ends with the server's exit code. That costs well under a millisecond and a
//! few hundred kB.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use crate::process::inheritance;

/// Signals that are meant for the server when they reach PID 1.
const FORWARDED: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Returns at once unless this process is PID 1. As PID 1 it runs the server as a child and exits
/// with its exit code (128 plus the signal's number when a signal ended it). Must be the first
/// thing in `main`: no other thread may run yet.
pub fn run_if_pid1() {
    if getpid().as_raw() != 1 {
        return;
    }
    match run() {
        Ok(code) => std::process::exit(code),
        // /proc may be missing. A server that reaps nothing is better than none.
        Err(error) => eprintln!(
            "comfyui-api: cannot run an init ({error}); orphaned processes will not be reaped"
        ),
    }
}

fn run() -> io::Result<i32> {
    // SIGCHLD may be inherited as ignored, and then no exit would be reported.
    inheritance::clean_signals()?;
    let signals = SigSet::all();
    signals.thread_set_mask()?;
    let started = start_server();
    if started.is_err() {
        SigSet::empty().thread_set_mask()?;
    }
    let server = started?;
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = reap(server) {
                    return Ok(code);
                }
            }
            Ok(signal) if FORWARDED.contains(&signal) => {
                let _ = kill(server, signal);
            }
            Ok(_) | Err(_) => {}
        }
    }
}

fn start_server() -> io::Result<Pid> {
    // By its own name, so that `ps` shows that; a file that was replaced meanwhile is still
    // reachable through /proc.
    let program = std::env::current_exe()
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(|| "/proc/self/exe".into());
    let mut command = Command::new(program);
    let mut arguments = std::env::args_os();
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // A group of its own: Ctrl-C on a terminal reaches only us, and is forwarded once. Twice would
    // mean "exit now".
    command.args(arguments).process_group(0);
    inheritance::start_clean(&mut command);
    let child = command.spawn()?;
    i32::try_from(child.id())
        .map(Pid::from_raw)
        .map_err(io::Error::other)
}

/// Reaps everybody who has ended; the exit code, if the server is among them.
fn reap(server: Pid) -> Option<i32> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == server => code = Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == server => {
                code = Some(128 + signal as i32)
            }
            Ok(WaitStatus::StillAlive) => return code,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return code,
        }
    }
}
