//! What a process that was killed has left: removed from the disk, let go of in ComfyUI, or taken
//! up again.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Inner, Service};
use crate::comfy::Comfy;
use crate::job::cleanup::{GoingOn, Leftovers};
use crate::job::{cancelling, cleanup, going_on};

/// What a process that was killed has left, until every ComfyUI was asked for it.
pub(super) struct Left {
    pub(super) leftovers: Mutex<Option<Leftovers>>,
    runs: Vec<String>,
    unasked: Mutex<BTreeSet<usize>>,
    temp: Mutex<Vec<PathBuf>>,
}

/// How long ComfyUI is waited for to let go of what a killed process has left in it, before the
/// server is ready.
const LETTING_GO: Duration = Duration::from_secs(15);

impl Service {
    /// At the start, before any prompt: removes what a process that was killed has left of its
    /// prompts on the disk (A44). Those in `goes_on` are spared if they had come as far as ComfyUI:
    /// when they begin here, they are watched on.
    pub async fn remove_leftovers(&self, goes_on: HashSet<String>) {
        let (journal, claims) = (self.inner.journal.clone(), self.inner.claims.clone());
        let removing = tokio::task::spawn_blocking(move || {
            cleanup::remove_files_of_the_dead(&journal, &claims, &goes_on)
        });
        let (left, going_on) = removing.await.ok().unzip();
        for one in going_on.into_iter().flatten() {
            self.inner.put_back_going_on(one);
        }
        let unasked = 0..self.inner.comfy.instances().len();
        let left = left.map(|leftovers: Leftovers| {
            Arc::new(Left {
                runs: leftovers.runs(),
                leftovers: Mutex::new(Some(leftovers)),
                unasked: Mutex::new(unasked.collect()),
                temp: Mutex::default(),
            })
        });
        *self.inner.leftovers.lock() = left;
    }

    /// A ComfyUI answers: what such a process has left in it is taken out, tidied up after and
    /// forgotten. Waits for that, but not long.
    pub async fn forget_leftovers(&self, comfy: &Comfy) {
        let left = self.inner.leftovers.lock().clone();
        let Some(left) = left else { return };
        if !left.unasked.lock().remove(&comfy.index()) {
            return;
        }
        let comfy = comfy.clone();
        let forgetting = tokio::spawn(async move {
            for id in &left.runs {
                let entry = cancelling::abandon(&comfy, id).await;
                if let (Some(entry), Some(known)) = (&entry, &*left.leftovers.lock()) {
                    left.temp.lock().extend(cleanup::temp_files(entry, known));
                }
            }
            if !left.unasked.lock().is_empty() {
                return;
            }
            let finishing = move || {
                for path in std::mem::take(&mut *left.temp.lock()) {
                    let _ = std::fs::remove_file(path);
                }
                if let Some(leftovers) = left.leftovers.lock().take() {
                    leftovers.finish();
                }
            };
            let _ = tokio::task::spawn_blocking(finishing).await;
        });
        let _ = tokio::time::timeout(LETTING_GO, forgetting).await;
    }

    /// Whether ComfyUI may have this prompt since an earlier process.
    pub fn goes_on(&self, id: &str) -> bool {
        self.inner.going_on().contains_key(id)
    }

    /// Whether ComfyUI has it still.
    pub async fn is_still_there(&self, id: &str) -> bool {
        let Some(one) = self.inner.take_going_on(id) else {
            return false;
        };
        let there = going_on::still_there(&self.inner.comfy, &one).await;
        self.inner.put_back_going_on(one);
        there.is_ok_and(|run| run.is_some())
    }

    /// A prompt of an earlier process ends without going on here.
    pub fn lets_go_of(&self, id: &str) {
        if let Some(one) = self.inner.take_going_on(id) {
            let comfy = self.inner.comfy.clone();
            self.inner
                .tasks
                .spawn(async move { going_on::let_go(&comfy, one).await });
        }
    }
}

impl Inner {
    /// What an earlier process has left of this prompt in ComfyUI.
    pub fn take_going_on(&self, id: &str) -> Option<GoingOn> {
        self.going_on().remove(id)
    }

    /// It could not be asked for.
    pub fn put_back_going_on(&self, one: GoingOn) {
        self.going_on().insert(one.id.clone(), one);
    }

    pub(super) fn going_on(&self) -> MutexGuard<'_, HashMap<String, GoingOn>> {
        self.going_on.lock()
    }
}
