//! The child process: spawning ComfyUI, reading its output, waiting until it answers, stopping it.
//!
//! A library without a loop of its own: the start-up code in `app` decides when to spawn, wait,
//! restart and stop. The order is: [`port_in_use`], [`Child::spawn`], [`wait_until_answering`],
//! then a `select!` over [`Child::exited`], the death that [`Child::worker_hints`] hints at, and
//! the wish to stop; [`Backoff`] says how long to wait before the next spawn. [`init`] is for the
//! case that this program is PID 1 of a container.

mod backoff;
mod child;
mod environment;
pub mod init;
mod orphan;
mod output;
mod readiness;
mod threads;

pub use backoff::Backoff;
pub use child::{Child, Exit, SpawnError, kill_running};
pub use environment::ai_dock_environment;
pub use orphan::end_orphans;
pub use output::{OutputLog, OutputTail, forward};
pub use readiness::{NotReady, port_in_use, wait_until_answering};
