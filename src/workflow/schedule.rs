//! Who may run JavaScript, and for how long.
//!
//! A call starts in the short lane: a few places, given out in the order of asking, each held for
//! [`SLICE`] of processor time at most. Most calls need a thousandth of that. One that needs more
//! gives its place back and moves to the long lane, where all long calls take turns on a part of
//! the cores. So endless loops slow each other down, not the others. The engine asks us regularly
//! through its interrupt handler ([`Meter::tick`]); that is where a call waits its turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Processor time that one call may use (workflows.md).
pub const CPU_LIMIT: Duration = Duration::from_secs(5);
/// Time from start to end that one call may use, waiting for its turn and for timers included.
pub const WALL_LIMIT: Duration = Duration::from_secs(10);
/// Nobody waits longer than this for a call: one that still runs then is most likely in a function
/// of the engine that asks for no limit.
pub const GIVE_UP: Duration = Duration::from_secs(30);
/// Processor time in the short lane.
const SLICE: Duration = Duration::from_millis(25);
/// A turn in the long lane when others wait there.
const TURN: Duration = Duration::from_millis(20);
/// Calls in the long lane at once; each may hold a thread and its memory.
const LONG_CALLS: usize = 64;

/// The lanes of one server.
#[derive(Debug)]
pub struct Scheduler {
    short: Arc<Semaphore>,
    places: usize,
    long: Arc<LongLane>,
}

impl Scheduler {
    /// PerFileQueue for this machine.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let places = (cores * 2).max(4);
        Self {
            short: Arc::new(Semaphore::new(places)),
            places,
            long: Arc::new(LongLane::new((cores / 2).max(1))),
        }
    }

    /// Places in the short lane for one workflow: never all of them.
    pub fn share(&self) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(self.places - 1))
    }

    /// How many calls can start at once.
    pub const fn places(&self) -> usize {
        self.places
    }

    /// Waits for a place, first among the calls of the same workflow, then among all; in the order
    /// of asking.
    pub async fn admit(&self, share: &Arc<Semaphore>) -> Slot {
        // Neither semaphore is ever closed, so the permits are always there.
        let own = Arc::clone(share).acquire_owned().await.ok();
        let place = Arc::clone(&self.short).acquire_owned().await.ok();
        Slot {
            places: Places {
                held: Arc::new(Mutex::new(Held {
                    permits: [own, place],
                    ..Held::default()
                })),
                lane: Arc::clone(&self.long),
            },
            in_long_lane: false,
            slot_since: None,
            started: Instant::now(),
            cpu_at_start: Duration::ZERO,
            cancelled: Arc::new(AtomicBool::new(false)),
            over: None,
        }
    }
}

/// Why a call was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`CPU_LIMIT`]
    Cpu,
    /// [`WALL_LIMIT`]
    Wall,
    /// The caller left.
    Cancelled,
}

impl Limit {
    /// As it stands in the error.
    pub fn sentence(self) -> String {
        match self {
            Self::Cpu => format!(
                "it used more than {} s of processor time",
                CPU_LIMIT.as_secs()
            ),
            Self::Wall => format!("it took longer than {} s", WALL_LIMIT.as_secs()),
            Self::Cancelled => "the caller left".to_owned(),
        }
    }
}

/// What a call holds of the lanes. Shared with whoever waits for the call, who may take it all
/// back.
#[derive(Debug, Clone)]
pub struct Places {
    held: Arc<Mutex<Held>>,
    lane: Arc<LongLane>,
}

#[derive(Debug, Default)]
struct Held {
    /// Of its workflow and of everybody, in the short lane.
    permits: [Option<OwnedSemaphorePermit>; 2],
    /// It is one of the calls in the long lane.
    member: bool,
    /// It has its turn there.
    slot: bool,
}

impl Places {
    /// Gives everything back, whoever holds it.
    pub fn release(&self) {
        self.give_slot();
        let held = std::mem::take(&mut *self.lock());
        if held.member {
            self.lane.leave();
        }
    }

    /// From the short lane to the long one, if it is not full.
    fn move_to_long_lane(&self) -> bool {
        let joined = self.lane.join();
        if joined {
            let mut held = self.lock();
            held.member = true;
            held.permits = [None, None];
        }
        joined
    }

    fn take_slot(&self, deadline: Instant, cancelled: &AtomicBool) -> bool {
        let taken = self.lane.take(deadline, cancelled);
        self.lock().slot |= taken;
        taken
    }

    fn give_slot(&self) {
        if std::mem::take(&mut self.lock().slot) {
            self.lane.give();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock()
    }
}

/// The right of one call to run.
#[derive(Debug)]
pub struct Slot {
    places: Places,
    in_long_lane: bool,
    /// Processor time when the slot of the long lane was taken.
    slot_since: Option<Duration>,
    started: Instant,
    cpu_at_start: Duration,
    cancelled: Arc<AtomicBool>,
    over: Option<Limit>,
}

impl Slot {
    /// Set it to end the call.
    pub fn cancellation(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }

    /// Its places, for whoever gives up waiting for a call that does not end.
    pub fn places(&self) -> Places {
        self.places.clone()
    }

