//! How many connections there may be. When there are too many, the one that has been waited for the
//! longest makes room: one on which no request has come yet, or only a part of one. Whoever opens
//! thousands and says nothing keeps nobody else out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// Descriptors that we ask for; ComfyUI inherits them, and programs that walk through all of theirs
/// must not take for ever.
const WANTED: u64 = 65_536;
/// Of four descriptors so many are for clients; the rest, and never fewer than `OURS`, are for
/// files, ComfyUI and everything that we call.
const SHARE: u64 = 3;
const OURS: u64 = 128;

/// All connections of clients.
#[derive(Debug)]
pub(super) struct Crowd {
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    open: usize,
    next: u64,
    /// Those that are waited for, the longest first.
    waited_for: BTreeMap<u64, CancellationToken>,
}

impl Crowd {
    /// As many as the descriptors of this process allow, after as many were asked for as it may
    /// have.
    pub fn of_this_process() -> Arc<Self> {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, hard)| {
            let wanted = WANTED.clamp(soft, hard.max(soft));
            match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
                Ok(()) => wanted,
                Err(_) => soft,
            }
        });
        let share = descriptors.saturating_mul(SHARE) / 4;
        let most = share.min(descriptors.saturating_sub(OURS)).max(16);
        Self::new(usize::try_from(most).unwrap_or(usize::MAX))
    }

    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            inner: Mutex::default(),
        })
    }

    /// A place for one more; `None` when all others are being answered.
    pub fn enter(self: &Arc<Self>) -> Option<Arc<Place>> {
        let mut inner = self.lock();
        if inner.open >= self.most && !inner.make_room() {
            return None;
        }
        inner.open += 1;
        drop(inner);
        let place = Place {
            crowd: self.clone(),
            over: CancellationToken::new(),
            number: Mutex::default(),
            answering: AtomicUsize::new(0),
        };
        place.is_waited_for();
        Some(Arc::new(place))
    }

    /// There is no descriptor for one more: the one that is waited for the longest leaves.
    pub fn make_room(&self) {
        self.lock().make_room();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Inner {
    fn make_room(&mut self) -> bool {
        let Some((_, longest)) = self.waited_for.pop_first() else {
            return false;
        };
        longest.cancel();
        // It leaves in a moment; its place is given already.
        self.open -= 1;
        true
    }
}

/// One connection's.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Arc<Crowd>,
    /// Cancelled when it must make room.
    pub over: CancellationToken,
    /// While it is waited for.
    number: Mutex<Option<u64>>,
    /// Requests that have come whole and are being answered.
    answering: AtomicUsize,
}

impl Place {
    fn is_waited_for(&self) {
        let mut inner = self.crowd.lock();
        inner.next += 1;
        let number = inner.next;
        inner.waited_for.insert(number, self.over.clone());
        drop(inner);
        *self.number() = Some(number);
    }

    fn is_not_waited_for(&self) {
        if let Some(number) = self.number().take() {
            self.crowd.lock().waited_for.remove(&number);
        }
    }

    fn number(&self) -> MutexGuard<'_, Option<u64>> {
        self.number.lock()
    }

    /// A request has begun.
    pub fn exchange(self: &Arc<Self>) -> Arc<Exchange> {
        Arc::new(Exchange {
            place: self.clone(),
            received: AtomicBool::new(false),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let number = self.number().take();
        let mut inner = self.crowd.lock();
        if let Some(number) = number {
            inner.waited_for.remove(&number);
        }
        // Of one that had to make room this is counted already.
        if !self.over.is_cancelled() {
            inner.open -= 1;
        }
    }
}

/// A request and its answer. It is over when both bodies are gone.
#[derive(Debug)]
pub(super) struct Exchange {
    place: Arc<Place>,
    received: AtomicBool,
}

impl Exchange {
    /// The request has come whole: now we are the ones to be waited for.
    pub fn is_received(&self) {
        if !self.received.swap(true, Ordering::Relaxed)
            && self.place.answering.fetch_add(1, Ordering::Relaxed) == 0
        {
            self.place.is_not_waited_for();
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.received.load(Ordering::Relaxed)
            && self.place.answering.fetch_sub(1, Ordering::Relaxed) == 1
        {
            self.place.is_waited_for();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for_the_longest_makes_room() {
        let crowd = Crowd::new(3);
        let [first, second, third] = [(); 3].map(|()| crowd.enter().unwrap());
        let answer = first.exchange();
        answer.is_received();
        let fourth = crowd.enter().unwrap();
        assert!(second.over.is_cancelled() && !first.over.is_cancelled());
        drop(second);
        assert!(!third.over.is_cancelled());
        let answers = [&third, &fourth].map(|place| {
            let answer = place.exchange();
            answer.is_received();
            answer
        });
        assert!(crowd.enter().is_none(), "all are being answered");
        drop(answer);
        let fifth = crowd.enter().unwrap();
        assert!(first.over.is_cancelled(), "its answer is over");
        drop((first, third, fourth, fifth, answers));
        let inner = crowd.lock();
        assert_eq!((inner.open, inner.waited_for.len()), (0, 0));
    }
}
