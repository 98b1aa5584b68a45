//! ComfyUI as we see it: client, messages, socket, how a prompt ends, what it offers; and the
//! supervisor of the child.

pub mod catalogue;
pub mod client;
pub mod conversion;
pub mod fault;
pub mod input_kind;
pub mod json;
pub mod life;
pub mod message;
pub mod model_inputs;
pub mod models;
mod nudge;
pub mod output_facts;
pub mod pool;
pub mod runs;
pub mod supervisor;
pub mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use catalogue::Catalogue;
use client::Client;
use conversion::KnownClasses;
use fault::Faults;
use life::Life;
use parking_lot::RwLock;
use supervisor::OutputLog;
use watch::Watch;

use crate::config::ComfyConfig;
use crate::events::Events;
use crate::health::ComfyHealth;

/// A directory that no machine has.
const NOWHERE: &str = "/dev/null/temp";

/// How long a run may take; zero means for ever.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `PROMPT_TIMEOUT_S`: from when ComfyUI begins with it.
    pub run: Duration,
    /// `COMFYUI_HANG_TIMEOUT_S`: from when it was cancelled.
    pub cancelled: Duration,
}

/// One ComfyUI: how to call it, who watches it, what it offers. Cheap to clone: every job holds it.
#[derive(Clone)]
pub struct Comfy(Arc<Parts>);

/// See [`Comfy`].
pub struct Parts {
    /// Where it is, and what starts it.
    pub config: Arc<ComfyConfig>,
    /// How it stands with it.
    pub health: ComfyHealth,
    /// Its HTTP side.
    pub client: Client,
    /// Its prompts.
    pub watch: Watch,
    /// What it prints, while it is our child.
    pub output: OutputLog,
    /// What prompts have shown of it.
    pub faults: Faults,
    /// Where it is in its life.
    pub life: Life,
    /// How long a run may take.
    pub limits: Limits,
    /// What must be writable for prompts to succeed.
    pub folders: Arc<[PathBuf]>,
    catalogue: RwLock<Arc<Catalogue>>,
    classes: KnownClasses,
    /// What other machines' ComfyUI list, where there is none here.
    models_of_others: RwLock<Option<ModelLists>>,
    /// Rises whenever we have put a model in place.
    models_version: AtomicU64,
}

impl std::ops::Deref for Comfy {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Folder of models to the files in it.
type ModelLists = BTreeMap<String, Vec<String>>;

impl Comfy {
    /// Nothing is called yet.
    pub fn new(
        config: Arc<ComfyConfig>,
        http: reqwest::Client,
        events: Events,
        health: ComfyHealth,
        folders: Vec<PathBuf>,
    ) -> Self {
        let client = Client::new(http, &config.authority());
        let output = OutputLog::of(config.label());
        Self(Arc::new(Parts {
            faults: Faults::new(health.clone()),
            life: Life::default(),
            health,
            folders: folders.into(),
            limits: Limits {
                run: config.prompt_timeout,
                cancelled: config.hang_timeout,
            },
            watch: Watch::new(&config, client.clone(), events, output.clone()),
            client,
            output,
            catalogue: RwLock::default(),
            classes: KnownClasses::default(),
            models_of_others: RwLock::default(),
            models_version: AtomicU64::default(),
            config,
        }))
    }

    /// Its number, from 0.
    pub fn index(&self) -> usize {
        self.config.index
    }

    /// Its number where there are several: for whatever is shown.
    pub fn label(&self) -> Option<usize> {
        self.config.label()
    }

    /// Where it keeps its temporary files on this machine. Several that run already may each say
    /// the same of theirs, or be elsewhere: their files come over HTTP.
    pub fn temp_dir(&self) -> PathBuf {
        if self.config.several() && self.config.command.is_empty() {
            return PathBuf::from(NOWHERE);
        }
        self.catalogue().outputs.temp_dir(&self.config.home)
    }

    /// What it offered when it was last started.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.read().clone()
    }

    /// A model was put in place: lists of models are out of date.
    pub fn models_changed(&self) {
        self.models_version.fetch_add(1, Ordering::Relaxed);
    }

    /// A number that changes with [`Comfy::models_changed`].
    pub fn models_version(&self) -> u64 {
        self.models_version.load(Ordering::Relaxed)
    }

    /// What other machines' ComfyUI list stands for what ours would.
    pub fn set_models_of_others(&self, models: BTreeMap<String, Vec<String>>) {
        *self.models_of_others.write() = Some(models);
    }

    /// It was started anew and asked.
    pub fn set_catalogue(&self, catalogue: Catalogue) {
        self.classes.set(catalogue.node_classes.clone());
        *self.catalogue.write() = Arc::new(catalogue);
        self.models_changed();
    }
}
