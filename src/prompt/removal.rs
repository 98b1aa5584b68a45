//! Removing the files of a request once it is over: never on the runtime's own threads, and waited for when the server ends.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Whoever has files to remove hands the work over here. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Removal {
    tasks: TaskTracker,
}

impl Removal {
    /// Does the work soon; at once where there is no runtime any more.
    pub fn later(&self, work: impl FnOnce() + Send + 'static) {
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
