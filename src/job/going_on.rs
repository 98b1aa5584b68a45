//! Takes over a prompt of an earlier process that a ComfyUI which is not our child may still have
//! (v2.md, "What survives").

use std::path::PathBuf;
use std::sync::Arc;

use super::cancelling;
use super::cleanup::{Cleaner, Entry, GoingOn, Record};
use crate::comfy::Comfy;
use crate::comfy::client::CallError;
use crate::comfy::pool::Pool;

/// The folders of the earlier process: ComfyUI may read from them until the run is over, so they go
/// with this value.
pub(super) struct OldFolders {
    folders: Vec<PathBuf>,
    cleaner: Cleaner,
    /// Kept until they are removed.
    entry: Arc<Entry>,
}

impl Drop for OldFolders {
    fn drop(&mut self) {
        let (folders, entry) = (std::mem::take(&mut self.folders), self.entry.clone());
        self.cleaner.later(move || {
            for folder in folders {
                let _ = std::fs::remove_dir_all(folder);
            }
            drop(entry);
        });
    }
}

/// The last of its runs that a ComfyUI knows, queued, running or ended, and which that is. Of
/// several, one that does not answer is as one that has lost it.
///
/// # Errors
/// When the only ComfyUI does not answer.
pub(super) async fn still_there(
    pool: &Pool,
    going_on: &GoingOn,
) -> Result<Option<(Comfy, String)>, CallError> {
    for comfy in pool.instances() {
        match known(comfy, going_on).await {
            Ok(Some(run)) => return Ok(Some((comfy.clone(), run))),
            Err(error) if !pool.several() => return Err(error),
            Ok(None) | Err(_) => {}
        }
    }
    Ok(None)
}

async fn known(comfy: &Comfy, going_on: &GoingOn) -> Result<Option<String>, CallError> {
    // Queue before history: what leaves the one in between is in the other.
    let queue = comfy.client.queue().await?;
    for run in going_on.runs.iter().rev() {
        let mut queued = queue.running.iter().chain(&queue.pending);
        if queued.any(|queued| queued == run) || comfy.client.history(run).await?.is_some() {
            return Ok(Some(run.clone()));
        }
    }
    Ok(None)
}

/// Notes of this process what that one had noted, which is forgotten.
pub(super) async fn take_over(
    cleaner: &Cleaner,
    going_on: GoingOn,
    entry: &Arc<Entry>,
    run: Option<&str>,
) -> OldFolders {
    let old = OldFolders {
        folders: going_on.folders.clone(),
        cleaner: cleaner.clone(),
        entry: entry.clone(),
    };
    let (entry, run) = (entry.clone(), run.map(str::to_owned));
    let noting = move || {
        for dir in &going_on.folders {
            entry.note(&Record::Inputs { dir: dir.clone() });
        }
        if let Some(id) = run {
            entry.note(&Record::Run { id });
        }
        going_on.done();
    };
    let _ = tokio::task::spawn_blocking(noting).await;
    old
}

/// Nobody wants it any more: it is taken out of ComfyUI, and its folders go.
pub(super) async fn let_go(pool: &Pool, going_on: GoingOn) {
    for comfy in pool.instances() {
        for run in &going_on.runs {
            cancelling::abandon(comfy, run).await;
        }
    }
    let _ = tokio::task::spawn_blocking(move || {
        going_on.sweep();
        going_on.done();
    })
    .await;
}
