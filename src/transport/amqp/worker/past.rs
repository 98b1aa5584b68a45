//! The id of a task, and what is known of its past.

use std::sync::Arc;

use lapin::{Acker, BasicProperties};
use uuid::Uuid;

use super::Worker;
use crate::transport::amqp::attempts::Past;
use crate::transport::amqp::task::Task;

impl Worker {
    /// The task's id: its own, or the one it was given, now or when it was delivered before; and
    /// what is known of its past: the greatest of what the message, the broker, the notes and this
    /// process have counted.
    pub(super) async fn past_of(
        &self,
        task: &Task,
        properties: &BasicProperties,
        redelivered: bool,
    ) -> (Arc<str>, Past) {
        let mut past = Past::of(properties);
        if !redelivered {
            past.deliveries = None;
            return (self.id_of(task, false, None), past);
        }
        let noted = self
            .parts
            .notes
            .find(task.id.clone(), task.fingerprint)
            .await;
        let given = noted.as_ref().map(|noted| Arc::from(noted.id.as_str()));
        let id = self.id_of(task, true, given);
        let remembered = self.attempts.lock().get(&id);
        past.attempts = past.attempts.max(remembered);
        if let Some(noted) = noted {
            past.attempts = past.attempts.max(noted.attempts);
            past.suspect |= noted.suspect;
            if noted.attempts > 0 && !noted.suspect {
                // It is known what happened: the broker's count would only repeat it.
                past.deliveries = past.deliveries.filter(|count| *count > noted.attempts);
            }
        }
        // Counted by the broker alone: it ran somewhere, or only waited there.
        past.deliveries = past.deliveries.filter(|count| *count > past.attempts);
        (id, past)
    }

    fn id_of(&self, task: &Task, redelivered: bool, noted: Option<Arc<str>>) -> Arc<str> {
        if let Some(id) = &task.id {
            return Arc::clone(id);
        }
        let here = self.here.lock();
        // One whose delivery is still outstanding is another task with the same bytes.
        let taken = |id: &str| {
            here.get(id)
                .is_some_and(|waiting| waiting.ackers.iter().any(Acker::usable))
        };
        let mut given = self.given_ids.lock();
        let known = if redelivered {
            given.recall(task.fingerprint, taken).or(noted)
        } else {
            None
        };
        known.unwrap_or_else(|| {
            let id = Uuid::new_v4().to_string().into();
            given.note(task.fingerprint, &id);
            id
        })
    }
}
