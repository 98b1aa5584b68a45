//! A bounded list of things that change, for whoever wants to follow it without being told each
//! change: every change gives a thing a new revision, and who comes back with the revision it has
//! seen gets whatever is newer, once and in its newest form.

use std::collections::VecDeque;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

/// What a ledger lists.
pub trait Listed: Clone {
    /// Its name in the list; no two have the same.
    fn id(&self) -> &str;
    /// It will not change any more, and may go when there is no room.
    fn is_over(&self) -> bool;
    /// Among those that are over it goes before the others.
    fn is_minor(&self) -> bool {
        false
    }
}

/// How much a ledger keeps.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// So many that are over, and all that are not.
    Over(usize),
    /// So many in all.
    All(usize),
}

/// A bounded list of things that change.
#[derive(Debug)]
pub struct Ledger<T> {
    items: Mutex<VecDeque<Item<T>>>,
    /// The latest revision.
    revision: watch::Sender<u64>,
    bound: Bound,
}

#[derive(Debug)]
struct Item<T> {
    revision: u64,
    value: T,
}

impl<T: Listed> Ledger<T> {
    /// An empty one.
    pub fn new(bound: Bound) -> Self {
        Self {
            items: Mutex::default(),
            revision: watch::Sender::new(0),
            bound,
        }
    }

    /// Adds a thing, which is the newest now.
    pub fn add(&self, value: T) {
        let mut items = self.lock();
        let revision = self.next();
        items.push_back(Item { revision, value });
        self.trim(&mut items);
        drop(items);
        self.revision.send_replace(revision);
    }

    /// Changes a thing. `change` says whether it has done so. `None` when it is not (any more) in
    /// the list.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut T) -> bool) -> Option<bool> {
        let mut items = self.lock();
        // The newest change most.
        let item = items.iter_mut().rev().find(|item| item.value.id() == id)?;
        if !change(&mut item.value) {
            return Some(false);
        }
        let revision = self.next();
        item.revision = revision;
        if item.value.is_over() {
            self.trim(&mut items);
        }
        drop(items);
        self.revision.send_replace(revision);
        Some(true)
    }

    /// One thing.
    pub fn get(&self, id: &str) -> Option<T> {
        let items = self.lock();
        let found = items.iter().rev().find(|item| item.value.id() == id);
        found.map(|item| item.value.clone())
    }

    /// The newest thing that fits.
    pub fn find(&self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let items = self.lock();
        let found = items.iter().rev().find(|item| fits(&item.value));
        found.map(|item| item.value.clone())
    }

    /// All things, newest first.
    pub fn all(&self) -> Vec<T> {
        self.lock()
            .iter()
            .rev()
            .map(|item| item.value.clone())
            .collect()
    }

    /// The newest `most`, newest first, and the revision of that.
    pub fn newest(&self, most: usize) -> (Vec<T>, u64) {
        let items = self.lock();
        let newest = items.iter().rev().take(most);
        let newest = newest.map(|item| item.value.clone()).collect();
        (newest, *self.revision.borrow())
    }

    /// What has changed since a revision, newest things first, and the revision of that.
    pub fn since(&self, revision: u64) -> (Vec<T>, u64) {
        let items = self.lock();
        let news = items.iter().rev().filter(|item| item.revision > revision);
        let news = news.map(|item| item.value.clone()).collect();
        (news, *self.revision.borrow())
    }

    /// The latest revision, and its changes.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Called with the lock only, so no two are the same.
    fn next(&self) -> u64 {
        *self.revision.borrow() + 1
    }

    fn trim(&self, items: &mut VecDeque<Item<T>>) {
        let over = |item: &Item<T>| item.value.is_over();
        let (mut excess, any) = match self.bound {
            Bound::Over(most) => {
                let ended = items.iter().filter(|item| over(item)).count();
                (ended.saturating_sub(most), false)
            }
            Bound::All(most) => (items.len().saturating_sub(most), true),
        };
        while excess > 0 {
            let minor = items
                .iter()
                .position(|item| over(item) && item.value.is_minor());
            let gone = minor
                .or_else(|| items.iter().position(over))
                .or_else(|| any.then_some(0));
            let Some(gone) = gone else { return };
            items.remove(gone);
            excess -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Item<T>>> {
        self.items.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Thing(&'static str, bool);

    impl Listed for Thing {
        fn id(&self) -> &str {
            self.0
        }
        fn is_over(&self) -> bool {
            self.1
        }
        fn is_minor(&self) -> bool {
            self.0.starts_with('m')
        }
    }

    fn names(things: &[Thing]) -> Vec<&str> {
        things.iter().map(|thing| thing.0).collect()
    }

    fn end(thing: &mut Thing) -> bool {
        thing.1 = true;
        true
    }

    #[test]
    fn what_is_over_goes_and_what_is_not_stays() {
        let ledger = Ledger::new(Bound::Over(2));
        for name in ["a", "b", "c", "d"] {
            ledger.add(Thing(name, false));
        }
        for name in ["d", "a", "b"] {
            ledger.change(name, end);
        }
        assert_eq!(names(&ledger.all()), ["d", "c", "b"]);
        assert_eq!(ledger.change("a", end), None);
        let bounded = Ledger::new(Bound::All(3));
        for thing in [Thing("a", true), Thing("m", true), Thing("b", false)] {
            bounded.add(thing);
        }
        bounded.add(Thing("c", false));
        assert_eq!(names(&bounded.all()), ["c", "b", "a"], "the minor one went");
        bounded.add(Thing("d", false));
        bounded.add(Thing("e", false));
        assert_eq!(names(&bounded.all()), ["e", "d", "c"]);
    }

    #[test]
    fn who_comes_back_gets_what_is_newer_once() {
        let ledger = Ledger::new(Bound::All(10));
        let mut watch = ledger.watch();
        for name in ["a", "b", "c"] {
            ledger.add(Thing(name, false));
        }
        let (first, seen) = ledger.newest(2);
        assert_eq!(names(&first), ["c", "b"]);
        assert!(ledger.since(seen).0.is_empty());
        assert!(watch.has_changed().unwrap());
        watch.borrow_and_update();
        assert_eq!(ledger.change("a", |_| false), Some(false));
        assert!(!watch.has_changed().unwrap());
        ledger.change("a", end);
        ledger.change("a", end);
        let (news, later) = ledger.since(seen);
        assert_eq!((names(&news), later), (vec!["a"], seen + 2));
        assert!(watch.has_changed().unwrap() && ledger.since(later).0.is_empty());
    }
}
