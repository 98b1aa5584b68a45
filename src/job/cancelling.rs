//! Taking a prompt out of ComfyUI, wherever it is there (prompt.md, section 6).

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::comfy::Comfy;
use crate::comfy::client::CallError;
use crate::comfy::fault::Fault;
use crate::comfy::watch::{WatchEvent, Watcher};
use crate::net::retry::Pauses;

/// How long a cancelled prompt waits for a ComfyUI that does not answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the same is tried for a prompt that nobody waits for any more.
const BACKGROUND_PATIENCE: Duration = Duration::from_secs(600);

/// What came of cancelling.
pub(super) enum Cancelled {
    /// It is gone, with its history entry if it left one.
    Gone(Option<Value>),
    /// ComfyUI does not answer.
    Unanswered,
}

/// Cancels wherever it is, until it is gone: it may move from pending to running in between, and an
/// interrupt at the very start of a run is lost (comfyui.md 5.3).
pub(super) async fn cancel(comfy: &Comfy, id: &str) -> Cancelled {
    cancel_within(comfy, id, PATIENCE).await
}

async fn cancel_within(comfy: &Comfy, id: &str, patience: Duration) -> Cancelled {
    let mut pauses = Pauses::new(Duration::from_millis(20), Duration::from_secs(1));
    let mut answered = Instant::now();
    while answered.elapsed() < patience {
        match timeout(PATIENCE, try_cancel(comfy, id)).await {
            Ok(Ok(Some(gone))) => return Cancelled::Gone(gone),
            Ok(Ok(None)) => answered = Instant::now(),
            Ok(Err(_)) | Err(_) => {}
        }
        pauses.wait().await;
    }
    Cancelled::Unanswered
}

/// One try: `Some` when the prompt is gone, with its history entry if it has one.
async fn try_cancel(comfy: &Comfy, id: &str) -> Result<Option<Option<Value>>, CallError> {
    let atomic = if comfy.catalogue().has_jobs {
        comfy.client.cancel_job(id).await?
    } else {
        None
    };
    if atomic.is_none() {
        comfy.client.delete_pending(id).await?;
        comfy.client.interrupt(id).await?;
    }
    // Queue before history: what is in neither then is gone for good.
    let queue = comfy.client.queue().await?;
    if queue
        .running
        .iter()
        .chain(&queue.pending)
        .any(|queued| queued == id)
    {
        return Ok(None);
    }
    comfy.client.history(id).await.map(Some)
}

/// Cancels what nobody follows and has ComfyUI forget it; returns what its history said of it.
pub(super) async fn abandon(comfy: &Comfy, id: &str) -> Option<Value> {
    let Cancelled::Gone(entry) = cancel(comfy, id).await else {
        return None;
    };
    if entry.is_some() {
        let _ = comfy.client.forget(&[id.to_owned()]).await;
    }
    entry
}

/// ComfyUI does not end a run that was cancelled long ago.
pub(super) fn report_hang(comfy: &Comfy) {
    comfy.faults.report(Fault::Hang(format!(
        "ComfyUI has gone on with a cancelled prompt for {} s (COMFYUI_HANG_TIMEOUT_S)",
        comfy.limits.cancelled.as_secs_f64()
    )));
}

/// Takes out a prompt that nobody follows any more: cancelled until it is gone, however long its
/// node takes, then forgotten. `cleanup_guard` is dropped only then, for until then the run may
/// write files.
///
/// A run that goes on for longer than `limit` is reported as a ComfyUI that hangs.
pub(super) fn let_go(
    comfy: &Comfy,
    mut watcher: Watcher,
    cleanup_guard: Arc<dyn Any + Send + Sync>,
    limit: Option<Duration>,
) {
    let comfy = comfy.clone();
    tokio::spawn(async move {
        let id = watcher.id.clone();
        let ended = async {
            loop {
                if matches!(
                    watcher.next().await,
                    WatchEvent::Ended(_) | WatchEvent::Lost { .. }
                ) {
                    return;
                }
            }
        };
        let overdue = async {
            if let Some(limit) = limit {
                sleep(limit).await;
                report_hang(&comfy);
            }
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = ended => {}
            () = overdue => {}
            _ = cancel_within(&comfy, &id, BACKGROUND_PATIENCE) => {}
        }
        let _ = comfy.client.forget(&[id]).await;
        drop(cleanup_guard);
    });
}
