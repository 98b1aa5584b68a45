//! What is done once there is nothing to do: memory that prompts have used goes back to the system,
//! for ComfyUI needs it.

use std::time::Duration;

use tokio::time::sleep;

use crate::allocator;
use crate::job::Service;

/// After the start, and after the last prompt has ended: soon, and once more when the threads for
/// blocking work, which end after 10 s, have let go of what they kept for themselves.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(11)];

/// Runs for ever; costs nothing while prompts are in flight, and nothing while there are none.
pub(super) async fn give_memory_back(service: Service) {
    // The start leaves as much behind as prompts do: certificates, the list of ComfyUI's nodes.
    loop {
        for pause in PAUSES {
            sleep(pause).await;
            if service.in_flight() > 0 {
                break;
            }
            let _ = tokio::task::spawn_blocking(allocator::collect).await;
        }
        service.emptied().await;
    }
}
