//! Places for transfers, so that no client can use up what others need (A12).
//!
//! One host holds at most half of them. A transfer that gets on too slowly gives its place back and
//! goes on beside the places. Whoever has waited for the places' patience starts beside them too,
//! one for each host in that time once the host has its half, so that a few that hold everything
//! keep nobody out. Beside the places there is room for so many; when another slow one needs it,
//! the slowest ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::limits::transfers::{BESIDE, share_of_host};

/// The places of one direction.
pub(super) struct Places {
    state: Mutex<State>,
    limit: usize,
    patience: Duration,
}

#[derive(Default)]
struct State {
    next: u64,
    running: HashMap<u64, Running>,
    /// In the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    /// When a host was last let in beyond its half.
    exceptions: HashMap<String, Instant>,
}

struct Running {
    host: String,
    beside: bool,
    slow: bool,
    /// Bytes per second when it was last looked at.
    rate: u64,
    end: CancellationToken,
}

struct Waiting {
    host: String,
    /// It has waited long enough.
    impatient: bool,
    granted: oneshot::Sender<()>,
    end: CancellationToken,
}

/// A place, given back when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    /// Cancelled when it is the slowest of too many.
    pub end: CancellationToken,
}

impl Places {
    pub fn new(limit: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            limit,
            patience,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Waits for a place. Dropping the future gives up.
    pub async fn acquire(self: &Arc<Self>, host: &str) -> Place {
        let (granted, mut grant) = oneshot::channel();
        let end = CancellationToken::new();
        let place = {
            let mut state = self.state();
            let id = state.next;
            state.next += 1;
            let waiting = Waiting {
                host: host.to_owned(),
                impatient: false,
                granted,
                end: end.clone(),
            };
            state.waiting.insert(id, waiting);
            state.grant(self);
            Place {
                places: Arc::clone(self),
                id,
                end,
            }
        };
        loop {
            tokio::select! {
                biased;
                _ = &mut grant => return place,
                () = tokio::time::sleep(self.patience) => {
                    let mut state = self.state();
                    if let Some(waiting) = state.waiting.get_mut(&place.id) {
                        waiting.impatient = true;
                    }
                    state.grant(self);
                }
            }
        }
    }
}

impl State {
    /// Lets in whoever may come in, in the order of their coming.
    fn grant(&mut self, places: &Places) {
        let half = share_of_host(places.limit);
        let mut active: HashMap<&str, usize> = HashMap::new();
        let (mut taken, mut beside) = (0, 0);
        for running in self.running.values() {
            taken += usize::from(!running.beside);
            beside += usize::from(running.beside);
            *active.entry(&running.host).or_default() += usize::from(!running.slow);
        }
        let mut active: HashMap<String, usize> = active
            .into_iter()
            .map(|(host, count)| (host.to_owned(), count))
            .collect();
        let mut let_in = Vec::new();
        let mut crowded = false;
        for (id, waiting) in &self.waiting {
            let of_host = active.entry(waiting.host.clone()).or_default();
            let within_half = *of_host < half;
            if within_half && taken < places.limit {
                taken += 1;
                let_in.push((*id, false));
            } else if waiting.impatient {
                let due = self
                    .exceptions
                    .get(&waiting.host)
                    .is_none_or(|last| last.elapsed() >= places.patience);
                if !within_half && !due {
                    continue;
                }
                if beside >= BESIDE {
                    crowded = true;
                    continue;
                }
                if !within_half {
                    self.exceptions.insert(waiting.host.clone(), Instant::now());
                }
                beside += 1;
                let_in.push((*id, true));
            } else {
                continue;
            }
            *of_host += 1;
        }
        let_in
            .into_iter()
            .for_each(|(id, beside)| self.let_in(id, beside));
        // One that is ending already makes room.
        if crowded
            && !self
                .running
                .values()
                .any(|running| running.end.is_cancelled())
        {
            self.end_slowest();
        }
        self.exceptions
            .retain(|_, last| last.elapsed() < places.patience * 2);
    }
}

impl State {
    fn let_in(&mut self, id: u64, beside: bool) {
        if let Some(waiting) = self.waiting.remove(&id) {
            let running = Running {
                host: waiting.host,
                beside,
                slow: false,
                rate: u64::MAX,
                end: waiting.end,
            };
            self.running.insert(id, running);
            let _ = waiting.granted.send(());
        }
    }

    /// Its drop lets in who waits for its room.
    fn end_slowest(&self) {
        let slow = self
            .running
            .values()
            .filter(|running| running.slow && !running.end.is_cancelled());
        if let Some(slowest) = slow.min_by_key(|running| running.rate) {
            slowest.end.cancel();
        }
    }
}

impl Place {
    /// Notes how fast it is.
    pub fn note(&self, rate: u64) {
        if let Some(running) = self.places.state().running.get_mut(&self.id) {
            running.rate = rate;
        }
    }

    /// Goes on beside the places, because it is slow.
    pub fn step_aside(&self) {
        let mut state = self.places.state();
        let Some(running) = state.running.get_mut(&self.id) else {
            return;
        };
        if running.slow {
            return;
        }
        (running.beside, running.slow) = (true, true);
        let slow = state.running.values().filter(|running| running.slow);
        if slow.count() > BESIDE {
            state.end_slowest();
        }
        state.grant(&self.places);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        state.waiting.remove(&self.id);
        state.running.remove(&self.id);
        state.grant(&self.places);
    }
}

/// Whom a URL is about, for the shares of hosts.
pub(super) fn host_of(url: &url::Url) -> String {
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    /// A12.
    #[tokio::test]
    async fn one_host_holds_half_and_nobody_waits_for_long() {
        let places = Places::new(4, PATIENCE);
        let mut held = vec![places.acquire("slow").await, places.acquire("slow").await];
        assert!(places.acquire("slow").now_or_never().is_none());
        held.push(places.acquire("b").await);
        held.push(places.acquire("c").await);
        assert!(places.acquire("good").now_or_never().is_none());
        let began = Instant::now();
        held.push(places.acquire("good").await);
        assert!(began.elapsed() >= PATIENCE && began.elapsed() < PATIENCE * 10);
        // One that goes lets the next one in at once.
        let mut first = Box::pin(places.acquire("d"));
        let mut second = Box::pin(places.acquire("slow"));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        drop(held.remove(0));
        assert!(first.now_or_never().is_some());
        drop(second);
        assert_eq!(places.state().waiting.len(), 0);
    }

    #[tokio::test]
    async fn slow_ones_give_their_place_back_and_the_slowest_of_too_many_ends() {
        let places = Places::new(2, PATIENCE);
        let mut slow = Vec::new();
        for rate in 0..=BESIDE as u64 {
            let place = places.acquire("slow").await;
            place.note(1000 - rate);
            place.step_aside();
            slow.push(place);
        }
        let ended: Vec<usize> = (0..slow.len())
            .filter(|n| slow[*n].end.is_cancelled())
            .collect();
        assert_eq!(ended, [BESIDE]);
        drop(slow.pop());
        // All room is taken, the places by others: the slowest goes for who has waited long enough.
        let _others = [places.acquire("a").await, places.acquire("b").await];
        let waiting = places.acquire("good");
        tokio::pin!(waiting);
        let first = tokio::time::timeout(PATIENCE * 3, &mut waiting);
        assert!(first.await.is_err());
        assert!(slow[BESIDE - 1].end.is_cancelled());
        drop(slow.pop());
        assert!(tokio::time::timeout(PATIENCE * 3, waiting).await.is_ok());
    }
}
