//! How the end of a prompt is noticed, whatever happens to the websocket.
//!
//! Prompts are registered here *before* they are sent to ComfyUI. Two sources then tell of them: the websocket
//! ([`socket`]), at once; and a slow look at queue and history ([`reconcile`]), in case the socket missed something. Whichever
//! is first ends the prompt. When ComfyUI dies, [`Watch::fail_all`] ends all of them.

mod reconcile;
mod socket;
mod worker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::message::{Message, Preview, TextMessage};
use super::supervisor::OutputLog;
use crate::config::ComfyConfig;
use crate::document::base64;
use crate::error::Failure;
use crate::events::{Events, PromptRef, Source, SystemEvent};

/// What a prompt's watcher is told.
#[derive(Debug)]
pub enum WatchEvent {
    /// A message of this prompt, or a `status` for those that asked for it.
    Message(TextMessage),
    /// A preview of this prompt.
    Preview(Preview),
    /// ComfyUI has begun with it: by its queue's word, for the socket may have missed it.
    Running,
    /// ComfyUI is done with it: by the socket's word, or with the history entry that was found.
    Ended(Option<Value>),
    /// It will never end: ComfyUI died, or knows nothing of it any more.
    Lost {
        /// Why, for the client.
        failure: Failure,
        /// The process that had it is gone. Otherwise it may still be there, and is to be taken out.
        dead: bool,
        /// Somebody wants it so: no fault of ComfyUI's, nor of the prompt's.
        wished: bool,
        /// ComfyUI worked on it, or must have: it may have died before it could say so.
        began: bool,
    },
}

/// All prompts that are watched, and the sources that tell of them. Cheap to clone.
#[derive(Clone)]
pub struct Watch {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    /// Of a ComfyUI that is not our child: what it prints comes as messages.
    output: Option<OutputLog>,
    authority: String,
    /// Its number, where there are several ComfyUI.
    label: Option<usize>,
    idle_timeout: Duration,
    events: Events,
    prompts: Mutex<HashMap<String, Watched>>,
    /// Wakes the reconciliation: something is in flight.
    wake: Notify,
    /// Asks for a look at queue and history now: the socket was replaced, and may have missed something.
    look: Notify,
    /// Tells the socket to be replaced: it is open but deaf.
    deaf: Notify,
    /// Since when the socket stands.
    connected_since: Mutex<Option<Instant>>,
    client_id: Mutex<String>,
    queue_remaining: watch::Sender<u64>,
    last_message: Mutex<Instant>,
    /// The prompt of ours that runs, by the socket's word: images without an id are its.
    running: Mutex<Option<String>>,
    /// When a message came that only the worker can have caused.
    worked: Mutex<Instant>,
    /// Ends the pause before the next try to connect.
    redial: Notify,
    connected: watch::Sender<bool>,
}

struct Watched {
    prompt: PromptRef,
    happenings: mpsc::UnboundedSender<WatchEvent>,
    wants_status: Arc<AtomicBool>,
    /// The socket its messages go to.
    client_id: String,
    /// When ComfyUI accepted it; it must be in queue or history from then on.
    submitted: Option<Instant>,
    /// When it was last known not to have ended: accepted, or seen in the queue.
    alive: Option<Instant>,
    /// ComfyUI has said that it works on it.
    started: bool,
    /// Its watcher knows from the queue that it runs; no proof that anybody works on it.
    told_running: bool,
    /// The end was told already; only the watcher's departure is awaited.
    ended: bool,
}

/// One watched prompt; dropping it ends the watch.
pub struct Watcher {
    /// ComfyUI's id of the prompt: a UUID of ours.
    pub id: String,
    /// To be sent as `client_id`, so that messages come to our socket.
    pub client_id: String,
    watch: Watch,
    happenings: mpsc::UnboundedReceiver<WatchEvent>,
}

