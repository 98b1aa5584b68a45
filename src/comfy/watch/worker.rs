//! Whether ComfyUI's only worker thread is dead (comfyui.md, 12.1).
//!
//! Its output may say so, but clients can write into the output too, so a line is never more than a
//! reason to ask.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Watch;

/// Between two looks at the queue.
const LOOK: Duration = Duration::from_secs(1);
/// A worker that has work and shows no sign of it for so long, after such a line, is dead.
const SILENCE: Duration = Duration::from_secs(10);

impl Watch {
    /// Whether the worker is dead, to be asked after its output hinted at it. `false` as soon as
    /// there is proof that it lives: it works, or `intact` says so. While ComfyUI has no work there
    /// is no answer, and nobody is in need of one.
    pub async fn worker_is_dead(&self, intact: impl Fn() -> bool) -> bool {
        let client = &self.inner.client;
        let mut first: Option<(String, Instant)> = None;
        loop {
            if intact() {
                return false;
            }
            // Whether it answers at all is somebody else's question.
            let queue = client.queue().await;
            let head = queue
                .ok()
                .and_then(|mut queue| queue.running.drain(..).chain(queue.pending).next());
            let Some(head) = head else {
                first = None;
                sleep(LOOK).await;
                let mut remaining = self.queue_remaining();
                let _ = remaining.wait_for(|remaining| *remaining > 0).await;
                continue;
            };
            match &first {
                Some((id, _)) if *id != head => return false,
                Some((_, since)) if *self.inner.worked.lock() > *since => return false,
                Some((id, since)) if since.elapsed() >= SILENCE => {
                    return matches!(client.history(id).await, Ok(None));
                }
                Some(_) => {}
                None => first = Some((head, Instant::now())),
            }
            sleep(LOOK).await;
        }
    }
}
