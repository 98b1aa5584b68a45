//! What is asked about jobs, in flight or remembered.

use std::sync::Arc;

use tokio::sync::watch;

use super::Service;
use crate::job::registry::{Job, JobSnapshot};

impl Service {
    /// A prompt in flight.
    pub fn job(&self, id: &str) -> Option<Arc<Job>> {
        self.inner.jobs.get(id)
    }

    /// One prompt, in flight or remembered.
    pub fn entry(&self, id: &str) -> Option<JobSnapshot> {
        self.inner.jobs.entry(id)
    }

    /// The place of a job that waits, 1 = next.
    pub fn place(&self, job: &Job) -> Option<usize> {
        self.inner.jobs.place(job)
    }

    /// `(running, pending, finished)`
    pub fn lists(&self) -> (Vec<JobSnapshot>, Vec<JobSnapshot>, Vec<JobSnapshot>) {
        self.inner.jobs.lists()
    }

    /// How many of those in flight run or are on their way out, and how many come before that.
    pub fn counts(&self) -> (usize, usize) {
        self.inner.jobs.counts()
    }

    /// A number that rises with every change of [`Service::lists`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.jobs.changes()
    }

    /// A number that rises when a prompt comes, begins or ends.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.inner.jobs.moves()
    }

    /// Tells many that wait their places, for as long as it runs.
    pub async fn keep_telling_positions(&self) {
        self.inner.jobs.keep_telling_positions().await;
    }

    /// How many are in flight.
    pub fn in_flight(&self) -> usize {
        self.inner.jobs.count()
    }

    /// Waits until the last prompt in flight has ended. For one waiter.
    pub async fn emptied(&self) {
        self.inner.jobs.emptied().await;
    }
}
