//! All jobs that are with the fleet, by their ids, tokens and publications.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::task::Task;

#[derive(Debug, Default)]
pub(super) struct Tasks(Mutex<Maps>);

#[derive(Debug, Default)]
struct Maps {
    ids: HashMap<Arc<str>, Arc<Task>>,
    tokens: HashMap<String, Arc<Task>>,
    correlations: HashMap<String, Arc<Task>>,
}

impl Tasks {
    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.0.lock()
    }

    pub(super) fn insert(&self, task: &Arc<Task>) {
        let mut maps = self.maps();
        maps.ids.insert(task.id.clone(), task.clone());
        maps.tokens.insert(task.token.clone(), task.clone());
        for correlation in &task.state().correlations {
            maps.correlations.insert(correlation.clone(), task.clone());
        }
    }

    /// It is published under this id.
    pub(super) fn correlate(&self, task: &Arc<Task>, correlation: &str) {
        task.state().correlations.push(correlation.to_owned());
        let mut maps = self.maps();
        maps.correlations
            .insert(correlation.to_owned(), task.clone());
    }

    pub(super) fn remove(&self, task: &Task) {
        let correlations = {
            let mut state = task.state();
            state.ended = true;
            std::mem::take(&mut state.correlations)
        };
        let mut maps = self.maps();
        if maps
            .ids
            .get(&task.id)
            .is_some_and(|known| known.token == task.token)
        {
            maps.ids.remove(&task.id);
        }
        maps.tokens.remove(&task.token);
        for correlation in correlations {
            maps.correlations.remove(&correlation);
        }
    }

    pub(super) fn by_id(&self, id: &str) -> Option<Arc<Task>> {
        self.maps().ids.get(id).cloned()
    }

    pub(super) fn by_token(&self, token: &str) -> Option<Arc<Task>> {
        self.maps().tokens.get(token).cloned()
    }

    pub(super) fn by_correlation(&self, correlation: &str) -> Option<Arc<Task>> {
        self.maps().correlations.get(correlation).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Task>> {
        self.maps().ids.values().cloned().collect()
    }

    /// Those that nobody has taken up again.
    pub(super) fn dormant(&self) -> Vec<Arc<Task>> {
        let mut all = self.all();
        all.retain(|task| task.is_dormant());
        all
    }

    /// Whether another one waits in a queue.
    pub(super) fn any_waiting(&self, queue: usize, but: &Task) -> bool {
        self.maps().ids.values().any(|task| {
            task.queue == queue && task.token != but.token && task.state().waits_since.is_some()
        })
    }

    /// Whether an instance has another one.
    pub(super) fn has_any(&self, instance: &str) -> bool {
        let maps = self.maps();
        let mut tasks = maps.ids.values();
        tasks.any(|task| task.state().claimed_by.as_deref() == Some(instance))
    }

    /// How long the oldest has waited in a queue, in milliseconds.
    pub(super) fn oldest_waiting(&self, queue: usize) -> Option<u64> {
        let maps = self.maps();
        let waiting = maps.ids.values().filter(|task| task.queue == queue);
        let ages = waiting.filter_map(|task| Some(task.state().waits_since?.elapsed()));
        ages.max()
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }
}
