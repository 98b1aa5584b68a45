//! What happens, told to whoever listens: system webhook, AMQP. A leaf: the parts that emit know
//! nothing of the listeners.
//!
//! Emitting never blocks and never fails. A listener owns a bounded queue and its own rule for
//! dropping (events.md).

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::telemetry::trace::Context;

/// One event.
#[derive(Debug, Clone)]
pub struct SystemEvent {
    /// `comfy` or `storage`.
    pub source: Source,
    /// One of [`crate::config::variables::EVENT_NAMES`], or a custom node's own type.
    pub name: Arc<str>,
    /// The event's `data`: for ComfyUI's messages the whole message `{type, data, sid}`, prompt
    /// ids replaced by ours.
    pub data: Arc<Value>,
    /// Our id of the prompt that it belongs to, and whether that is an AMQP task.
    pub prompt: Option<PromptRef>,
}

/// Which side an event comes from; it prefixes the name in webhook bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `comfy.<name>`
    Comfy,
    /// `storage.<name>`
    Storage,
}

/// The prompt an event belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptRef {
    /// The caller's id.
    pub id: Arc<str>,
    /// Its events go to the broker.
    pub published: bool,
    /// What goes out with its events.
    pub context: Option<Context>,
}

/// A listener.
pub trait EventSink: Send + Sync {
    /// Takes an event or drops it; returns at once.
    fn emit(&self, event: &Arc<SystemEvent>);
    /// Whether events of this name are worth making. Lets emitters skip work nobody asked for.
    fn wants(&self, name: &str) -> bool;
}

/// The handle through which events are emitted. Cheap to clone. Listeners are set once, by `app`.
#[derive(Clone, Default)]
pub struct Events {
    sinks: Arc<OnceLock<Vec<Arc<dyn EventSink>>>>,
}

impl Events {
    /// Sets the listeners. Only the first call counts; events before it are dropped.
    pub fn connect(&self, sinks: Vec<Arc<dyn EventSink>>) {
        let _ = self.sinks.set(sinks);
    }

    /// Whether anybody wants events of this name.
    pub fn wanted(&self, name: &str) -> bool {
        self.sinks
            .get()
            .is_some_and(|sinks| sinks.iter().any(|sink| sink.wants(name)))
    }

    /// Hands an event to everybody who wants it.
    pub fn emit(&self, event: SystemEvent) {
        let Some(sinks) = self.sinks.get() else {
            return;
        };
        let event = Arc::new(event);
        for sink in sinks.iter().filter(|sink| sink.wants(&event.name)) {
            sink.emit(&event);
        }
    }

    /// Emits a storage event: `file_downloaded`, `file_uploaded` or `file_deleted`. `data` must be
    /// free of secrets.
    pub fn storage(&self, name: &'static str, data: Value) {
        if self.wanted(name) {
            self.emit(SystemEvent {
                source: Source::Storage,
                name: name.into(),
                data: Arc::new(data),
                prompt: None,
            });
        }
    }
}
