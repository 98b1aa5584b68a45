//! Events of prompts on their way into the outbox: which ones, under which key, and how often.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::reply::Reply;

use crate::broker::outbox::{Body, Class, Outbox, OutboxMessage};
use crate::events::{EventSink, SystemEvent};
use crate::telemetry::logging::epoch_ms;
use crate::telemetry::trace::{self, Context};

/// Tasks whose progress is remembered; more than any instance has at a time.
const MAX_PACES: usize = 1024;

/// Decides about events; the [`EventSink`] that `app` connects.
#[derive(Debug)]
pub(super) struct StreamSink {
    outbox: Arc<Outbox>,
    publish_all: bool,
    previews: bool,
    progress_interval: Duration,
    paces: Mutex<HashMap<Arc<str>, Pace>>,
    held: Notify,
    /// The tasks that run here, for events that belong to no prompt (`status`).
    current: Mutex<Vec<(Arc<str>, Option<Context>)>>,
    /// Whoever has sent a task with an address for answers.
    replies: Mutex<HashMap<Arc<str>, Arc<Reply>>>,
}

/// When a task's progress went out last, and the newest one that waits for its time.
#[derive(Debug)]
struct Pace {
    sent: Instant,
    waiting: Option<(Arc<SystemEvent>, u64)>,
}

impl StreamSink {
    pub(super) fn new(
        outbox: Arc<Outbox>,
        publish_all: bool,
        previews: bool,
        progress_interval: Duration,
    ) -> Self {
        let (paces, held, current, replies) = Default::default();
        Self {
            outbox,
            publish_all,
            previews,
            progress_interval,
            paces,
            held,
            current,
            replies,
        }
    }

    /// A task begins to run here.
    pub(super) fn started(&self, id: &Arc<str>, reply: Option<&Arc<Reply>>) {
        let task = (Arc::clone(id), trace::current());
        self.lock_current().push(task);
        if let Some(reply) = reply {
            self.lock_replies()
                .insert(Arc::clone(id), Arc::clone(reply));
        }
    }

    /// The task that was sent with this id for answers.
    pub(super) fn task_of(&self, correlation: &str) -> Option<Arc<str>> {
        let replies = self.lock_replies();
        let mut all = replies.iter();
        all.find(|(_, reply)| reply.correlates(correlation))
            .map(|(id, _)| Arc::clone(id))
    }

    /// A prompt has ended: its last progress goes out before its result does.
    pub(super) fn ended(&self, id: &str) {
        self.lock_current().retain(|(other, _)| **other != *id);
        self.release(id);
        self.lock_replies().remove(id);
        self.lock_paces().remove(id);
    }