impl Watch {
    /// A watch over the ComfyUI that `client` talks to; nothing runs yet.
    pub fn new(config: &ComfyConfig, client: Client, events: Events, output: OutputLog) -> Self {
        let inner = Inner {
            // A child's output comes through its pipes.
            output: config.command.is_empty().then_some(output),
            client,
            authority: config.authority(),
            label: config.label(),
            idle_timeout: config.ws_idle_timeout,
            events,
            prompts: Mutex::default(),
            wake: Notify::new(),
            look: Notify::new(),
            deaf: Notify::new(),
            connected_since: Mutex::default(),
            client_id: Mutex::new(new_id()),
            queue_remaining: watch::Sender::new(0),
            last_message: Mutex::new(Instant::now()),
            running: Mutex::default(),
            worked: Mutex::new(Instant::now()),
            redial: Notify::new(),
            connected: watch::Sender::new(false),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Watches until cancelled: the lifetime of one run of ComfyUI.
    pub async fn run(&self, cancel: CancellationToken) {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = socket::keep(&self.inner) => {}
            () = reconcile::keep(&self.inner) => {}
        }
        self.inner.connected.send_replace(false);
        self.inner.queue_remaining.send_replace(0);
    }

    /// Whether the socket stands.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.inner.connected.subscribe()
    }

    fn client_id(&self) -> String {
        lock(&self.inner.client_id).clone()
    }

    /// ComfyUI's queue length as it reports it.
    pub fn queue_remaining(&self) -> watch::Receiver<u64> {
        self.inner.queue_remaining.subscribe()
    }

    /// For how long ComfyUI has had work and said nothing of it. `None` when it has no work, when it has begun with it (one node may
    /// take an hour without a word), or when the socket was replaced since it got it, so that its messages go nowhere.
    pub fn silent_for(&self) -> Option<Duration> {
        let current = self.client_id();
        let prompts = lock(&self.inner.prompts);
        let working: Vec<&Watched> = prompts
            .values()
            .filter(|watched| !watched.ended && watched.submitted.is_some())
            .collect();
        let connected = (*lock(&self.inner.connected_since))?;
        let unheard = |watched: &Watched| {
            watched.client_id != current
                || watched
                    .submitted
                    .is_some_and(|submitted| submitted < connected)
        };
        if working
            .iter()
            .any(|watched| watched.started || unheard(watched))
        {
            return None;
        }
        let oldest = working
            .iter()
            .filter_map(|watched| watched.submitted)
            .min()?;
        Some(
            oldest
                .elapsed()
                .min(lock(&self.inner.last_message).elapsed()),
        )
    }

    /// Begins to watch a new prompt under an id of [`new_prompt_id`]. Do this before sending it. `wants_status` says at any time whether `status`
    /// messages, which belong to no prompt, are told too.
    pub fn register(
        &self,
        id: String,
        prompt: PromptRef,
        wants_status: Arc<AtomicBool>,
    ) -> Watcher {
        self.watch(id, prompt, wants_status)
    }

    /// Watches a prompt that ComfyUI has queued by itself, as the continuation of one of ours.
    pub fn adopt(&self, id: String, prompt: PromptRef, wants_status: Arc<AtomicBool>) -> Watcher {
        let watcher = self.watch(id, prompt, wants_status);
        if let Some(watched) = lock(&self.inner.prompts).get_mut(&watcher.id) {
            watched.submitted = Some(Instant::now());
        }
        // It may have ended already.
        self.inner.wake.notify_one();
        self.inner.look.notify_one();
        watcher
    }

    fn watch(&self, id: String, prompt: PromptRef, wants_status: Arc<AtomicBool>) -> Watcher {
        let (sender, happenings) = mpsc::unbounded_channel();
        let client_id = self.client_id();
        let watched = Watched {
            prompt,
            happenings: sender,
            wants_status,
            client_id: client_id.clone(),
            submitted: None,
            alive: None,
            started: false,
            told_running: false,
            ended: false,
        };
        lock(&self.inner.prompts).insert(id.clone(), watched);
        Watcher {
            id,
            client_id,
            watch: self.clone(),
            happenings,
        }
    }