    /// The limit it ran into.
    pub const fn over(&self) -> Option<Limit> {
        self.over
    }

    fn check(&mut self, now: Duration) -> Option<Limit> {
        if self.over.is_none() {
            if self.cancelled.load(Ordering::Relaxed) {
                self.over = Some(Limit::Cancelled);
            } else if now.saturating_sub(self.cpu_at_start) > CPU_LIMIT {
                self.over = Some(Limit::Cpu);
            } else if self.started.elapsed() > WALL_LIMIT {
                self.over = Some(Limit::Wall);
            }
        }
        self.over
    }

    /// Called again and again while the call runs; waits when it is not its turn. True ends the
    /// call.
    fn tick(&mut self) -> bool {
        let now = thread_cpu();
        if self.check(now).is_some() {
            return true;
        }
        if !self.in_long_lane && now.saturating_sub(self.cpu_at_start) > SLICE {
            self.move_to_long_lane();
        }
        if self.in_long_lane {
            let used_up = self.slot_since.is_some_and(|since| {
                now.saturating_sub(since) > TURN && self.places.lane.someone_waits()
            });
            if used_up {
                self.give_slot();
            }
            if self.slot_since.is_none() {
                self.take_slot();
            }
        }
        self.check(thread_cpu()).is_some()
    }

    fn move_to_long_lane(&mut self) {
        self.in_long_lane |= self.places.move_to_long_lane();
    }

    fn take_slot(&mut self) {
        if self
            .places
            .take_slot(self.started + WALL_LIMIT, &self.cancelled)
        {
            self.slot_since = Some(thread_cpu());
        }
    }

    fn give_slot(&mut self) {
        self.slot_since = None;
        self.places.give_slot();
    }

    /// Sleeps for a timer of the workflow without holding a place. True ends the call.
    fn sleep(&mut self, pause: Duration) -> bool {
        if !self.in_long_lane && pause > Duration::from_millis(1) {
            self.move_to_long_lane();
        }
        self.give_slot();
        let until = Instant::now() + pause.min(WALL_LIMIT);
        while Instant::now() < until && self.check(thread_cpu()).is_none() {
            std::thread::sleep(
                until
                    .saturating_duration_since(Instant::now())
                    .min(Duration::from_millis(50)),
            );
        }
        self.tick()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.places.release();
    }
}

/// What an engine's interrupt handler holds; empty between calls.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Option<Slot>>);

impl Meter {
    /// A call begins, on this thread.
    pub fn begin(&self, mut turn: Slot) {
        let now = thread_cpu();
        turn.started = Instant::now();
        turn.cpu_at_start = now;
        turn.slot_since = turn.slot_since.map(|_| now);
        *self.lock() = Some(turn);
    }

    /// The call has ended; hands its turn back.
    pub fn end(&self) -> Option<Slot> {
        self.lock().take()
    }

    /// Whether the running call has to stop.
    pub fn tick(&self) -> bool {
        self.lock().as_mut().is_some_and(Slot::tick)
    }

    /// The limit the running call ran into.
    pub fn over(&self) -> Option<Limit> {
        self.lock().as_ref().and_then(|turn| turn.over)
    }

    /// Sleeps on behalf of the running call. True when it has to stop.
    pub fn sleep(&self, pause: Duration) -> bool {
        self.lock().as_mut().is_none_or(|turn| turn.sleep(pause))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Slot>> {
        self.0.lock()
    }
}

/// Long calls take turns here, first come, first served.
#[derive(Debug)]
struct LongLane {
    state: Mutex<LaneState>,
    changed: Condvar,
    slots: usize,
}

#[derive(Debug, Default)]
struct LaneState {
    members: usize,
    running: usize,
    waiting: VecDeque<u64>,
    next: u64,
}

impl LongLane {
    fn new(slots: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            slots,
        }
    }

    fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock()
    }

    fn join(&self) -> bool {
        let mut state = self.lock();
        let free = state.members < LONG_CALLS;
        state.members += usize::from(free);
        free
    }

    fn leave(&self) {
        let mut state = self.lock();
        state.members = state.members.saturating_sub(1);
    }

    fn someone_waits(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    fn give(&self) {
        let mut state = self.lock();
        state.running = state.running.saturating_sub(1);
        drop(state);
        self.changed.notify_all();
    }

    fn take(&self, deadline: Instant, cancelled: &AtomicBool) -> bool {
        let mut state = self.lock();
        let ticket = state.next;
        state.next += 1;
        state.waiting.push_back(ticket);
        loop {
            if state.running < self.slots && state.waiting.front() == Some(&ticket) {
                state.waiting.pop_front();
                state.running += 1;
                drop(state);
                self.changed.notify_all();
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || cancelled.load(Ordering::Relaxed) {
                state.waiting.retain(|waiting| *waiting != ticket);
                drop(state);
                self.changed.notify_all();
                return false;
            }
            // Woken by whoever gives a slot; the timeout only looks for a caller that has left.
            self.changed
                .wait_for(&mut state, left.min(Duration::from_millis(100)));
        }
    }
}

/// Processor time of this thread. A clock that cannot be read would stand still, which the wall
/// limit covers.
fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
