//! Who gets a run: the ComfyUI where what is before it costs least; and what is done when one falls
//! idle while others have work waiting (fleet.md, "Who gets a job").
//!
//! A run takes a [`Place`] and holds it until ComfyUI is done with it. Nothing here talks to
//! ComfyUI: an idle one *wants* a run that waits elsewhere, and whoever follows that run takes it
//! out there and brings it over, or says that it stays.
//!
//! Of places that cost the same the first counts; but one that has had no models yet comes before
//! one that would have to change them, so that two models that are sent one after the other do not
//! drive each other out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::Need;
use crate::comfy::Comfy;
use crate::health::ComfyState;

/// What is asked of all ComfyUI together.
pub(super) struct Places {
    instances: Vec<Comfy>,
    /// What a change of models costs, in runs; 0: models do not matter.
    switch_cost: usize,
    numbers: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    runs: BTreeMap<u64, Run>,
    /// How many of them count at each: there may be thousands.
    counts: Vec<usize>,
    /// The models of the last run with models that went to each.
    models: Vec<Arc<BTreeSet<String>>>,
}

/// A run that is somewhere.
struct Run {
    need: Need,
    at: usize,
    /// The idle one that wants it.
    wanted_by: Option<usize>,
    wanted: Arc<Notify>,
    /// ComfyUI has it in its queue, so that it can be taken out there.
    accepted: bool,
    began: bool,
}

/// What one ComfyUI has to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    /// Runs that it works on.
    pub running: usize,
    /// Runs that wait there.
    pub waiting: usize,
    /// `folder/name` of the models that were sent there last.
    pub models: Vec<String>,
}

/// What came of looking for a place.
pub(super) enum Wanted {
    Place(Box<Place>),
    /// None that is ready.
    Nothing,
    /// Only of those that are down has one this class.
    Down(String),
}

impl Places {
    pub fn new(instances: Vec<Comfy>, switch_cost: usize) -> Self {
        let table = Table {
            models: vec![Arc::default(); instances.len()],
            counts: vec![0; instances.len()],
            ..Table::default()
        };
        Self {
            instances,
            switch_cost,
            numbers: AtomicU64::new(1),
            table: Mutex::new(table),
        }
    }

    pub fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes the best place. Where there are not `several`, it is taken whatever state that ComfyUI
    /// is in.
    pub fn take(self: &Arc<Self>, need: &Need, several: bool) -> Wanted {
        let mut table = self.lock();
        let best = if several {
            let allowed = match self.allowed(need) {
                Ok(allowed) => allowed,
                Err(wanted) => return wanted,
            };
            let cost = |index: &usize| self.cost(&table, *index, need);
            allowed.into_iter().min_by_key(cost)
        } else {
            Some(0)
        };
        let Some(best) = best else {
            return Wanted::Nothing;
        };
        let place = self.enter(&mut table, best, need.clone());
        drop(table);
        Wanted::Place(Box::new(place))
    }

    /// Those that can run it now.
    fn allowed(&self, need: &Need) -> Result<Vec<usize>, Wanted> {
        let ready = |comfy: &&Comfy| match need.only {
            Some(only) => only == comfy.index() && comfy.health.is_up(),
            None => comfy.health.now() == ComfyState::Ready,
        };
        let has = |comfy: &&Comfy| missing(comfy, need).is_none();
        let ready: Vec<&Comfy> = self.instances.iter().filter(ready).collect();
        let able: Vec<&Comfy> = ready.iter().copied().filter(has).collect();
        if able.is_empty() && !ready.is_empty() && self.instances.iter().any(|comfy| has(&comfy)) {
            let class = ready.iter().find_map(|comfy| missing(comfy, need));
            return Err(Wanted::Down(class.unwrap_or_default()));
        }
        // Where nobody has all classes, ComfyUI says which it does not know.
        let able = if able.is_empty() { ready } else { able };
        let wanted = |comfy: &&&Comfy| !need.not.contains(&comfy.index());
        Ok(able
            .iter()
            .filter(wanted)
            .map(|comfy| comfy.index())
            .collect())
    }

    /// What comes before it there, and then which of equals is better.
    fn cost(&self, table: &Table, index: usize, need: &Need) -> (usize, bool, usize) {
        let comfy = &self.instances[index];
        let ours = table.counts[index];
        // A ComfyUI that runs already may work for others too.
        let known = if comfy.config.command.is_empty() {
            usize::try_from(*comfy.watch.queue_remaining().borrow()).unwrap_or(usize::MAX)
        } else {
            0
        };
        let other = self.has_other_models(table, index, need);
        let cost = ours.max(known) + if other { self.switch_cost } else { 0 };
        (cost, other && !table.models[index].is_empty(), index)
    }

    fn has_other_models(&self, table: &Table, index: usize, need: &Need) -> bool {
        self.switch_cost > 0 && !need.models.is_subset(&table.models[index])
    }

    fn enter(self: &Arc<Self>, table: &mut Table, index: usize, mut need: Need) -> Place {
        if !need.models.is_empty() {
            table.models[index] = need.models.clone();
        }
        need.not.clear();
        let wanted = Arc::new(Notify::new());
        let run = Run {
            need,
            at: index,
            wanted_by: None,
            wanted: wanted.clone(),
            accepted: false,
            began: false,
        };
        let id = table.insert(run);
        Place {
            places: self.clone(),
            id,
            comfy: self.instances[index].clone(),
            wanted,
            began: AtomicBool::new(false),
        }
    }

