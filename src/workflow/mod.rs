//! Endpoints made from files: loading, the JavaScript engine, schemas.
//!
//! `files` finds them, `source` strips their types, `resolve` says what their imports mean,
//! `engine` evaluates each in an isolate of its own, `registry` makes endpoints of them, `schedule`
//! and `pool` decide who runs when and where, `plain` does all of it for JSON files without
//! JavaScript. The built-in zod follows **zod 3** (3.25: codes, messages, shapes of issues) because
//! the Node server used it; zod 4's additional functions exist, its issue shapes do not. Where the
//! two differ: zod 4 says `invalid_format` for `invalid_string`, `invalid_value` for enums and
//! literals, `invalid_union` for an unknown discriminator, `invalid_key` for record keys, and words
//! its messages differently ("Invalid input: expected string, received number"); it checks
//! `z.string().uuid()` against RFC 9562, requires every key of `z.record(z.enum())`, fills defaults
//! of optional object keys in more places, and refuses infinite numbers. A file that needs those
//! gets them by putting the real package into `WORKFLOW_DIR/node_modules`.

mod context;
mod engine;
mod files;
mod find;
mod generate;
mod listing;
mod load;
mod plain;
mod pool;
mod registry;
mod resolve;
mod schedule;
mod source;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::Library;
use load::{directory_state, watch};
use parking_lot::RwLock;
use pool::Pool;
use registry::{Registry, ScriptWorkflow, Workflow};
use schedule::Scheduler;

use crate::config::WorkflowConfig;

pub use context::{ContextSource, ModelFolder, WorkflowContext};
pub use generate::Generated;
pub use listing::{BrokenFile, Endpoint, Listed};

/// All workflow endpoints. Cheap to clone.
#[derive(Clone)]
pub struct Workflows(Arc<Inner>);

struct Inner {
    config: WorkflowConfig,
    source: Arc<dyn ContextSource>,
    registry: RwLock<Arc<Registry>>,
    scheduler: Scheduler,
    pool: Arc<Pool>,
    /// One load at a time; holds the files of the last one.
    loading: tokio::sync::Mutex<Option<Arc<Library>>>,
    /// The context as JSON, made once per number.
    context: tokio::sync::Mutex<Option<(u64, Arc<str>)>>,
    /// Rises with every load.
    changed: tokio::sync::watch::Sender<u64>,
    watching: AtomicBool,
    refreshing: AtomicBool,
}

impl Workflows {
    /// Sets it up; loads nothing yet.
    pub fn new(config: &WorkflowConfig, source: Arc<dyn ContextSource>) -> Self {
        Self(Arc::new(Inner {
            config: config.clone(),
            source,
            registry: RwLock::default(),
            scheduler: Scheduler::new(),
            pool: Arc::default(),
            loading: tokio::sync::Mutex::default(),
            context: tokio::sync::Mutex::default(),
            changed: tokio::sync::watch::Sender::new(0),
            watching: AtomicBool::new(false),
            refreshing: AtomicBool::new(false),
        }))
    }

    /// Loads (or loads anew) every file; files that cannot be loaded are logged and left out.
    /// Starts watching if configured.
    pub async fn load(&self) {
        if self.0.config.watch && !self.0.watching.swap(true, Ordering::SeqCst) {
            // Seen before the files are read: a change in between is found at the next look.
            let seen = directory_state(&self.0.config.dir).await;
            tokio::spawn(watch(
                Arc::downgrade(&self.0),
                self.0.config.dir.clone(),
                seen,
            ));
        }
        self.0.load(true).await;
    }

    /// Wakes whenever the files were loaded anew: because they, or what ComfyUI offers, have
    /// changed.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}

impl Inner {
    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.read())
    }
}

impl Workflow {
    const fn script(&self) -> Option<&ScriptWorkflow> {
        match self {
            Self::Script(script) => Some(script),
            Self::Plain(_) => None,
        }
    }
}
