//! What is done once there is nothing to do, and now and then while prompts wait: memory that
//! prompts have used goes back to the system, for ComfyUI needs it.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::job::Service;
use crate::{allocator, mapped_code};

/// After the last prompt has ended.
const SOON: Duration = Duration::from_secs(2);
/// After that: the threads for blocking work, which end after 10 s, have let go of what they kept
/// for themselves.
const LATER: Duration = Duration::from_secs(11);
/// While prompts are in flight: thousands may wait in ComfyUI's queue for an hour. What runs is back
/// within a millisecond.
const WHILE_BUSY: Duration = Duration::from_secs(5);
/// The start has done by then what it needs the most code for.
const STARTED: Duration = Duration::from_millis(500);

/// Runs for ever; costs next to nothing while prompts are in flight, and nothing while there are
/// none.
pub(super) async fn give_memory_back(service: Service) {
    sleep(STARTED).await;
    beside(mapped_code::let_go).await;
    // The start leaves as much behind as prompts do: certificates, the list of ComfyUI's nodes.
    loop {
        while_idle(&service).await;
        while_busy(&service).await;
    }
}

/// Gives back what there is, until a prompt comes.
async fn while_idle(service: &Service) {
    sleep(SOON).await;
    let mut moves = service.moves();
    if service.in_flight() > 0 {
        return;
    }
    beside(allocator::collect).await;
    if timeout(LATER, moves.changed()).await.is_ok() {
        return;
    }
    beside(allocator::collect).await;
    // Not between two prompts that follow soon: the next one would fetch it back.
    beside(mapped_code::let_go).await;
    let _ = moves.changed().await;
}

/// Gives back what the coming of many has needed, until the last of them has gone.
async fn while_busy(service: &Service) {
    while service.in_flight() > 0 {
        if timeout(WHILE_BUSY, service.emptied()).await.is_err() {
            beside(allocator::collect).await;
            beside(mapped_code::let_go).await;
        }
    }
}

/// Does what takes milliseconds beside the runtime.
async fn beside(work: fn()) {
    let _ = tokio::task::spawn_blocking(work).await;
}
