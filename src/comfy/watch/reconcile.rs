//! The slow look at ComfyUI's queue and history: one pair of calls for all prompts in flight, none
//! when nothing is.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::warn;

use super::super::client::CallError;
use super::{Inner, WatchEvent};
use crate::error::{Code, Failure};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);
/// While the socket says nothing at all although prompts are in flight, it may be deaf or gone:
/// look more often.
const LONGEST_WHEN_QUIET: Duration = Duration::from_secs(2);
/// Entries asked for one by one in a look, while the queue cannot be read.
const ENTRIES_PER_LOOK: usize = 20;
/// An end is on the socket milliseconds around its appearance in history. What is not told by then
/// will not be.
const SOCKET_LAG: Duration = Duration::from_millis(300);

/// Looks for ever, but only while something is in flight.
pub(super) async fn keep(inner: &Inner) {
    let mut interval = FIRST;
    loop {
        if awaited(inner).is_empty() {
            inner.wake.notified().await;
            interval = FIRST;
        }
        tokio::select! {
            () = sleep(interval) => {}
            // What happened while there was no socket is found here and nowhere else.
            () = inner.look.notified() => interval = FIRST,
        }
        pass(inner).await;
        let quiet = inner.last_message.lock().elapsed() > interval;
        interval = (interval * 3 / 2).min(if quiet { LONGEST_WHEN_QUIET } else { LONGEST });
    }
}

/// Prompts that ComfyUI has accepted and whose end has not been told.
fn awaited(inner: &Inner) -> Vec<String> {
    let prompts = inner.prompts.lock();
    let mut awaited: Vec<(Instant, &String)> = prompts
        .iter()
        .filter(|(_, watched)| !watched.ended)
        .filter_map(|(id, watched)| Some((watched.submitted?, id)))
        .collect();
    awaited.sort_unstable();
    awaited.into_iter().map(|(_, id)| id.clone()).collect()
}

/// One look. The queue is asked first: a prompt that is in neither answer then is in neither for
/// good.
async fn pass(inner: &Inner) {
    let watched = awaited(inner);
    if watched.is_empty() {
        return;
    }
    let asked = Instant::now();
    let queue = match inner.client.queue().await {
        Ok(queue) => queue,
        // A proxy, or a node that took the route: only history can tell of an end then.
        Err(CallError::Unexpected { .. }) => return look_into_history(inner, watched).await,
        // When ComfyUI does not answer, whoever supervises it will find out.
        Err(CallError::Unreachable { .. }) => return,
    };
    let queued: HashSet<&String> = queue.running.iter().chain(&queue.pending).collect();
    let (there, gone): (Vec<&String>, Vec<&String>) =
        watched.iter().partition(|id| queued.contains(id));
    for id in there {
        if let Some(watched) = inner.prompts.lock().get_mut(id) {
            watched.alive = Some(asked);
            if !watched.started && !watched.told_running && queue.running.contains(id) {
                watched.told_running = true;
                watched.tell(WatchEvent::Running);
            }
        }
    }
    if gone.is_empty() {
        return;
    }
    sleep(SOCKET_LAG).await;
    let told: HashSet<String> = awaited(inner).into_iter().collect();
    let mut deaf = false;
    for id in gone.into_iter().filter(|id| told.contains(*id)) {
        // Out of the queue and not told is so rare that asking for single entries is cheaper than
        // all of history with its graphs.
        let answer = inner.client.history(id).await;
        deaf |= !matches!(answer, Ok(None)) && should_have_been_told(inner, id);
        let how = match answer {
            Ok(Some(entry)) => WatchEvent::Ended(Some(entry)),
            // An answer that cannot be read: it is over all the same, and what the socket told has
            // to do.
            Err(CallError::Unexpected { .. }) => WatchEvent::Ended(None),
            Err(CallError::Unreachable { .. }) => return,
            Ok(None) => WatchEvent::Lost {
                failure: Failure::new(
                    Code::ComfyuiUnavailable,
                    "the prompt was lost by ComfyUI: it is neither in its queue nor in its \
                     history (was ComfyUI restarted, or its queue cleared?); send it again",
                ),
                dead: false,
                wished: false,
                began: false,
            },
        };
        if let Some(watched) = inner.prompts.lock().get_mut(id) {
            watched.end(how);
        }
    }
    if deaf {
        warn!(
            instance = inner.label,
            "the websocket to ComfyUI is open but reports nothing; replacing it"
        );
        inner.deaf.notify_one();
    }
}

/// Ends what history has; says nothing of the rest.
async fn look_into_history(inner: &Inner, mut watched: Vec<String>) {
    watched.truncate(ENTRIES_PER_LOOK);
    for id in watched {
        if let Ok(Some(entry)) = inner.client.history(&id).await
            && let Some(watched) = inner.prompts.lock().get_mut(&id)
        {
            watched.end(WatchEvent::Ended(Some(entry)));
        }
    }
}

/// Whether the socket that stands now must have reported the end of a prompt: it belongs to the
/// prompt, and stood before the end.
fn should_have_been_told(inner: &Inner, id: &str) -> bool {
    let since = *inner.connected_since.lock();
    let current = inner.client_id.lock().clone();
    let prompts = inner.prompts.lock();
    let Some(watched) = prompts.get(id) else {
        return false;
    };
    watched.client_id == current
        && since
            .zip(watched.alive)
            .is_some_and(|(since, alive)| since < alive)
}
