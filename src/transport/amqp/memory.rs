//! What is remembered of tasks that are not here any more, bounded by count and bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

/// A result as it was published.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) routing_key: Arc<str>,
    pub(super) body: Bytes,
}

/// A hash of a task's bytes: an id may be used again for another task.
pub(super) type Fingerprint = u64;

/// Results of recent tasks, so that a redelivered task is answered and not run again. Bodies go
/// first, ids later: an id whose body is gone still tells that its result was confirmed by the
/// broker, so that the task only needs its ack.
#[derive(Debug)]
pub(super) struct ResultCache {
    answers: HashMap<Arc<str>, (Fingerprint, Option<Answer>)>,
    ids: VecDeque<Arc<str>>,
    /// Ids whose bodies are still held, oldest first.
    bodies: VecDeque<Arc<str>>,
    bytes: usize,
    max_ids: usize,
    max_bytes: usize,
}

impl ResultCache {
    pub(super) fn new(max_ids: usize, max_bytes: usize) -> Self {
        Self {
            answers: HashMap::new(),
            ids: VecDeque::new(),
            bodies: VecDeque::new(),
            bytes: 0,
            max_ids,
            max_bytes,
        }
    }

    /// `None`: unknown, or another task had that id. `Some(None)`: answered, the body is gone.
    pub(super) fn get(&self, id: &str, task: Fingerprint) -> Option<Option<Answer>> {
        self.answers
            .get(id)
            .filter(|(known, _)| *known == task)
            .map(|(_, answer)| answer.clone())
    }

    pub(super) fn insert(&mut self, id: &Arc<str>, task: Fingerprint, answer: Answer) {
        self.forget(id);
        self.bytes += answer.body.len();
        self.answers.insert(Arc::clone(id), (task, Some(answer)));
        self.ids.push_back(Arc::clone(id));
        self.bodies.push_back(Arc::clone(id));
        while self.bytes > self.max_bytes {
            let Some(oldest) = self.bodies.pop_front() else {
                break;
            };
            if let Some((_, slot)) = self.answers.get_mut(&oldest)
                && let Some(answer) = slot.take()
            {
                self.bytes -= answer.body.len();
            }
        }
        while self.ids.len() > self.max_ids {
            let Some(oldest) = self.ids.front().cloned() else {
                break;
            };
            self.forget(&oldest);
        }
    }

    /// The id begins anew.
    pub(super) fn forget(&mut self, id: &str) {
        let Some((_, slot)) = self.answers.remove(id) else {
            return;
        };
        self.ids.retain(|other| **other != *id);
        if let Some(answer) = slot {
            self.bytes -= answer.body.len();
            self.bodies.retain(|other| **other != *id);
        }
    }
}

/// What this process knows of the attempts of tasks whose messages could not be published again
/// with the count.
#[derive(Debug)]
pub(super) struct Attempts {
    counts: HashMap<Arc<str>, u32>,
    order: VecDeque<Arc<str>>,
    max_ids: usize,
}

impl Attempts {
    pub(super) fn new(max_ids: usize) -> Self {
        Self {
            counts: HashMap::new(),
            order: VecDeque::new(),
            max_ids,
        }
    }

    pub(super) fn get(&self, id: &str) -> u32 {
        self.counts.get(id).copied().unwrap_or(0)
    }

    pub(super) fn set(&mut self, id: &Arc<str>, attempts: u32) {
        if self.counts.insert(Arc::clone(id), attempts).is_some() {
            return;
        }
        self.order.push_back(Arc::clone(id));
        if self.order.len() > self.max_ids
            && let Some(oldest) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
    }

    /// The task has ended, or its message has the count.
    pub(super) fn forget(&mut self, id: &str) {
        if self.counts.remove(id).is_some() {
            self.order.retain(|other| **other != *id);
        }
    }
}

/// The ids that tasks without one were given, so that a redelivered one is known again: else it
/// would count as a new task each time, and circle for ever.
#[derive(Debug)]
pub(super) struct IssuedIds {
    given: VecDeque<(Fingerprint, Arc<str>)>,
    max_ids: usize,
}

