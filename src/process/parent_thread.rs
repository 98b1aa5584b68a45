//! The thread that spawns ComfyUI.
//!
//! Linux sends the parent-death signal when the spawning *thread* ends, not the process. Threads of
//! the runtime's blocking pool end after seconds of idleness, and worker threads end with their
//! runtime, so children are spawned from one thread of our own that lives as long as the process.

use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::{io, thread};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

static JOBS: OnceLock<Sender<Job>> = OnceLock::new();

/// Runs `job` on that thread, within the caller's runtime.
pub(super) async fn run<T: Send + 'static>(
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let runtime = tokio::runtime::Handle::current();
    let (answer, result) = oneshot::channel();
    let job: Job = Box::new(move || {
        let _inside = runtime.enter();
        // Nobody waits any more: the result is dropped, and with it (kill_on_drop) the child.
        let _ = answer.send(job());
    });
    sender()?.send(job).map_err(|_| gone())?;
    result.await.map_err(|_| gone())?
}

fn sender() -> io::Result<&'static Sender<Job>> {
    if let Some(sender) = JOBS.get() {
        return Ok(sender);
    }
    let (sender, jobs) = channel::<Job>();
    thread::Builder::new()
        .name("comfyui-parent".into())
        .spawn(move || jobs.into_iter().for_each(|job| job()))?;
    // Two callers at once: the thread of the one that came too late ends with its channel, unused.
    Ok(JOBS.get_or_init(|| sender))
}

fn gone() -> io::Error {
    io::Error::other("the thread that spawns processes has ended")
}
