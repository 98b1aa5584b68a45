//! What a child must not inherit from us: ignored signals, a signal mask, and life after our death.
//!
//! With `guard` the only module of the supervisor with `unsafe`: code between fork and exec, and
//! changing signal dispositions.
#![expect(
    unsafe_code,
    reason = "pre_exec and sigaction have no safe form; every call here is async-signal-safe"
)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};
use nix::unistd::{Pid, getpid, getppid};

/// The child starts with default signal dispositions and an empty signal mask. Without this a
/// parent that ignores SIGINT (any background job of a script does) makes a ComfyUI that cannot be
/// stopped properly.
pub(crate) fn start_clean(command: &mut Command) {
    // SAFETY: `clean_signals` only makes system calls that are async-signal-safe and allocates
    // nothing.
    unsafe {
        command.pre_exec(clean_signals);
    }
}

/// The child is killed by the kernel when the **thread** that spawned it ends; see `parent_thread`.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    // SAFETY: as above; `parent` is a plain number.
    unsafe {
        command.pre_exec(move || follow(parent));
    }
}

fn follow(parent: Pid) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died before the call above.
    if getppid() == parent {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(nix::libc::ESRCH))
    }
}

/// Gives every signal its default disposition and unblocks all. For this process: only where no
/// handler is in use yet.
pub(crate) fn clean_signals() -> io::Result<()> {
    for number in Signal::iterator() {
        if matches!(number, Signal::SIGKILL | Signal::SIGSTOP) {
            continue;
        }
        // SAFETY: the default disposition is no function of ours that could run at a bad moment.
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}
