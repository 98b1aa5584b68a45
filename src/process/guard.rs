//! A small process of our own that ends our children's process groups when we are gone, however
//! that came (attack.md, A45).
//!
//! The kernel's parent-death signal reaches a start script and not what it has started, and no
//! handler of ours runs when we are killed. The guard waits at a pipe whose other end only we hold.
//! Groups are written into it when they begin and when they have ended; when the pipe closes, it
//! kills those that are left and goes.
#![expect(
    unsafe_code,
    reason = "a fork has no safe form; the guard only makes system calls that are \
              async-signal-safe, and allocates nothing"
)]

use std::io::{self, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use nix::libc;
use nix::unistd::{ForkResult, fork};
use parking_lot::Mutex;

use super::group::ProcessGroup;

/// Groups that the guard can hold; more are not guarded.
const ROOM: usize = 256;

/// Our end of the pipe; `None` when there is no guard.
static GUARD: OnceLock<Option<Mutex<PipeWriter>>> = OnceLock::new();

/// A group that ends with us. Dropping it when the group has ended takes it off the guard's list.
#[derive(Debug)]
pub(crate) struct Guarded(i32);

/// Has a group killed when this process ends in whatever way. `None` when that cannot be had; the
/// group lives on then.
pub(crate) fn protect(group: ProcessGroup) -> Option<Guarded> {
    let number = group.0.as_raw();
    tell(number).then_some(Guarded(number))
}

impl Drop for Guarded {
    fn drop(&mut self) {
        tell(-self.0);
    }
}

fn tell(number: i32) -> bool {
    let guard = GUARD.get_or_init(|| match start() {
        Ok(pipe) => Some(Mutex::new(pipe)),
        Err(error) => {
            tracing::warn!(
                %error,
                "no guard: what ComfyUI's start script has started survives when this server is \
                 killed"
            );
            None
        }
    });
    guard.as_ref().is_some_and(|pipe| {
        // Four bytes are written at once or not at all.
        pipe.lock().write_all(&number.to_ne_bytes()).is_ok()
    })
}

fn start() -> io::Result<PipeWriter> {
    let (reader, writer) = io::pipe()?;
    // SAFETY: the child calls `watch` and nothing else, which keeps to what is allowed between fork
    // and exec.
    match unsafe { fork() }.map_err(io::Error::from)? {
        ForkResult::Parent { .. } => Ok(writer),
        ForkResult::Child => watch(reader.as_raw_fd()),
    }
}

/// The guard's whole life.
fn watch(pipe: i32) -> ! {
    // SAFETY: system calls with plain numbers and buffers on the stack.
    unsafe {
        // Signals to our group or terminal are not meant for it.
        libc::setpgid(0, 0);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
            libc::signal(signal, libc::SIG_IGN);
        }
        libc::prctl(libc::PR_SET_NAME, c"comfyui-guard".as_ptr());
        // Whatever else we had open would stay open with it: the other end of the pipe first of
        // all.
        if libc::dup2(pipe, 0) < 0 {
            libc::_exit(1);
        }
        let closed = libc::syscall(libc::SYS_close_range, 1_u32, u32::MAX, 0_u32);
        if closed != 0 {
            for descriptor in 1..65_536 {
                libc::close(descriptor);
            }
        }
        let mut groups = [0_i32; ROOM];
        loop {
            let mut message = [0_u8; 4];
            let read = libc::read(0, message.as_mut_ptr().cast(), 4);
            if read == 4 {
                note(&mut groups, i32::from_ne_bytes(message));
            } else if read == 0 || *libc::__errno_location() != libc::EINTR {
                break;
            }
        }
        for group in groups {
            if group > 0 {
                libc::kill(-group, libc::SIGKILL);
            }
        }
        libc::_exit(0)
    }
}

/// Puts a group on the list, or takes a negative one off it.
fn note(groups: &mut [i32; ROOM], number: i32) {
    let (wanted, put) = if number > 0 {
        (0, number)
    } else {
        (number.wrapping_neg(), 0)
    };
    if let Some(place) = groups.iter_mut().find(|group| **group == wanted) {
        *place = put;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_put_on_the_list_and_taken_off() {
        let mut groups = [0; ROOM];
        for number in [5, 6, -5, 7, -9, -6] {
            note(&mut groups, number);
        }
        assert_eq!(
            groups
                .iter()
                .filter(|group| **group != 0)
                .collect::<Vec<_>>(),
            [&7]
        );
    }
}
