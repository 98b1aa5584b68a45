//! What workflow files may ask about this server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::Inner;
use crate::graph::catalogue::NodeClasses;

/// What workflow files see as `config`: plain values, and what the running ComfyUI offers at this
/// moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkflowContext {
    /// The plain configuration values without secrets (`comfyURL`, `modelDir`, `outputDir`, ...).
    pub values: serde_json::Map<String, Value>,
    /// `process.env`: the environment without secrets.
    pub env: BTreeMap<String, String>,
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

/// Gives the context; asked at loading and at each call, so it must be cheap.
#[async_trait::async_trait]
pub trait ContextSource: Send + Sync {
    /// The context, and a number that changes whenever it does. It may be a little out of date.
    async fn context(&self) -> (u64, Arc<WorkflowContext>);

    /// The context as it is now, however long finding out takes: asked when a call failed that
    /// might not fail under it.
    async fn fresh(&self) -> (u64, Arc<WorkflowContext>) {
        self.context().await
    }

    /// Whether a context of this number stands for nothing: no ComfyUI has said yet what it offers.
    fn is_unknown(&self, _number: u64) -> bool {
        false
    }

    /// What is known of ComfyUI's nodes, for files as the editor saves them.
    fn node_classes(&self) -> Option<Arc<NodeClasses>> {
        None
    }
}

fn context_value(context: &WorkflowContext) -> Value {
    let models: serde_json::Map<String, Value> = context
        .models
        .iter()
        .map(|(name, folder)| {
            (
                name.clone(),
                serde_json::json!({"dir": folder.dir, "all": folder.all}),
            )
        })
        .collect();
    serde_json::json!({
        "values": context.values,
        "env": context.env,
        "samplers": context.samplers,
        "schedulers": context.schedulers,
        "models": models,
        "warmupCkpt": context.warmup_ckpt,
    })
}

impl Inner {
    pub(super) async fn context_json(&self) -> (u64, Arc<str>) {
        self.as_json(self.source.context().await).await
    }

    pub(super) async fn fresh_json(&self) -> (u64, Arc<str>) {
        self.as_json(self.source.fresh().await).await
    }

    async fn as_json(&self, (number, context): (u64, Arc<WorkflowContext>)) -> (u64, Arc<str>) {
        let mut known = self.context.lock().await;
        if let Some((known_number, json)) = &*known
            && *known_number == number
        {
            return (number, Arc::clone(json));
        }
        let json: Arc<str> = context_value(&context).to_string().into();
        *known = Some((number, Arc::clone(&json)));
        (number, json)
    }
}