    /// Ends every watched prompt: ComfyUI is dead (then nothing of them is left in it), or cannot be reached.
    pub fn fail_all(&self, failure: &Failure, dead: bool) {
        self.lose_all(failure, dead, false);
    }

    /// The same, because somebody wants ComfyUI started anew.
    pub fn fail_all_by_wish(&self, failure: &Failure) {
        self.lose_all(failure, true, true);
    }

    fn lose_all(&self, failure: &Failure, dead: bool, wished: bool) {
        let mut prompts = lock(&self.inner.prompts);
        let began = |watched: &Watched| watched.started || watched.told_running;
        let queued = prompts.values().filter(|watched| !watched.ended);
        // The next in its queue, where none has begun by its word.
        let next = match queued.clone().any(began) {
            true => None,
            false => queued.filter_map(|watched| watched.submitted).min(),
        };
        for watched in prompts.values_mut() {
            let began = began(watched) || next.is_some() && watched.submitted == next;
            watched.end(WatchEvent::Lost {
                began,
                failure: failure.clone(),
                dead,
                wished,
            });
        }
    }

    /// ComfyUI answers again: the socket is opened now, not after its pause.
    pub fn redial(&self) {
        self.inner.redial.notify_one();
    }
}

impl Watcher {
    /// ComfyUI has accepted the prompt.
    pub fn submitted(&self) {
        if let Some(watched) = lock(&self.watch.inner.prompts).get_mut(&self.id) {
            watched.submitted = Some(Instant::now());
            watched.alive = watched.submitted;
        }
        self.watch.inner.wake.notify_one();
    }

    /// The next happening. Never ends by itself: an end comes as [`WatchEvent::Ended`] or [`WatchEvent::Lost`]. Cancel-safe.
    pub async fn next(&mut self) -> WatchEvent {
        match self.happenings.recv().await {
            Some(happening) => happening,
            // The sender lives in the registry until this watcher is dropped.
            None => std::future::pending().await,
        }
    }

