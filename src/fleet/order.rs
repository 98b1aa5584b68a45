//! What comes of one task from two queues, in the order in which it was sent. Between two queues
//! there is none, so each message says how many of the other one come before it; those for streams
//! say their own number, too, because some of them may be dropped on the way.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

/// What was to come before has not come for so long: it was told to the process before, or is lost.
const HOLDING: Duration = Duration::from_secs(1);

/// Which queue a message came from, and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// For streams alone: its number, and how many lasting ones come before it.
    Stream { number: u32, after: u32 },
    /// Of the queue that loses none: how many for streams come before it.
    Lasting { after: u32 },
}

/// A message that is shown: its kind and its data.
pub(super) type Shown = (String, Value);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Who counts.
    instance: String,
    /// How far each queue has been shown.
    streamed: u32,
    lasted: u32,
    streams: VecDeque<Held>,
    lasting: VecDeque<Held>,
}

#[derive(Debug)]
struct Held {
    number: u32,
    after: u32,
    since: Instant,
    shown: Shown,
}

impl Order {
    /// The order of an instance: another one counts anew.
    pub(super) fn of(&mut self, instance: &str) -> &mut Self {
        if self.instance != instance {
            *self = Self {
                instance: instance.to_owned(),
                ..Self::default()
            };
        }
        self
    }

    /// One more; those whose turn has come with it.
    pub(super) fn take(&mut self, place: Place, shown: Shown, now: Instant) -> Vec<Shown> {
        let held = |number, after| Held {
            number,
            after,
            since: now,
            shown,
        };
        match place {
            Place::Stream { number, after } => self.streams.push_back(held(number, after)),
            Place::Lasting { after } => self.lasting.push_back(held(0, after)),
        }
        self.due(now)
    }

    /// All that wait for their turn, as it would have been.
    pub(super) fn all(&mut self) -> Vec<Shown> {
        let waiting = self.streams.iter().chain(&self.lasting);
        let newest = waiting.map(|one| one.since).max();
        newest.map_or_else(Vec::new, |newest| self.due(newest + HOLDING))
    }

    /// Those whose turn has come, or that have waited for it long enough.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Shown> {
        let mut due = Vec::new();
        while let Some(stream_is_next) = self.next(now) {
            if stream_is_next {
                let Some(stream) = self.streams.pop_front() else {
                    break;
                };
                // What it should have come before has been shown.
                if stream.number > 0 && stream.number <= self.streamed {
                    continue;
                }
                self.streamed = self.streamed.max(stream.number);
                self.lasted = self.lasted.max(stream.after);
                due.push(stream.shown);
            } else {
                let Some(lasting) = self.lasting.pop_front() else {
                    break;
                };
                self.lasted = self.lasted.saturating_add(1);
                self.streamed = self.streamed.max(lasting.after);
                due.push(lasting.shown);
            }
        }
        due
    }

    /// Whether the first of the streams is next, or the first of the others; `None`: neither yet.
    /// Each queue keeps its own order, so where both have one, nothing is missing between them.
    fn next(&self, now: Instant) -> Option<bool> {
        let late = |one: &Held| now.duration_since(one.since) >= HOLDING;
        match (self.streams.front(), self.lasting.front()) {
            (Some(stream), Some(lasting)) if stream.number > 0 => {
                Some(stream.number <= lasting.after)
            }
            (Some(stream), Some(_)) => Some(stream.after <= self.lasted),
            (Some(stream), None) => (stream.after <= self.lasted || late(stream)).then_some(true),
            (None, Some(lasting)) => {
                (lasting.after <= self.streamed || late(lasting)).then_some(false)
            }
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(name: &str) -> Shown {
        (name.to_owned(), json!({}))
    }

    fn names(shown: Vec<Shown>) -> Vec<String> {
        shown.into_iter().map(|(name, _)| name).collect()
    }

    fn stream(number: u32, after: u32) -> Place {
        Place::Stream { number, after }
    }

    fn lasting(after: u32) -> Place {
        Place::Lasting { after }
    }

    #[test]
    fn messages_of_two_queues_are_shown_as_they_were_sent() {
        let now = Instant::now();
        let sent = [
            (stream(1, 0), "executing 1"),
            (stream(2, 0), "progress 1"),
            (lasting(2), "executed 1"),
            (stream(3, 1), "executing 2"),
            (lasting(3), "executed 2"),
        ];
        let all: Vec<&str> = sent.iter().map(|(_, name)| *name).collect();
        // However far one queue is before the other.
        for order in [
            [0, 1, 2, 3, 4],
            [2, 4, 0, 1, 3],
            [0, 1, 3, 2, 4],
            [2, 0, 4, 1, 3],
        ] {
            let mut together = Order::default();
            let mut got = Vec::new();
            for index in order {
                let (place, name) = sent[index];
                got.extend(names(together.take(place, shown(name), now)));
            }
            assert_eq!(got, all, "{order:?}");
        }
    }

    #[test]
    fn what_is_lost_is_waited_for_and_what_comes_too_late_is_not_shown() {
        let now = Instant::now();
        let mut order = Order::default();
        assert!(order.take(lasting(2), shown("executed"), now).is_empty());
        assert!(order.due(now + HOLDING / 2).is_empty());
        assert_eq!(names(order.due(now + HOLDING)), ["executed"]);
        assert!(order.take(stream(2, 0), shown("progress"), now).is_empty());
        // One that was dropped is not waited for when a later one has come.
        let mut dropped = order.take(stream(5, 1), shown("later"), now);
        dropped.extend(order.take(lasting(5), shown("executed"), now));
        assert_eq!(names(dropped), ["later", "executed"]);
        // What was told to the process before.
        let mut order = Order::default();
        assert!(order.take(stream(9, 4), shown("next"), now).is_empty());
        assert_eq!(names(order.due(now + HOLDING)), ["next"]);
        assert_eq!(
            names(order.take(stream(10, 4), shown("at once"), now)),
            ["at once"]
        );
    }

    #[test]
    fn at_the_end_nothing_waits_any_more() {
        let now = Instant::now();
        let mut order = Order::default();
        assert!(order.take(stream(8, 3), shown("progress"), now).is_empty());
        assert_eq!(names(order.all()), ["progress"]);
        assert!(order.take(lasting(9), shown("executed"), now).is_empty());
        assert_eq!(names(order.all()), ["executed"]);
        assert!(order.all().is_empty());
    }

    #[test]
    fn each_instance_counts_for_itself() {
        let now = Instant::now();
        let mut order = Order::default();
        order.of("one").take(stream(50, 0), shown("a"), now);
        let second = order.of("two").take(stream(1, 0), shown("b"), now);
        assert_eq!(names(second), ["b"]);
    }

    /// An instance that does not number them.
    #[test]
    fn without_numbers_they_are_shown_as_they_come() {
        let now = Instant::now();
        let mut order = Order::default();
        assert_eq!(names(order.take(stream(0, 0), shown("a"), now)), ["a"]);
        assert_eq!(names(order.take(lasting(0), shown("b"), now)), ["b"]);
        assert_eq!(names(order.take(stream(0, 1), shown("c"), now)), ["c"]);
        assert_eq!(names(order.take(stream(0, 0), shown("d"), now)), ["d"]);
    }
}