    /// Lets progress events out whose time has come. Runs for ever.
    pub(super) async fn pace(&self) {
        loop {
            self.held.notified().await;
            while let Some(due) = self.next_due() {
                tokio::time::sleep_until(due.into()).await;
                let now = Instant::now();
                let ready: Vec<Arc<str>> = self
                    .lock_paces()
                    .iter()
                    .filter(|(_, pace)| {
                        pace.waiting.is_some() && pace.sent + self.progress_interval <= now
                    })
                    .map(|(id, _)| Arc::clone(id))
                    .collect();
                for id in ready {
                    self.release(&id);
                }
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.lock_paces()
            .values()
            .filter(|pace| pace.waiting.is_some())
            .map(|pace| pace.sent + self.progress_interval)
            .min()
    }

    /// Sends a task's waiting progress, if there is one.
    fn release(&self, id: &str) {
        let waiting = self.lock_paces().get_mut(id).and_then(|pace| {
            let waiting = pace.waiting.take()?;
            pace.sent = Instant::now();
            Some(waiting)
        });
        if let Some((event, at_ms)) = waiting {
            let context = context_of(&event);
            self.post(Some(id.into()), context, event, at_ms);
        }
    }

    fn progress(&self, id: &Arc<str>, event: &Arc<SystemEvent>) {
        let now = Instant::now();
        {
            let mut paces = self.lock_paces();
            if paces.len() > MAX_PACES {
                paces.retain(|_, pace| pace.waiting.is_some());
            }
            if let Some(pace) = paces.get_mut(id) {
                if now < pace.sent + self.progress_interval {
                    pace.waiting = Some((Arc::clone(event), epoch_ms()));
                    self.held.notify_one();
                    return;
                }
                pace.waiting = None;
                pace.sent = now;
            } else {
                paces.insert(
                    Arc::clone(id),
                    Pace {
                        sent: now,
                        waiting: None,
                    },
                );
            }
        }
        let (id, context) = (Arc::clone(id), context_of(event));
        self.post(Some(id), context, Arc::clone(event), epoch_ms());
    }

    fn post(
        &self,
        task_id: Option<Arc<str>>,
        context: Option<Context>,
        event: Arc<SystemEvent>,
        at_ms: u64,
    ) {
        let stream = is_stream(&event.name);
        let Some(routing_key) = routing_key(stream, &event.name) else {
            return;
        };
        let class = if stream { Class::Stream } else { Class::Event };
        let reply = task_id.as_ref().and_then(|id| self.reply_of(id));
        let message = |key| {
            let body = Body::Event {
                task_id: task_id.clone(),
                event: Arc::clone(&event),
                at_ms,
            };
            OutboxMessage::new(key, body, class).below(context.clone())
        };
        if let Some(reply) = reply {
            let preview = *event.name == *"binary_preview";
            if !preview || self.previews || reply.previews {
                let (queue, properties) = reply.address(stream);
                let key = Arc::clone(&routing_key);
                self.outbox.post(message(key).for_queue(queue, properties));
            }
            if preview && !self.previews {
                return;
            }
        }
        self.outbox.post(message(routing_key));
    }

    /// Whoever has sent the task hears ComfyUI's own word of an end, as it was said.
    fn tell_word(&self, id: &Arc<str>, event: &SystemEvent) {
        if let Some(reply) = self.reply_of(id) {
            self.release(id);
            reply.tell_lasting(id, "comfy_message", &event.data);
        }
    }

    fn reply_of(&self, id: &str) -> Option<Arc<Reply>> {
        self.lock_replies().get(id).cloned()
    }

    fn lock_replies(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Reply>>> {
        self.replies.lock()
    }

    fn lock_paces(&self) -> MutexGuard<'_, HashMap<Arc<str>, Pace>> {
        self.paces.lock()
    }

    fn lock_current(&self) -> MutexGuard<'_, Vec<(Arc<str>, Option<Context>)>> {
        self.current.lock()
    }
}

impl EventSink for StreamSink {
    fn emit(&self, event: &Arc<SystemEvent>) {
        if !self.wants(&event.name) {
            return;
        }
        match &event.prompt {
            Some(prompt) if is_end(&event.name) => self.tell_word(&prompt.id, event),
            None if is_end(&event.name) => {}
            Some(prompt) if !prompt.published && !self.publish_all => {}
            Some(prompt)
                if *event.name == *"binary_preview"
                    && !self.previews
                    && self
                        .reply_of(&prompt.id)
                        .is_none_or(|reply| !reply.previews) => {}
            Some(prompt) if *event.name == *"progress" => self.progress(&prompt.id, event),
            Some(prompt) => {
                // What comes along with every step is no reason to hurry.
                if !matches!(&*event.name, "progress_state" | "binary_preview" | "status") {
                    self.release(&prompt.id);
                }
                let (id, context) = (Arc::clone(&prompt.id), prompt.context.clone());
                self.post(Some(id), context, Arc::clone(event), epoch_ms());
            }
            // `status` belongs to ComfyUI as a whole: told to the task at hand. The rest belongs to
            // prompts of others.
            None => {
                let current = if *event.name == *"status" {
                    self.lock_current().first().cloned()
                } else {
                    None
                };
                if current.is_some() || self.publish_all {
                    let (id, context) = current.unzip();
                    self.post(id, context.flatten(), Arc::clone(event), epoch_ms());
                }
            }
        }
    }

