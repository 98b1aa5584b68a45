//! How the end of a prompt is noticed, whatever happens to the websocket.
//!
//! Prompts are registered here *before* they are sent to ComfyUI. Two sources then tell of them:
//! the websocket ([`socket`]), at once; and a slow look at queue and history ([`reconcile`]), in
//! case the socket missed something. Whichever is first ends the prompt. When ComfyUI dies,
//! [`Watch::fail_all`] ends all of them.

mod ids;
mod reconcile;
mod route;
mod socket;
mod statuses;
mod watcher;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ids::new_id;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::message::{Preview, TextMessage};
use super::supervisor::OutputLog;
use crate::config::ComfyConfig;
use crate::error::Failure;
use crate::events::{Events, PromptRef};
use crate::mailbox::Mailbox;

pub use ids::{issued_here, new_prompt_id};
pub use watcher::Watcher;

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
        /// The process that had it is gone. Otherwise it may still be there, and is to be taken
        /// out.
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
    /// Asks for a look at queue and history now: the socket was replaced, and may have missed
    /// something.
    look: Notify,
    /// Tells the socket to be replaced: it is open but deaf.
    deaf: Notify,
    /// Since when the socket stands.
    connected_since: Mutex<Option<Instant>>,
    client_id: Mutex<String>,
    queue_remaining: watch::Sender<u64>,
    /// The newest `status`, until a crowd is told.
    statuses: Mailbox<TextMessage>,
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
    happenings: Arc<Mailbox<WatchEvent>>,
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
            statuses: Mailbox::default(),
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
            () = statuses::keep(&self.inner) => {}
        }
        self.inner.connected.send_replace(false);
        self.inner.queue_remaining.send_replace(0);
    }

    /// Whether the socket stands.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.inner.connected.subscribe()
    }

    fn client_id(&self) -> String {
        self.inner.client_id.lock().clone()
    }

    /// ComfyUI's queue length as it reports it.
    pub fn queue_remaining(&self) -> watch::Receiver<u64> {
        self.inner.queue_remaining.subscribe()
    }

    /// For how long ComfyUI has had work and said nothing of it. `None` when it has no work, when
    /// it has begun with it (one node may take an hour without a word), or when the socket was
    /// replaced since it got it, so that its messages go nowhere.
    pub fn silent_for(&self) -> Option<Duration> {
        let current = self.client_id();
        let prompts = self.inner.prompts.lock();
        let working: Vec<&Watched> = prompts
            .values()
            .filter(|watched| !watched.ended && watched.submitted.is_some())
            .collect();
        let connected = (*self.inner.connected_since.lock())?;
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
                .min(self.inner.last_message.lock().elapsed()),
        )
    }

    /// Watches a prompt that ComfyUI has queued by itself, as the continuation of one of ours.
    pub fn adopt(&self, id: String, prompt: PromptRef, wants_status: Arc<AtomicBool>) -> Watcher {
        let watcher = self.register(id, prompt, wants_status);
        if let Some(watched) = self.inner.prompts.lock().get_mut(&watcher.id) {
            watched.submitted = Some(Instant::now());
        }
        // It may have ended already.
        self.inner.wake.notify_one();
        self.inner.look.notify_one();
        watcher
    }

    /// Begins to watch a new prompt under an id of [`new_prompt_id`]. Do this before sending it.
    /// `wants_status` says at any time whether `status` messages, which belong to no prompt, are
    /// told too.
    pub fn register(
        &self,
        id: String,
        prompt: PromptRef,
        wants_status: Arc<AtomicBool>,
    ) -> Watcher {
        let happenings = Arc::new(Mailbox::default());
        let client_id = self.client_id();
        let watched = Watched {
            prompt,
            happenings: happenings.clone(),
            wants_status,
            client_id: client_id.clone(),
            submitted: None,
            alive: None,
            started: false,
            told_running: false,
            ended: false,
        };
        self.inner.prompts.lock().insert(id.clone(), watched);
        Watcher {
            id,
            client_id,
            watch: self.clone(),
            happenings,
        }
    }

    /// Ends every watched prompt: ComfyUI is dead (then nothing of them is left in it), or cannot
    /// be reached.
    pub fn fail_all(&self, failure: &Failure, dead: bool) {
        self.lose_all(failure, dead, false);
    }

    /// The same, because somebody wants ComfyUI started anew.
    pub fn fail_all_by_wish(&self, failure: &Failure) {
        self.lose_all(failure, true, true);
    }

    fn lose_all(&self, failure: &Failure, dead: bool, wished: bool) {
        let mut prompts = self.inner.prompts.lock();
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

impl Watched {
    fn tell(&self, happening: WatchEvent) {
        self.happenings.put(happening);
    }

    fn end(&mut self, how: WatchEvent) {
        if !self.ended {
            self.ended = true;
            self.tell(how);
        }
    }
}