    /// Has every ComfyUI that is idle want a run that waits elsewhere.
    pub fn balance(&self) {
        if self.instances.len() < 2 {
            return;
        }
        let mut table = self.lock();
        for comfy in &self.instances {
            let index = comfy.index();
            if table.counts[index] > 0 || comfy.health.now() != ComfyState::Ready {
                continue;
            }
            if let Some(id) = self.taken_over_by(&table, index) {
                table.change(id, |run| {
                    run.wanted_by = Some(index);
                    run.wanted.notify_one();
                });
            }
        }
    }

    /// The oldest run that waits in the longest queue: one of its own models first, one of others
    /// only where enough wait.
    fn taken_over_by(&self, table: &Table, index: usize) -> Option<u64> {
        let comfy = &self.instances[index];
        let mut queues: BTreeMap<usize, Vec<(&u64, &Run)>> = BTreeMap::new();
        for (id, run) in table.runs.iter().filter(|(_, run)| run.waits()) {
            queues.entry(run.at).or_default().push((id, run));
        }
        for (at, queue) in &mut queues {
            queue.sort_by_key(|(_, run)| run.need.number);
            if !table.runs.values().any(|run| run.at == *at && run.began) {
                // Nothing is before it: it begins at this moment.
                queue.remove(0);
            }
        }
        let mut queues: Vec<_> = queues.into_values().collect();
        queues.sort_by_key(|queue| std::cmp::Reverse(queue.len()));
        for queue in queues {
            let enough = queue.len() >= self.switch_cost;
            let mut can = queue.iter().filter(|(_, run)| {
                run.need.only.is_none() && run.accepted && missing(comfy, &run.need).is_none()
            });
            let of_its_own = |run: &Run| !self.has_other_models(table, index, &run.need);
            let own = can.clone().find(|(_, run)| of_its_own(run));
            let chosen = own.or_else(|| can.next().filter(|_| enough));
            if let Some((id, _)) = chosen {
                return Some(**id);
            }
        }
        None
    }

    pub fn loads(&self) -> Vec<Load> {
        let table = self.lock();
        let load = |index: usize| {
            let here = || table.runs.values().filter(move |run| run.at == index);
            Load {
                running: here().filter(|run| run.began).count(),
                waiting: here().filter(|run| !run.began).count(),
                models: table.models[index].iter().cloned().collect(),
            }
        };
        (0..self.instances.len()).map(load).collect()
    }

    /// No code panics while holding it.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}

/// A class of the graph that a ComfyUI does not have although another does.
fn missing(comfy: &Comfy, need: &Need) -> Option<String> {
    if need.classes.is_empty() {
        return None;
    }
    let catalogue = comfy.catalogue();
    let mut classes = need.classes.iter();
    classes.find(|class| !catalogue.knows(class)).cloned()
}

impl Table {
    fn insert(&mut self, run: Run) -> u64 {
        self.next += 1;
        self.counts[run.counts_at()] += 1;
        self.runs.insert(self.next, run);
        self.next
    }

    fn remove(&mut self, id: u64) -> Option<Run> {
        let run = self.runs.remove(&id)?;
        self.counts[run.counts_at()] -= 1;
        Some(run)
    }

    fn change(&mut self, id: u64, change: impl FnOnce(&mut Run)) {
        if let Some(run) = self.runs.get_mut(&id) {
            let before = run.counts_at();
            change(run);
            self.counts[before] -= 1;
            self.counts[run.counts_at()] += 1;
        }
    }
}

impl Run {
    /// Where it is counted: the one that wants it is not idle any more.
    fn counts_at(&self) -> usize {
        self.wanted_by.unwrap_or(self.at)
    }

    const fn waits(&self) -> bool {
        !self.began && self.wanted_by.is_none()
    }
}

/// A run's place in one ComfyUI. Dropped when that is done with it.
pub struct Place {
    places: Arc<Places>,
    id: u64,
    /// Where it is.
    pub comfy: Comfy,
    wanted: Arc<Notify>,
    began: AtomicBool,
}

impl Place {
    /// It is in ComfyUI's queue.
    pub fn accepted(&self) {
        self.note(|run| run.accepted = true);
        self.places.balance();
    }

    /// ComfyUI works on it: it stays there.
    pub fn began(&self) {
        if !self.began.swap(true, Ordering::Relaxed) {
            self.note(|run| run.began = true);
        }
    }

    /// Resolves when an idle ComfyUI wants it. Cancel-safe.
    pub async fn wanted_elsewhere(&self) {
        loop {
            if self
                .lock()
                .runs
                .get(&self.id)
                .is_some_and(|run| run.wanted_by.is_some())
            {
                return;
            }
            self.wanted.notified().await;
        }
    }

    /// It cannot be brought over.
    pub fn stays(&self) {
        self.note(|run| {
            run.wanted_by = None;
            // Not asked for again.
            run.accepted = false;
        });
        self.places.balance();
    }

    /// It is out of this ComfyUI's queue, and goes to the one that wants it; `None` when none does
    /// any more.
    pub fn over(&self) -> Option<Self> {
        let mut table = self.lock();
        let run = table.remove(self.id)?;
        let place = run
            .wanted_by
            .map(|index| self.places.enter(&mut table, index, run.need));
        drop(table);
        place
    }

    fn note(&self, change: impl FnOnce(&mut Run)) {
        self.lock().change(self.id, change);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.places.lock()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let known = self.lock().remove(self.id);
        if known.is_some() {
            self.places.balance();
        }
    }
}