    fn wants(&self, name: &str) -> bool {
        match name {
            // Published once per task by the worker, with the outputs.
            "execution_success" => false,
            // Likewise; a gateway is told ComfyUI's own word, too.
            "execution_error" | "execution_interrupted" => !self.lock_replies().is_empty(),
            // Nothing that belongs to a task.
            "logs" | "feature_flags" | "file_downloaded" | "file_uploaded" | "file_deleted" => {
                false
            }
            "binary_preview" => {
                self.previews || self.lock_replies().values().any(|reply| reply.previews)
            }
            _ => true,
        }
    }
}

/// What the worker publishes in ComfyUI's place.
fn is_end(name: &str) -> bool {
    matches!(name, "execution_error" | "execution_interrupted")
}

fn context_of(event: &SystemEvent) -> Option<Context> {
    event.prompt.as_ref()?.context.clone()
}

fn is_stream(name: &str) -> bool {
    matches!(
        name,
        "progress" | "executing" | "progress_state" | "status" | "binary_preview"
    )
}

/// `event.stream.<type>` or `event.result.<type>`; none for a type (of a custom node) that cannot
/// be a routing key.
fn routing_key(stream: bool, name: &str) -> Option<Arc<str>> {
    let key = format!("event.{}.{name}", if stream { "stream" } else { "result" });
    (key.len() <= 255).then(|| key.into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::broker::outbox::Receipt;
    use crate::events::{PromptRef, Source};

    fn event(name: &str, id: &str, published: bool, value: u64) -> Arc<SystemEvent> {
        let data = Arc::new(json!({"type": name, "data": {"value": value}}));
        Arc::new(SystemEvent {
            source: Source::Comfy,
            name: name.into(),
            data,
            prompt: Some(PromptRef {
                id: id.into(),
                published,
                context: None,
            }),
        })
    }

    async fn drain(outbox: &Outbox) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        while let Ok(taken) = tokio::time::timeout(Duration::from_millis(20), outbox.next()).await {
            outbox.settle(taken.number, Some(Receipt::Confirmed));
            let Body::Event { event, .. } = taken.body else {
                unreachable!()
            };
            all.push((
                taken.routing_key.to_string(),
                event.data["data"]["value"].clone(),
            ));
        }
        all
    }

    #[tokio::test]
    async fn progress_is_limited_and_its_last_one_goes_out_before_what_follows() {
        let outbox = Arc::new(Outbox::new(0));
        let sink = StreamSink::new(Arc::clone(&outbox), false, false, Duration::from_secs(60));
        sink.emit(&event("progress", "a", true, 1));
        for value in 2..=50 {
            sink.emit(&event("progress", "a", true, value));
            if value == 2 {
                // ComfyUI sends one with each step; it does not let progress out.
                sink.emit(&event("progress_state", "a", true, 9));
            }
        }
        sink.emit(&event("progress", "http", false, 1));
        sink.emit(&event("binary_preview", "a", true, 1));
        sink.emit(&event("execution_success", "a", true, 1));
        sink.emit(&event("executed", "a", true, 7));
        let got = drain(&outbox).await;
        let expected = [
            ("event.stream.progress", 1),
            ("event.stream.progress_state", 9),
            ("event.stream.progress", 50),
            ("event.result.executed", 7),
        ];
        assert_eq!(
            got,
            expected.map(|(key, value)| (key.to_owned(), json!(value)))
        );
    }

    #[tokio::test]
    async fn a_held_progress_goes_out_when_its_time_has_come() {
        let outbox = Arc::new(Outbox::new(0));
        let sink = Arc::new(StreamSink::new(
            Arc::clone(&outbox),
            true,
            true,
            Duration::from_millis(30),
        ));
        let pacing = tokio::spawn({
            let sink = Arc::clone(&sink);
            async move { sink.pace().await }
        });
        for value in 1..=3 {
            sink.emit(&event("progress", "http", false, value));
        }
        assert_eq!(outbox.next().await.number, 0);
        let second = tokio::time::timeout(Duration::from_secs(5), outbox.next())
            .await
            .unwrap();
        assert!(
            matches!(second.body, Body::Event { event, .. } if event.data["data"]["value"] == 3)
        );
        pacing.abort();
    }
}
