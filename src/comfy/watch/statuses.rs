//! `status` messages belong to no prompt: they go to all that are streamed.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::{Inner, WatchEvent, Watched};
use crate::comfy::message::TextMessage;

/// To so many each one goes at once.
const FEW: usize = 16;
/// Among so many prompts the streamed ones are looked for now and then only.
const MANY: usize = 500;
/// A crowd gets the newest so often: ComfyUI sends one for each prompt that comes or goes, and two
/// thousand streams of each would take more than the prompts.
const OFTEN: Duration = Duration::from_secs(1);

impl Inner {
    /// Tells one to all that are streamed, now or, if they are many, soon.
    pub(super) fn route_status(&self, message: TextMessage, prompts: &HashMap<String, Watched>) {
        if prompts.len() > MANY || streamed(prompts).nth(FEW).is_some() {
            self.statuses.put_after(message, VecDeque::clear);
            return;
        }
        // What waits is older.
        self.statuses.take();
        tell(&message, prompts);
    }
}

/// Tells a crowd the newest.
pub(super) async fn keep(inner: &Inner) {
    loop {
        inner.statuses.until_any(|_| true).await;
        tell_newest(inner);
        sleep(OFTEN).await;
    }
}

/// Taken where none can come meanwhile: a later one is never told before it.
fn tell_newest(inner: &Inner) {
    let prompts = inner.prompts.lock();
    if let Some(newest) = inner.statuses.take() {
        tell(&newest, &prompts);
    }
}

fn tell(message: &TextMessage, prompts: &HashMap<String, Watched>) {
    for watched in streamed(prompts) {
        watched.tell(WatchEvent::Message(message.clone()));
    }
}

fn streamed(prompts: &HashMap<String, Watched>) -> impl Iterator<Item = &Watched> {
    let each = prompts.values();
    each.filter(|watched| watched.wants_status.load(Ordering::Relaxed))
}
