//! Who may make an attempt now: a dead receiver holds a few places, never those of others.
//!
//! Three limits, each first come, first served: per endpoint (URL without query: two paths of one
//! server are two receivers, of which one may hang), per origin (for receivers that get a path of
//! their own per prompt), and over all, where receivers whose last attempt failed share a pool of
//! their own, so that any number of dead hosts leaves the others alone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::{Position, Url};

const PER_ENDPOINT: usize = 8;
const PER_ORIGIN: usize = 32;
const PER_POOL: usize = 256;

#[derive(Debug)]
struct Lane {
    slots: Arc<Semaphore>,
    failing: AtomicBool,
    waiting: AtomicUsize,
}

/// All queues in use.
#[derive(Debug)]
pub struct PerReceiverQueue {
    known: Mutex<HashMap<String, Weak<Lane>>>,
    healthy: Arc<Semaphore>,
    suspect: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// Bytes of text in memory.
    text: Arc<AtomicU64>,
}

/// The place of one delivery in the queues of its receiver, from its acceptance to its end.
#[derive(Debug)]
pub struct Place {
    endpoint: Arc<Lane>,
    origin: Arc<Lane>,
    healthy: Arc<Semaphore>,
    suspect: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    text: Arc<AtomicU64>,
    own_text: u64,
}

/// What waits, the asking delivery included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Deliveries to the same endpoint.
    pub here: usize,
    /// Deliveries to all endpoints.
    pub everywhere: usize,
    /// Bytes of their text in memory.
    pub text: u64,
}

/// The right to make one attempt, as long as it lives.
#[derive(Debug)]
pub struct Slot {
    _permits: [Option<OwnedSemaphorePermit>; 3],
}

impl PerReceiverQueue {
    /// No receivers yet.
    pub fn new() -> Self {
        let pool = || Arc::new(Semaphore::new(PER_POOL));
        Self {
            known: Mutex::default(),
            healthy: pool(),
            suspect: pool(),
            waiting: Arc::default(),
            text: Arc::default(),
        }
    }

    /// A place for a delivery to this receiver that keeps so many bytes in memory.
    pub fn place(&self, url: &Url, own_text: u64) -> Place {
        let mut known = self.known.lock();
        let endpoint = lane(
            &mut known,
            url[..Position::AfterPath].to_owned(),
            PER_ENDPOINT,
        );
        // Prefixed, because the origin of `http://h/` could be mistaken for an endpoint.
        let origin = lane(
            &mut known,
            format!("origin {}", url.origin().ascii_serialization()),
            PER_ORIGIN,
        );
        drop(known);
        endpoint.waiting.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.text.fetch_add(own_text, Ordering::Relaxed);
        let (healthy, suspect) = (Arc::clone(&self.healthy), Arc::clone(&self.suspect));
        Place {
            endpoint,
            origin,
            healthy,
            suspect,
            waiting: Arc::clone(&self.waiting),
            text: Arc::clone(&self.text),
            own_text,
        }
    }
}

fn lane(known: &mut HashMap<String, Weak<Lane>>, key: String, slots: usize) -> Arc<Lane> {
    if let Some(lane) = known.get(&key).and_then(Weak::upgrade) {
        return lane;
    }
    // Receivers nobody waits for are forgotten whenever the map would have to grow.
    if known.len() == known.capacity() {
        known.retain(|_, lane| lane.strong_count() > 0);
    }
    let lane = Arc::new(Lane {
        slots: Arc::new(Semaphore::new(slots)),
        failing: AtomicBool::new(false),
        waiting: AtomicUsize::new(0),
    });
    known.insert(key, Arc::downgrade(&lane));
    lane
}

impl Place {
    /// What has not ended yet.
    pub fn waiting(&self) -> Waiting {
        Waiting {
            here: self.endpoint.waiting.load(Ordering::Relaxed),
            everywhere: self.waiting.load(Ordering::Relaxed),
            text: self.text.load(Ordering::Relaxed),
        }
    }

    /// The delivery's text is on disk now.
    pub fn text_is_stored(&mut self) {
        self.text
            .fetch_sub(std::mem::take(&mut self.own_text), Ordering::Relaxed);
    }

    /// Waits until an attempt may be made.
    pub async fn turn(&self) -> Slot {
        let endpoint = Arc::clone(&self.endpoint.slots).acquire_owned().await.ok();
        let origin = Arc::clone(&self.origin.slots).acquire_owned().await.ok();
        let failing = self.endpoint.failing.load(Ordering::Relaxed)
            || self.origin.failing.load(Ordering::Relaxed);
        let pool = if failing {
            &self.suspect
        } else {
            &self.healthy
        };
        // The semaphores are never closed, so each of these is a permit.
        Slot {
            _permits: [
                endpoint,
                origin,
                Arc::clone(pool).acquire_owned().await.ok(),
            ],
        }
    }

    /// Remembers how the last attempt went. `answered` tells a receiver that refuses quickly from
    /// one that does not answer.
    pub fn note(&self, delivered: bool, answered: bool) {
        self.endpoint.failing.store(!delivered, Ordering::Relaxed);
        self.origin
            .failing
            .store(!delivered && !answered, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.endpoint.waiting.fetch_sub(1, Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.text_is_stored();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn one_endpoint_cannot_take_the_turns_of_another() {
        let queues = PerReceiverQueue::new();
        let dead: Url = "http://h.example/dead?x=1".parse().unwrap();
        let live: Url = "http://h.example/live".parse().unwrap();
        let places: Vec<Place> = (0..PER_ENDPOINT + 1)
            .map(|_| queues.place(&dead, 10))
            .collect();
        let turns: Vec<Option<Slot>> = places
            .iter()
            .map(|place| place.turn().now_or_never())
            .collect();
        assert_eq!(
            turns.iter().filter(|turn| turn.is_some()).count(),
            PER_ENDPOINT
        );
        let place = queues.place(&live, 5);
        assert!(place.turn().now_or_never().is_some());
        assert_eq!(
            place.waiting(),
            Waiting {
                here: 1,
                everywhere: PER_ENDPOINT + 2,
                text: 10 * (PER_ENDPOINT as u64 + 1) + 5
            }
        );
        drop((turns, places));
        assert_eq!(
            place.waiting(),
            Waiting {
                here: 1,
                everywhere: 1,
                text: 5
            }
        );
    }

    #[test]
    fn dead_hosts_leave_turns_for_the_others_and_are_forgotten() {
        let queues = PerReceiverQueue::new();
        let place = |n: usize| queues.place(&format!("http://h{n}.example/").parse().unwrap(), 0);
        let dead: Vec<Place> = (0..PER_POOL + 50).map(place).collect();
        dead.iter().for_each(|place| place.note(false, false));
        let turns: Vec<Option<Slot>> = dead
            .iter()
            .map(|place| place.turn().now_or_never())
            .collect();
        assert_eq!(turns.iter().filter(|turn| turn.is_some()).count(), PER_POOL);
        assert!(place(9999).turn().now_or_never().is_some());
        drop((turns, dead));
        for n in 0..20_000 {
            drop(place(n));
        }
        assert!(
            queues.known.lock().capacity() < 5_000,
            "receivers that are done are forgotten"
        );
    }
}
