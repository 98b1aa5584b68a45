//! Endpoints made from files: loading, the JavaScript engine, schemas.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::config::WorkflowConfig;
use crate::error::Failure;

/// What workflow files see as `config`: plain values, and what the running ComfyUI offers at this moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkflowContext {
    /// The plain configuration values without secrets (`comfyURL`, `modelDir`, `outputDir`, ...).
    pub values: serde_json::Map<String, Value>,
    /// Samplers of the live ComfyUI.
    pub samplers: Vec<String>,
    /// Schedulers of the live ComfyUI.
    pub schedulers: Vec<String>,
    /// Per model folder: its directory and the files in it.
    pub models: BTreeMap<String, ModelFolder>,
    /// `config.warmupCkpt`.
    pub warmup_ckpt: Option<String>,
}

/// A model folder as workflow files see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelFolder {
    /// Its first directory.
    pub dir: PathBuf,
    /// Relative file names, sorted.
    pub all: Vec<String>,
}

/// Gives the context as it is now; asked at loading and at each call, so it should be cheap when nothing changed.
#[async_trait::async_trait]
pub trait ContextSource: Send + Sync {
    /// The context, and a number that changes whenever it does.
    async fn context(&self) -> (u64, Arc<WorkflowContext>);
}

/// One endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `/workflow/<path without extension>`
    pub route: String,
    /// For the documentation.
    pub summary: Option<String>,
    /// For the documentation; with the markdown table unless that is switched off.
    pub description: Option<String>,
    /// JSON Schema (OpenAPI 3.1 dialect) of `input`.
    pub input_schema: Value,
}

/// A parsed input and the graph made from it.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The input after the schema: defaults filled in, unknown keys stripped.
    pub input: Value,
    /// The graph.
    pub prompt: Value,
}

/// All workflow endpoints. Cheap to clone.
#[derive(Clone)]
pub struct Workflows {}

impl Workflows {
    /// Sets it up; loads nothing yet.
    pub fn new(config: &WorkflowConfig, source: Arc<dyn ContextSource>) -> Self {
        let _ = (config, source);
        Self {}
    }

    /// Loads (or loads anew) every file; files that cannot be loaded are logged and left out. Starts watching if configured.
    pub async fn load(&self) {}

    /// The endpoints, sorted by route. Does not block.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        Vec::new()
    }

    /// Runs one. `path` is what follows `/workflow/`.
    ///
    /// # Errors
    /// 404 for an unknown path; 400 with location `input.<path>` for input that breaks the schema; 400 when generating fails.
    pub async fn generate(&self, path: &str, input: Value) -> Result<Generated, Failure> {
        let _ = input;
        Err(Failure::new(crate::error::Code::NotFound, format!("there is no workflow \"{path}\"")))
    }
}
