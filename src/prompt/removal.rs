//! Removing the files of a request once it is over: never on the runtime's own threads, and waited for when the server ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

/// How long work is gathered: to wake a thread costs as much as to remove a file.
const GATHERING: Duration = Duration::from_millis(20);

type Work = Box<dyn FnOnce() + Send>;

/// Whoever has files to remove hands the work over here. Cheap to clone.
#[derive(Clone, Default)]
pub struct Removal {
    tasks: TaskTracker,
    gathered: Arc<Mutex<Vec<Work>>>,
}

impl Removal {
    /// Does the work soon; at once where there is no runtime any more.
    pub fn later(&self, work: impl FnOnce() + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else { return work() };
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.push(Box::new(work));
        if gathered.len() > 1 {
            return;
        }
        let all = Arc::clone(&self.gathered);
        let removing = async move {
            sleep(GATHERING).await;
            let work = std::mem::take(&mut *all.lock().unwrap_or_else(PoisonError::into_inner));
            let _ = tokio::task::spawn_blocking(move || work.into_iter().for_each(|work| work())).await;
        };
        drop(self.tasks.spawn_on(removing, &runtime));
    }

    /// At shutdown: waits until everything that was handed over is done, at most so long.
    pub async fn finished(&self, patience: Duration) {
        self.tasks.close();
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
    }
}

impl std::fmt::Debug for Removal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Removal").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}
