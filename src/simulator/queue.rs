//! Pending, running and finished prompts.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use serde_json::{Map, Value, json};

/// More entries than this are not kept.
const HISTORY_LIMIT: usize = 10_000;

/// A prompt that passed validation.
#[derive(Debug)]
pub struct Item {
    /// Smaller runs first.
    pub number: f64,
    /// Given as a float by the client, and shown as one.
    pub float_number: bool,
    /// The id, whatever the client chose.
    pub prompt_id: String,
    /// The graph.
    pub graph: Value,
    /// `extra_data`, with `client_id`.
    pub extra: Value,
    /// Output nodes to run.
    pub outputs: Vec<String>,
}

impl Item {
    /// The number as JSON.
    pub fn number_json(&self) -> Value {
        number_json(self.number, self.float_number)
    }

    /// `[number, prompt_id, graph, extra_data, [outputs]]`.
    pub fn json(&self) -> Value {
        json!([
            self.number_json(),
            self.prompt_id,
            self.graph,
            self.extra,
            self.outputs
        ])
    }
}

/// A queue number, an integer unless the client gave a float.
pub fn number_json(number: f64, float: bool) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "automatic numbers are small integers"
    )]
    if float {
        json!(number)
    } else {
        json!(number as i64)
    }
}

#[derive(Debug, Clone)]
struct Pending(Arc<Item>, u64);

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Pending {}
impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pending {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0
            .number
            .total_cmp(&other.0.number)
            .then_with(|| self.0.prompt_id.cmp(&other.0.prompt_id))
            .then_with(|| self.1.cmp(&other.1))
    }
}

/// A finished prompt.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What ran.
    pub item: Arc<Item>,
    /// UI outputs by node.
    pub outputs: Map<String, Value>,
    /// `status_str`, `completed`, `messages`.
    pub status: Value,
    /// Which node an output belongs to.
    pub meta: Map<String, Value>,
}

impl Finished {
    /// The history entry.
    pub fn json(&self) -> Value {
        json!({
            "prompt": self.item.json(),
            "outputs": self.outputs,
            "status": self.status,
            "meta": self.meta
        })
    }
}

#[derive(Debug, Default)]
struct Inner {
    pending: BinaryHeap<Reverse<Pending>>,
    running: Option<Arc<Item>>,
    history: BTreeMap<u64, Finished>,
    by_id: HashMap<String, u64>,
    sequence: u64,
    flags: (bool, bool),
    closed: bool,
}

/// What the worker is woken for.
#[derive(Debug)]
pub enum Work {
    /// Run this.
    Prompt(Arc<Item>),
    /// `/free` was called: unload models, drop the cache.
    Free {
        /// Drop the whole node cache.
        cache: bool,
    },
    /// The instance ends.
    End,
}

/// The queue with its history.
#[derive(Debug, Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
}

impl Queue {
    /// Adds a prompt and announces the new length before the worker can. False if two entries
    /// compare equal up to their graphs, where Python raises after adding.
    pub fn put_announced(&self, item: Item, announce: impl FnOnce(usize)) -> bool {
        let mut inner = self.inner.lock();
        let comparable = item.float_number
            && inner.pending.iter().any(|Reverse(other)| {
                other.0.number == item.number && other.0.prompt_id == item.prompt_id
            });
        inner.sequence += 1;
        let sequence = inner.sequence;
        inner
            .pending
            .push(Reverse(Pending(Arc::new(item), sequence)));
        if !comparable {
            announce(inner.pending.len() + usize::from(inner.running.is_some()));
        }
        self.wake.notify_all();
        !comparable
    }

    /// Waits for something to do; a prompt is marked as running.
    pub fn take(&self) -> Work {
        let mut inner = self.inner.lock();
        loop {
            if inner.closed {
                return Work::End;
            }
            if inner.flags != (false, false) {
                let (_, cache) = std::mem::take(&mut inner.flags);
                return Work::Free { cache };
            }
            if let Some(Reverse(Pending(item, _))) = inner.pending.pop() {
                inner.running = Some(Arc::clone(&item));
                return Work::Prompt(item);
            }
            self.wake.wait(&mut inner);
        }
    }

    /// Forgets the running prompt, keeping its entry if there is one.
    pub fn done(&self, finished: Option<Finished>) {
        let mut inner = self.inner.lock();
        inner.running = None;
        let Some(finished) = finished else { return };
        if inner.history.len() > HISTORY_LIMIT
            && let Some((_, oldest)) = inner.history.pop_first()
        {
            inner.by_id.remove(&oldest.item.prompt_id);
        }
        let id = finished.item.prompt_id.clone();
        let place = inner.by_id.get(&id).copied().unwrap_or_else(|| {
            inner.sequence += 1;
            inner.sequence
        });
        inner.by_id.insert(id, place);
        inner.history.insert(place, finished);
    }

    /// Running and pending prompts.
    pub fn remaining(&self) -> usize {
        let inner = self.inner.lock();
        inner.pending.len() + usize::from(inner.running.is_some())
    }

    /// The running prompt, and the pending ones in heap order.
    pub fn snapshot(&self) -> (Option<Arc<Item>>, Vec<Arc<Item>>) {
        let inner = self.inner.lock();
        (
            inner.running.clone(),
            inner
                .pending
                .iter()
                .map(|Reverse(pending)| Arc::clone(&pending.0))
                .collect(),
        )
    }

    /// The id of the running prompt.
    pub fn running_id(&self) -> Option<String> {
        self.inner
            .lock()
            .running
            .as_ref()
            .map(|item| item.prompt_id.clone())
    }

    /// Removes one pending prompt of that id.
    pub fn delete(&self, id: &str) -> bool {
        let mut inner = self.inner.lock();
        let mut items = std::mem::take(&mut inner.pending).into_vec();
        let found = items
            .iter()
            .position(|Reverse(pending)| pending.0.prompt_id == id);
        if let Some(at) = found {
            items.remove(at);
        }
        inner.pending = items.into();
        found.is_some()
    }

    /// Removes every pending prompt.
    pub fn clear(&self) {
        self.inner.lock().pending.clear();
    }

    /// One finished prompt.
    pub fn finished(&self, id: &str) -> Option<Finished> {
        let inner = self.inner.lock();
        inner.history.get(inner.by_id.get(id)?).cloned()
    }

    /// Finished prompts, oldest first. Without an offset, the newest `limit`.
    pub fn history(&self, limit: Option<usize>, offset: Option<usize>) -> Vec<Finished> {
        let inner = self.inner.lock();
        let skip = match (limit, offset) {
            (_, Some(offset)) => offset,
            (Some(limit), None) => inner.history.len().saturating_sub(limit),
            (None, None) => 0,
        };
        inner
            .history
            .values()
            .skip(skip)
            .take(limit.unwrap_or(usize::MAX))
            .cloned()
            .collect()
    }

    /// Forgets a finished prompt.
    pub fn forget(&self, id: &str) {
        let mut inner = self.inner.lock();
        if let Some(place) = inner.by_id.remove(id) {
            inner.history.remove(&place);
        }
    }

    /// Forgets every finished prompt.
    pub fn forget_all(&self) {
        let mut inner = self.inner.lock();
        inner.history.clear();
        inner.by_id.clear();
    }

    /// Asks the worker to free memory.
    pub fn free(&self, models: bool, cache: bool) {
        let mut inner = self.inner.lock();
        inner.flags.0 |= models;
        inner.flags.1 |= cache;
        self.wake.notify_all();
    }

    /// Ends the worker after the prompt it runs.
    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.wake.notify_all();
    }
}
