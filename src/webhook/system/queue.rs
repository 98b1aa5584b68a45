//! The bounded queue of system events and its drop rule (events.md).
//!
//! Adding takes constant time, whatever is queued: the websocket reader does it. Three lists share
//! one numbering: picture previews, the other events that may be dropped, and those that are kept.
//! The next event is the one with the lowest number.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use crate::events::SystemEvent;

/// From this length on, events of the droppable kinds make room.
pub const LENGTH: usize = 1_000;
/// Events that are kept may grow the queue up to this; beyond it the oldest goes, for memory is
/// finite.
pub const LENGTH_OF_KEPT: usize = 10_000;
/// A preview may be a picture of a megabyte: their text in the queue is bounded too, in bytes.
const PREVIEW_BYTES: usize = 32 << 20;

const PREVIEWS: usize = 0;
const DROPPABLE: usize = 1;
const KEPT: usize = 2;

/// Whether events of this name may be dropped.
pub fn is_droppable(name: &str) -> bool {
    class(name) != KEPT
}

fn class(name: &str) -> usize {
    match name {
        "binary_preview" => PREVIEWS,
        "progress" | "progress_state" | "status" => DROPPABLE,
        _ => KEPT,
    }
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    lists: [VecDeque<(u64, Arc<SystemEvent>)>; 3],
    next: u64,
    preview_bytes: usize,
}

impl Queue {
    /// Events in the queue.
    pub fn len(&self) -> usize {
        self.lists.iter().map(VecDeque::len).sum()
    }

    /// Adds an event and returns what had to go for it, which may be the event itself.
    pub fn push(&mut self, event: Arc<SystemEvent>) -> Option<Arc<SystemEvent>> {
        let class = class(&event.name);
        self.lists[class].push_back((self.next, Arc::clone(&event)));
        self.next += 1;
        if class == PREVIEWS {
            self.preview_bytes += size_of_preview(&event);
            // One preview is always allowed, whatever its size.
            if self.preview_bytes > PREVIEW_BYTES && self.lists[PREVIEWS].len() > 1 {
                return self.take(PREVIEWS);
            }
        }
        if self.len() <= LENGTH {
            return None;
        }
        match self.oldest(&[PREVIEWS, DROPPABLE]) {
            Some(list) => self.take(list),
            None if self.lists[KEPT].len() > LENGTH_OF_KEPT => self.take(KEPT),
            None => None,
        }
    }

    /// The next event.
    pub fn pop(&mut self) -> Option<Arc<SystemEvent>> {
        let list = self.oldest(&[PREVIEWS, DROPPABLE, KEPT])?;
        self.take(list)
    }

    fn oldest(&self, lists: &[usize]) -> Option<usize> {
        let fronts = lists.iter().filter_map(|list| {
            self.lists[*list]
                .front()
                .map(|(number, _)| (*number, *list))
        });
        fronts.min().map(|(_, list)| list)
    }

    fn take(&mut self, list: usize) -> Option<Arc<SystemEvent>> {
        let (_, event) = self.lists[list].pop_front()?;
        if list == PREVIEWS {
            self.preview_bytes -= size_of_preview(&event);
        }
        Some(event)
    }
}

/// The picture is all that counts: `{type, data: {prompt_id, image_type, image_data}}`.
fn size_of_preview(event: &SystemEvent) -> usize {
    event
        .data
        .pointer("/data/image_data")
        .and_then(Value::as_str)
        .map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::events::Source;

    fn event(name: &str, n: usize) -> Arc<SystemEvent> {
        Arc::new(SystemEvent {
            source: Source::Comfy,
            name: name.into(),
            data: Arc::new(json!(n)),
            prompt: None,
        })
    }

    fn drained(queue: &mut Queue) -> Vec<(String, u64)> {
        std::iter::from_fn(|| queue.pop())
            .map(|event| (event.name.to_string(), event.data.as_u64().unwrap()))
            .collect()
    }

    #[test]
    fn the_oldest_droppable_goes_first_and_order_is_kept() {
        let mut queue = Queue::default();
        for n in 0..LENGTH {
            let name = ["executed", "progress", "status", "executing"][n % 4];
            assert!(queue.push(event(name, n)).is_none());
        }
        assert_eq!(
            queue.push(event("executed", 5000)).unwrap().data,
            json!(1).into()
        );
        assert_eq!(
            queue.push(event("progress", 5001)).unwrap().data,
            json!(2).into()
        );
        assert_eq!(queue.len(), LENGTH);
        let numbers: Vec<u64> = drained(&mut queue).into_iter().map(|(_, n)| n).collect();
        assert!(numbers.is_sorted());
        assert_eq!(numbers[..3], [0, 3, 4]);
    }

    #[test]
    fn kept_events_outgrow_the_queue_up_to_a_bound() {
        let mut queue = Queue::default();
        for n in 0..LENGTH_OF_KEPT {
            assert!(queue.push(event("executed", n)).is_none());
        }
        assert_eq!(
            queue.push(event("progress", 7)).unwrap().data,
            json!(7).into(),
            "nothing else may go"
        );
        assert_eq!(
            queue.push(event("execution_success", 8)).unwrap().data,
            json!(0).into()
        );
        assert_eq!(
            drained(&mut queue).last().unwrap(),
            &("execution_success".to_owned(), 8)
        );
    }

    #[test]
    fn previews_are_bounded_in_bytes() {
        let mut queue = Queue::default();
        let picture = "x".repeat(PREVIEW_BYTES / 2);
        let preview = || {
            let data = json!({"data": {"image_data": picture}});
            Arc::new(SystemEvent {
                source: Source::Comfy,
                name: "binary_preview".into(),
                data: Arc::new(data),
                prompt: None,
            })
        };
        assert!(queue.push(preview()).is_none() && queue.push(preview()).is_none());
        assert!(queue.push(preview()).is_some());
        assert_eq!(queue.len(), 2);
        while queue.pop().is_some() {}
        assert_eq!(queue.preview_bytes, 0);
    }
}
