//! Places in the queue.

use std::sync::Arc;

use super::job::Job;
use super::snapshot::Status;

/// A number in a queue has these bits for the order, and above them the queue's own number, where
/// there are several.
pub(super) const LANE_BITS: u32 = 48;

/// Below them the order of acceptance; between, what comes first.
pub(super) const ORDER_BITS: u32 = 40;

/// ComfyUI has not begun with it.
pub(super) const fn waits(status: Status) -> bool {
    matches!(status, Status::Preprocessing | Status::Pending)
}

/// The numbers of those that wait in ComfyUI's queue, next first.
pub(super) fn waiting(jobs: &[Arc<Job>]) -> Vec<u64> {
    let mut waiting: Vec<u64> = jobs.iter().filter_map(|job| job.waits_as()).collect();
    waiting.sort_unstable();
    waiting
}

/// The place of a prompt among those that wait, 1 = next.
pub(super) fn position(job: &Job, waiting: &[u64]) -> Option<usize> {
    let mine = job.waits_as()?;
    let lane = mine >> LANE_BITS << LANE_BITS;
    let before = |number: u64| waiting.partition_point(|other| *other < number);
    Some(before(mine) - before(lane) + 1)
}
