//! ComfyUI as we see it: client, messages, socket, how a prompt ends, what it offers; and the supervisor of the child.

pub mod catalogue;
pub mod client;
pub mod conversion;
pub mod json;
pub mod message;
pub mod model_inputs;
pub mod models;
pub mod output_facts;
pub mod runs;
pub mod supervisor;
pub mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use catalogue::Catalogue;
use client::Client;
use conversion::KnownClasses;
use supervisor::OutputLog;
use watch::Watch;

use crate::config::ComfyConfig;
use crate::events::Events;

/// One ComfyUI: how to call it, who watches it, what it offers. Cheap to clone.
#[derive(Clone)]
pub struct Comfy {
    /// Its HTTP side.
    pub client: Client,
    /// Its prompts.
    pub watch: Watch,
    /// What it prints, while it is our child.
    pub output: OutputLog,
    catalogue: Arc<RwLock<Arc<Catalogue>>>,
    classes: Arc<KnownClasses>,
    /// Rises whenever we have put a model in place.
    models_version: Arc<AtomicU64>,
}

impl Comfy {
    /// Nothing is called yet.
    pub fn new(config: &ComfyConfig, http: reqwest::Client, events: Events) -> Self {
        let client = Client::new(http, &config.authority());
        Self {
            watch: Watch::new(config, client.clone(), events),
            client,
            output: OutputLog::default(),
            catalogue: Arc::default(),
            classes: Arc::default(),
            models_version: Arc::default(),
        }
    }

    /// What it offered when it was last started.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A model was put in place: lists of models are out of date.
    pub fn models_changed(&self) {
        self.models_version.fetch_add(1, Ordering::Relaxed);
    }

    /// A number that changes with [`Comfy::models_changed`].
    pub fn models_version(&self) -> u64 {
        self.models_version.load(Ordering::Relaxed)
    }

    /// It was started anew and asked.
    pub fn set_catalogue(&self, catalogue: Catalogue) {
        self.classes.set(catalogue.node_classes.clone());
        *self
            .catalogue
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(catalogue);
        self.models_changed();
    }
}
