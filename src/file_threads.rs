//! A few threads for work with local files that is over at once: naming what a prompt may write,
//! moving and reading what it has made, removing it.
//!
//! The runtime's own threads for blocking work are made as they are asked for, up to 512. When a
//! thousand prompts come in one moment a hundred of them would be made, each with a stack and a
//! heap of its own, and what a waiting prompt keeps would lie scattered over all of these heaps.
//! Work that may take long (codecs, archives, large copies) goes to the runtime's.

use std::io;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// Enough to keep a disk busy. A network file system that does not answer holds up every prompt,
/// with however many.
const THREADS: usize = 4;

/// A runtime for the sake of its threads: nothing else runs on it. It fails only where the system
/// gives no more file descriptors; the caller's threads have to do then.
static POOL: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_current_thread()
        .thread_name("files")
        .max_blocking_threads(THREADS)
        .build()
});

/// Does the work on one of the threads, with the runtime of the caller.
///
/// # Panics
/// Outside of a runtime.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let runtime = Handle::current();
    match &*POOL {
        Ok(pool) => pool.spawn_blocking(move || {
            // What the work lets go of may spawn tasks.
            let _entered = runtime.enter();
            work()
        }),
        Err(_) => runtime.spawn_blocking(work),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn there_are_few_threads_and_what_they_spawn_runs() {
        let works = (0..200).map(|_| {
            spawn(|| {
                std::thread::sleep(Duration::from_millis(1));
                (std::thread::current().id(), tokio::spawn(async { 7 }))
            })
        });
        let mut threads = HashSet::new();
        for work in works.collect::<Vec<_>>() {
            let (thread, task) = work.await.unwrap();
            threads.insert(thread);
            assert_eq!(task.await.unwrap(), 7);
        }
        assert!(threads.len() <= THREADS, "{threads:?}");
    }
}
