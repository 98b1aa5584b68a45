//! Removing the files of a request once it is over: never on the runtime's own threads, and waited
//! for when the server ends.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

type Work = Box<dyn FnOnce() + Send>;

/// Whoever has files to remove hands the work over here. Cheap to clone.
#[derive(Clone, Default)]
pub struct Cleaner {
    tasks: TaskTracker,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Work>,
    /// A thread is at it, and will take what waits: to wake another one costs more than to remove
    /// a file.
    busy: bool,
}

impl Cleaner {
    /// Does the work soon; at once where there is no runtime any more.
    pub fn later(&self, work: impl FnOnce() + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else {
            return work();
        };
        let mut queue = self.queue.lock();
        queue.waiting.push(Box::new(work));
        if !std::mem::replace(&mut queue.busy, true) {
            let queue = Arc::clone(&self.queue);
            drop(
                self.tasks
                    .spawn_blocking_on(move || work_off(&queue), &runtime),
            );
        }
    }

    /// Does work that may take long, such as removing a folder with thousands of files: beside
    /// everything else, so that nothing waits for it.
    pub fn beside(&self, work: impl FnOnce() + Send + 'static) {
        match Handle::try_current() {
            Ok(runtime) => drop(self.tasks.spawn_blocking_on(work, &runtime)),
            Err(_) => work(),
        }
    }

    /// At shutdown: waits until everything that was handed over is done, at most so long.
    pub async fn finished(&self, patience: Duration) {
        self.tasks.close();
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
    }
}

fn work_off(queue: &Mutex<Queue>) {
    loop {
        let work = {
            let mut queue = queue.lock();
            queue.busy = !queue.waiting.is_empty();
            std::mem::take(&mut queue.waiting)
        };
        if work.is_empty() {
            return;
        }
        work.into_iter().for_each(|work| work());
    }
}

impl std::fmt::Debug for Cleaner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cleaner")
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}