    /// Why the prompt will never end, once that is known. Cancel-safe, but other happenings are skipped.
    pub async fn lost(&mut self) -> Failure {
        loop {
            if let WatchEvent::Lost { failure, .. } = self.next().await {
                return failure;
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        lock(&self.watch.inner.prompts).remove(&self.id);
    }
}

impl Watched {
    fn end(&mut self, how: WatchEvent) {
        if !self.ended {
            self.ended = true;
            let _ = self.happenings.send(how);
        }
    }
}

impl Inner {
    /// Routes one message: to its prompt, to the queue gauge, to the listeners of system events.
    fn route(&self, message: Message) {
        *lock(&self.last_message) = Instant::now();
        match message {
            Message::Text(message) => self.route_text(message),
            Message::Preview(preview) => self.route_preview(preview),
            Message::NodeText => {}
        }
    }

    fn route_text(&self, message: TextMessage) {
        let status = message.kind == "status";
        if message.prompt_id.is_some() {
            *lock(&self.worked) = Instant::now();
        }
        if status {
            let value = message.value();
            if let Some(remaining) = value
                .pointer("/data/status/exec_info/queue_remaining")
                .and_then(Value::as_u64)
            {
                self.queue_remaining
                    .send_if_modified(|known| std::mem::replace(known, remaining) != remaining);
            }
        }
        if let Some(output) = self.output.as_ref().filter(|_| message.kind == "logs") {
            let value = message.value();
            let entries = value.pointer("/data/entries").and_then(Value::as_array);
            let texts = entries.into_iter().flatten();
            texts
                .filter_map(|entry| entry.get("m")?.as_str())
                .flat_map(|text| text.split(['\n', '\r']))
                .filter(|line| !line.is_empty())
                .for_each(|line| output.push(line));
        }
        let wanted = self.events.wanted(&message.kind);
        let mut prompts = lock(&self.prompts);
        let prompt = message
            .prompt_id
            .as_ref()
            .and_then(|id| prompts.get(id))
            .map(|watched| watched.prompt.clone());
        if wanted {
            self.emit(&message, prompt.clone());
        }
        if status {
            for watched in prompts
                .values()
                .filter(|watched| watched.wants_status.load(Ordering::Relaxed))
            {
                let _ = watched
                    .happenings
                    .send(WatchEvent::Message(message.clone()));
            }
            return;
        }
        let Some(watched) = message
            .prompt_id
            .as_ref()
            .and_then(|id| prompts.get_mut(id))
        else {
            return;
        };
        // `executing` with node null: over, whatever the outcome (comfyui.md 3.2). `execution_success` alone is too early.
        watched.started |= matches!(message.kind.as_str(), "execution_start" | "executing");
        let over = message.kind == "executing"
            && message
                .value()
                .pointer("/data/node")
                .is_none_or(Value::is_null);
        if watched.started {
            *lock(&self.running) = message.prompt_id.clone().filter(|_| !over);
        }
        let _ = watched.happenings.send(WatchEvent::Message(message));
        if over {
            watched.end(WatchEvent::Ended(None));
        }
    }

    fn emit(&self, message: &TextMessage, prompt: Option<PromptRef>) {
        let data = match &prompt {
            Some(prompt) => {
                serde_json::from_str(&message.text_with_id(&prompt.id)).unwrap_or_default()
            }
            None => message.value(),
        };
        self.events.emit(SystemEvent {
            source: Source::Comfy,
            name: message.kind.as_str().into(),
            data: Arc::new(data),
            prompt,
        });
    }

    fn route_preview(&self, preview: Preview) {
        *lock(&self.worked) = Instant::now();
        let prompts = lock(&self.prompts);
        // Type 1 previews carry no id. ComfyUI runs one prompt at a time: the one that has begun, or the only one there is.
        let running = lock(&self.running).clone();
        let watched = match preview.prompt_id.as_ref().or(running.as_ref()) {
            Some(id) => prompts.get(id),
            None if prompts.len() == 1 => prompts.values().next(),
            None => None,
        };
        let Some(watched) = watched else { return };
        if self.events.wanted("binary_preview") {
            let contents = json!({"prompt_id": &*watched.prompt.id, "image_type": preview.image_type, "image_data": base64(&preview.image)});
            let data = json!({"type": "binary_preview", "data": contents});
            self.events.emit(SystemEvent {
                source: Source::Comfy,
                name: "binary_preview".into(),
                data: Arc::new(data),
                prompt: Some(watched.prompt.clone()),
            });
        }
        let _ = watched.happenings.send(WatchEvent::Preview(preview));
    }
}

/// What the ids of this process's prompts end in, so that they are told from those that ComfyUI makes up.
static ISSUED: std::sync::LazyLock<[u8; 6]> = std::sync::LazyLock::new(|| {
    let [.., a, b, c, d, e, f] = *uuid::Uuid::new_v4().as_bytes();
    [a, b, c, d, e, f]
});

/// A new id for a prompt, which [`issued_here`] knows again.
pub fn new_prompt_id() -> String {
    let mut bytes = *uuid::Uuid::new_v4().as_bytes();
    bytes[10..].copy_from_slice(&*ISSUED);
    uuid::Uuid::from_bytes(bytes).to_string()
}

/// Whether a prompt id was made up by this process.
pub fn issued_here(id: &str) -> bool {
    uuid::Uuid::try_parse(id).is_ok_and(|id| id.as_bytes()[10..] == ISSUED[..])
}

/// ComfyUI wants canonical lower-case UUIDs (comfyui.md, section 10).
fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// No code panics while holding these locks, and the data would be sound even so.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
