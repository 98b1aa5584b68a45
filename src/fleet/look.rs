//! A look around, once a second: instances that are gone, messages that are lost, the length of the
//! queues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::Connection;
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};

use super::Inner;
use super::task::{News, State};
use crate::telemetry::metrics;

const PAUSE: Duration = Duration::from_secs(1);
/// A job that nobody has while its queue is empty for so long is published anew.
const LOST: Duration = Duration::from_secs(30);
/// The queues are looked at so often.
const QUEUES: Duration = Duration::from_secs(2);

/// Looks for ever.
pub(super) async fn keep(inner: &Arc<Inner>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let lost = inner.seen.take_lost();
        let tasks = inner.tasks.all();
        for task in &tasks {
            super::reply::show_due(task);
            let owner = task.state().claimed_by.clone();
            if owner.is_some_and(|owner| lost.contains(&owner)) {
                task.abandoned(inner.max_attempts);
            }
        }
        let queues = inner.queues().clone();
        for task in tasks {
            let queue = queues.get(task.queue);
            let empty = queue.and_then(|queue| queue.empty_since);
            let mut state = task.state();
            let now = Instant::now();
            if is_lost(&state, empty, now) {
                state.published = Some(now);
                drop(state);
                task.tell(News::Publish);
            }
        }
        for (index, queue) in queues.iter().enumerate() {
            let age = inner.tasks.oldest_waiting(index).unwrap_or(0);
            metrics::gateway_queue(&queue.name, queue.waiting, queue.consumers, age);
        }
    }
}

/// Whether its message is nowhere: it waits, and its queue has been empty long enough.
fn is_lost(state: &State, empty_since: Option<Instant>, now: Instant) -> bool {
    let long = |at: Option<Instant>| at.is_some_and(|at| now.duration_since(at) >= LOST);
    !state.ended && long(state.waits_since) && long(state.published) && long(empty_since)
}

/// Asks for the length of the queues, until the connection is lost.
pub(super) async fn at_queues(inner: &Inner, connection: &Connection) -> String {
    loop {
        let Ok(channel) = connection.create_channel().await else {
            return std::future::pending().await;
        };
        let asked = async {
            loop {
                for (index, name) in inner.gateway.queues.iter().enumerate() {
                    let options = QueueDeclareOptions {
                        passive: true,
                        ..QueueDeclareOptions::default()
                    };
                    let name = ShortString::try_new(name.as_str()).unwrap_or_default();
                    let queue = channel
                        .queue_declare(name, options, FieldTable::default())
                        .await?;
                    inner.note_queue(index, Some((queue.message_count(), queue.consumer_count())));
                }
                tokio::time::sleep(QUEUES).await;
            }
            #[expect(unreachable_code, reason = "names the type of the error")]
            lapin::Result::Ok(())
        };
        let ended: lapin::Result<()> = asked.await;
        if ended.is_err() {
            // A queue that is gone comes back with the next who declares it.
            tokio::time::sleep(PAUSE).await;
            for name in &inner.gateway.queues {
                let topology = crate::broker::topology::Topology {
                    exchange: inner.exchange.clone(),
                    queue: ShortString::try_new(name.as_str()).unwrap_or_default(),
                };
                let _ = topology.ensure(connection).await;
            }
        }
    }
}

impl Inner {
    /// Instances and queues are heard of from now on, or are not; what was known of them is old.
    pub(super) fn listens(&self, listens: bool) {
        self.seen.hears(listens);
        for queue in self.queues().iter_mut() {
            queue.empty_since = None;
        }
    }

    fn note_queue(&self, index: usize, counts: Option<(u32, u32)>) {
        let mut queues = self.queues();
        let Some(queue) = queues.get_mut(index) else {
            return;
        };
        let (waiting, consumers) = counts.unwrap_or_default();
        (queue.waiting, queue.consumers) = (waiting, consumers);
        if waiting > 0 {
            queue.empty_since = None;
        } else {
            queue.empty_since.get_or_insert_with(Instant::now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_whose_queue_has_been_empty_for_half_a_minute_is_published_anew() {
        let then = Instant::now();
        let after = |seconds: u64| then + Duration::from_secs(seconds);
        let state = |published: u64, waits: Option<u64>| State {
            published: Some(after(published)),
            waits_since: waits.map(after),
            ..State::default()
        };
        let waits = state(0, Some(0));
        assert!(!is_lost(&waits, Some(after(5)), after(34)));
        assert!(is_lost(&waits, Some(after(5)), after(35)));
        // Something waits there: it may be this one.
        assert!(!is_lost(&waits, None, after(1000)));
        // Somebody has it, it has just been given back, it was published a moment ago, it is over.
        assert!(!is_lost(&state(0, None), Some(after(0)), after(1000)));
        assert!(!is_lost(&state(0, Some(90)), Some(after(0)), after(100)));
        assert!(!is_lost(&state(90, Some(0)), Some(after(0)), after(100)));
        let over = State {
            ended: true,
            ..state(0, Some(0))
        };
        assert!(!is_lost(&over, Some(after(0)), after(1000)));
    }
}
