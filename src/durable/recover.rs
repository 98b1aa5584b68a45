//! Jobs that are sent to ComfyUI again: after it was lost, and after a restart of this server. One
//! after the other, the oldest first, so that they come into its queue in their old order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{info, warn};

use super::live::{Answer, LiveJob};
use super::{Inner, source_of, supervise};
use crate::health::ComfyState;
use crate::telemetry::trace::{self, Context};

/// A job whose inputs take long does not hold up the others for longer than this.
const HELD_UP: Duration = Duration::from_secs(2);

/// Those that wait for their turn.
#[derive(Debug)]
pub(super) struct Gate {
    waiting: Mutex<BTreeSet<i64>>,
    changed: watch::Sender<u64>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Gate {
    fn enter(&self, seq: i64) {
        self.waiting.lock().insert(seq);
    }

    /// It is in ComfyUI's queue, or will never be: the next may go.
    pub fn sent(&self, seq: i64) {
        if self.waiting.lock().remove(&seq) {
            self.changed.send_modify(|version| *version += 1);
        }
    }

    /// Its place among those that wait.
    pub fn place(&self, seq: i64) -> usize {
        self.waiting.lock().range(..seq).count() + 1
    }

    async fn first(&self, seq: i64) {
        let mut changed = self.changed.subscribe();
        while self
            .waiting
            .lock()
            .first()
            .is_some_and(|first| *first < seq)
        {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Waits until ComfyUI is ready, the folders can be written, and those before have gone. `false`:
/// the server shuts down.
pub(super) async fn turn(inner: &Arc<Inner>, live: &LiveJob) -> bool {
    inner.again.enter(live.record.seq);
    let mut health = inner.health.watch();
    loop {
        {
            let state = health.borrow_and_update();
            if state.draining {
                return false;
            }
            if state.comfy == ComfyState::Ready && state.unwritable.is_none() {
                break;
            }
        }
        if health.changed().await.is_err() {
            return false;
        }
    }
    let seq = live.record.seq;
    inner.again.first(seq).await;
    let inner = inner.clone();
    tokio::spawn(async move {
        tokio::time::sleep(HELD_UP).await;
        inner.again.sent(seq);
    });
    true
}

/// Takes up what the last process has left.
pub(super) async fn take_up(inner: &Arc<Inner>) {
    inner.store.end_abandoned_runs(
        serde_json::json!({
            "code": "shutting_down",
            "message": "the server ended before the run had: send it again",
        })
        .to_string(),
    );
    let unfinished = match inner.store.unfinished().await {
        Ok(unfinished) => unfinished,
        Err(error) => return warn!(%error, "the jobs of the last run cannot be taken up"),
    };
    if unfinished.is_empty() {
        return;
    }
    info!(jobs = unfinished.len(), "taking up jobs of the last run");
    let mut taken = Vec::with_capacity(unfinished.len());
    for record in unfinished {
        inner.again.enter(record.seq);
        let source = source_of(&record.source);
        let live = LiveJob::new(record, source);
        live.decide(Answer::Job);
        // What a lost attempt has made is not part of the result.
        inner.store.withdraw_outputs_later(&live.id);
        drop(inner.store.update_job(&live.id, live.update()));
        inner.live.lock().insert(live.id.clone(), live.clone());
        taken.push(live);
    }
    for live in taken {
        // It belongs where it was submitted, however many processes it takes.
        let context = live.record.trace.as_deref().and_then(Context::from_text);
        trace::with(context, || {
            supervise::start(inner.clone(), live, None, None)
        });
    }
}
