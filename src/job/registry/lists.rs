//! What is asked about the jobs that are known.

use std::sync::Arc;

use tokio::sync::watch;

use super::JobRegistry;
use super::job::Job;
use super::position::{position, waiting, waits};
use super::snapshot::{JobSnapshot, Status};

impl JobRegistry {
    /// A prompt in flight.
    pub fn get(&self, id: &str) -> Option<Arc<Job>> {
        self.inner.lock().active.get(id).cloned()
    }

    /// All prompts in flight.
    pub fn all(&self) -> Vec<Arc<Job>> {
        self.inner.lock().active.values().cloned().collect()
    }

    /// The numbers of those that wait in ComfyUI's queue, next first. Found once for each change:
    /// thousands of streams ask for their places after it.
    pub(super) fn waiting(&self) -> Arc<Vec<u64>> {
        let change = *self.signals.moves.borrow();
        if let Some((found_at, waiting)) = &*self.waiting.lock()
            && *found_at == change
        {
            return waiting.clone();
        }
        let found = Arc::new(waiting(&self.all()));
        *self.waiting.lock() = Some((change, found.clone()));
        found
    }

    /// How many are in flight.
    pub fn count(&self) -> usize {
        self.inner.lock().active.len()
    }

    /// How many are in the first and in the second of [`JobRegistry::lists`].
    pub fn counts(&self) -> (usize, usize) {
        let all = self.all();
        let pending = all.iter().filter(|job| waits(job.status())).count();
        (all.len() - pending, pending)
    }

    /// One prompt, in flight or remembered.
    pub fn entry(&self, id: &str) -> Option<JobSnapshot> {
        if let Some(job) = self.get(id) {
            return Some(job.entry(&self.waiting()));
        }
        self.inner
            .lock()
            .finished
            .iter()
            .find(|entry| &*entry.id == id)
            .cloned()
    }

    /// The place of a job that waits, 1 = next: behind those in ComfyUI's queue come those whose
    /// inputs are still fetched.
    pub fn place(&self, job: &Job) -> Option<usize> {
        match job.status() {
            Status::Pending => position(job, &self.waiting()),
            Status::Preprocessing => {
                let all = self.all();
                let before = all
                    .iter()
                    .filter(|other| {
                        other.number < job.number && other.status() == Status::Preprocessing
                    })
                    .count();
                Some(self.waiting().len() + before + 1)
            }
            _ => None,
        }
    }

    /// `(running, pending, finished)`: those that ComfyUI works on or that are on their way out,
    /// those before that in queue order, and the remembered ones, newest first.
    pub fn lists(&self) -> (Vec<JobSnapshot>, Vec<JobSnapshot>, Vec<JobSnapshot>) {
        let all = self.all();
        let waiting = self.waiting();
        let (mut pending, mut running): (Vec<_>, Vec<_>) = all
            .iter()
            .map(|job| job.entry(&waiting))
            .partition(|entry| waits(entry.status));
        pending.sort_by_key(|entry| (entry.position.unwrap_or(usize::MAX), entry.created_at));
        running.sort_by_key(|entry| entry.started_at);
        let finished = self.inner.lock().finished.iter().cloned().collect();
        (running, pending, finished)
    }

    /// A number that rises with every change of [`JobRegistry::lists`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.signals.changes.subscribe()
    }

    /// A number that rises when a prompt comes, enters another state or ends.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.signals.moves.subscribe()
    }

    /// Waits until the last prompt in flight has ended. For one waiter.
    pub async fn emptied(&self) {
        self.emptied.notified().await;
    }
}
