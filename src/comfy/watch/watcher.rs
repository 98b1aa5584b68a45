//! Follows one prompt.

use std::sync::Arc;
use std::time::Instant;

use super::{Watch, WatchEvent};
use crate::error::Failure;
use crate::mailbox::Mailbox;

/// One watched prompt; dropping it ends the watch.
pub struct Watcher {
    /// ComfyUI's id of the prompt: a UUID of ours.
    pub id: String,
    /// To be sent as `client_id`, so that messages come to our socket.
    pub client_id: String,
    pub(super) watch: Watch,
    pub(super) happenings: Arc<Mailbox<WatchEvent>>,
}

impl Watcher {
    /// ComfyUI has accepted the prompt.
    pub fn submitted(&self) {
        if let Some(watched) = self.watch.inner.prompts.lock().get_mut(&self.id) {
            watched.submitted = Some(Instant::now());
            watched.alive = watched.submitted;
        }
        self.watch.inner.wake.notify_one();
    }

    /// The next happening. Never ends by itself: an end comes as [`WatchEvent::Ended`] or
    /// [`WatchEvent::Lost`]. Cancel-safe.
    pub async fn next(&mut self) -> WatchEvent {
        self.happenings.next().await
    }

    /// Why the prompt will never end, once that is known. Cancel-safe, but other happenings are
    /// skipped.
    pub async fn lost(&mut self) -> Failure {
        loop {
            if let WatchEvent::Lost { failure, .. } = self.next().await {
                return failure;
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.watch.inner.prompts.lock().remove(&self.id);
    }
}