impl IssuedIds {
    pub(super) fn new(max_ids: usize) -> Self {
        Self {
            given: VecDeque::new(),
            max_ids,
        }
    }

    pub(super) fn note(&mut self, task: Fingerprint, id: &Arc<str>) {
        self.given.push_back((task, Arc::clone(id)));
        if self.given.len() > self.max_ids {
            self.given.pop_front();
        }
    }

    /// An id that these bytes were given before and that is not `taken`. Equal tasks get theirs in
    /// turn.
    pub(super) fn recall(
        &mut self,
        task: Fingerprint,
        taken: impl Fn(&str) -> bool,
    ) -> Option<Arc<str>> {
        let known = self.given.remove(
            self.given
                .iter()
                .position(|(known, id)| *known == task && !taken(id))?,
        )?;
        let id = Arc::clone(&known.1);
        self.given.push_back(known);
        Some(id)
    }

    /// The broker has the answer to that task.
    pub(super) fn forget(&mut self, id: &str) {
        self.given.retain(|(_, known)| **known != *id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(size: usize) -> Answer {
        Answer {
            routing_key: "k".into(),
            body: Bytes::from(vec![0; size]),
        }
    }

    #[test]
    fn bodies_leave_before_ids() {
        let mut recent = ResultCache::new(3, 100);
        let ids: Vec<Arc<str>> = ["a", "b", "c", "d"].map(Arc::from).to_vec();
        recent.insert(&ids[0], 7, answer(60));
        recent.insert(&ids[1], 7, answer(60));
        assert!(
            matches!(recent.get("a", 7), Some(None)) && matches!(recent.get("b", 7), Some(Some(_)))
        );
        assert!(recent.get("b", 8).is_none(), "another task of the same id");
        recent.insert(&ids[1], 7, answer(10));
        assert_eq!(recent.bytes, 10);
        recent.insert(&ids[2], 7, answer(500));
        assert!(
            matches!(recent.get("c", 7), Some(None)),
            "too large to be kept"
        );
        recent.insert(&ids[3], 7, answer(1));
        assert!(recent.get("a", 7).is_none() && recent.get("b", 7).is_some());
        assert_eq!((recent.bytes, recent.ids.len()), (1, 3));
    }

    #[test]
    fn attempts_are_bounded_and_forgotten() {
        let mut attempts = Attempts::new(2);
        let ids: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).to_vec();
        attempts.set(&ids[0], 1);
        attempts.set(&ids[0], 2);
        assert_eq!((attempts.get("a"), attempts.get("b")), (2, 0));
        attempts.forget("a");
        assert_eq!(attempts.get("a"), 0);
        ids.iter().for_each(|id| attempts.set(id, 1));
        assert_eq!((attempts.counts.len(), attempts.get("a")), (2, 0));
    }

    #[test]
    fn equal_tasks_without_ids_are_told_apart() {
        let mut given = IssuedIds::new(3);
        let ids: Vec<Arc<str>> = ["a", "b", "c", "d"].map(Arc::from).to_vec();
        given.note(1, &ids[0]);
        given.note(1, &ids[1]);
        let recalled: Vec<_> = (0..3)
            .map(|_| given.recall(1, |_| false).unwrap())
            .collect();
        assert_eq!(recalled, [ids[0].clone(), ids[1].clone(), ids[0].clone()]);
        assert_eq!(given.recall(1, |id| id == "a").as_deref(), Some("b"));
        given.forget("b");
        assert_eq!(
            (given.recall(1, |_| false), given.recall(2, |_| false)),
            (Some(ids[0].clone()), None)
        );
        assert_eq!(given.recall(1, |id| id == "a"), None);
        given.note(2, &ids[1]);
        given.note(2, &ids[2]);
        given.note(2, &ids[3]);
        assert_eq!(given.recall(1, |_| false), None, "the oldest is forgotten");
    }
}
