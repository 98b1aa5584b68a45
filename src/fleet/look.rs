//! A look around, once a second: instances that are gone, messages that are lost, the length of the
//! queues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::Connection;
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};

use super::Inner;
use super::task::News;
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
            let published = state.published;
            let unclaimed = !state.ended && state.waits_since.is_some();
            if unclaimed
                && empty.is_some_and(|since| since.elapsed() >= LOST)
                && published.is_some_and(|at| at.elapsed() >= LOST)
            {
                state.published = Some(Instant::now());
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
