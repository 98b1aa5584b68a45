//! What workflow files see as `config`, kept up to date with the running ComfyUI.
//!
//! Asking ComfyUI takes some thirty calls. So a call of a workflow is answered with what is known,
//! and asking goes on behind it; it waits only when we know that what is known is wrong (we have
//! put a model in place), and when it has failed and the reason could be that others have changed
//! something ([`ContextSource::fresh`]).

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::comfy::client::CallError;
use crate::comfy::pool::Pool;
use crate::config::Config;
use crate::graph::catalogue::NodeClasses;
use crate::workflow::{ContextSource, ModelFolder, WorkflowContext};

/// Files that others put into model folders are seen after this long; our own downloads at once.
const FRESH: Duration = Duration::from_secs(1);

/// The context, remembered.
pub(super) struct LiveContext(Arc<Inner>);

struct Inner {
    values: Map<String, Value>,
    env: BTreeMap<String, String>,
    comfy: Pool,
    warmup_checkpoint: Arc<OnceLock<String>>,
    known: Mutex<Option<Known>>,
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Known {
    number: u64,
    models_version: u64,
    /// When asking for it began.
    at: Instant,
    context: Arc<WorkflowContext>,
}

impl LiveContext {
    pub fn new(config: &Config, comfy: Pool, warmup_checkpoint: Arc<OnceLock<String>>) -> Self {
        let inner = Inner {
            values: values(config),
            env: config.workflow.env.clone(),
            comfy,
            warmup_checkpoint,
            known: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
        };
        Self(Arc::new(inner))
    }
}

#[async_trait]
impl ContextSource for LiveContext {
    async fn context(&self) -> (u64, Arc<WorkflowContext>) {
        let Some(known) = self.0.right() else {
            return self.0.refreshed().await;
        };
        if known.at.elapsed() >= FRESH && self.0.refreshing.try_lock().is_ok() {
            let inner = self.0.clone();
            tokio::spawn(async move { inner.refreshed().await });
        }
        (known.number, known.context)
    }

    async fn fresh(&self) -> (u64, Arc<WorkflowContext>) {
        self.0.refreshed().await
    }

    fn is_unknown(&self, number: u64) -> bool {
        number == 0
    }

    fn node_classes(&self) -> Option<Arc<NodeClasses>> {
        self.0.comfy.node_classes()
    }
}

impl Inner {
    /// What is known, unless it is known to be wrong.
    fn right(&self) -> Option<Known> {
        let known = self.known.lock().clone();
        known.filter(|known| known.models_version == self.comfy.models_version())
    }

    /// As of less than [`FRESH`] ago.
    async fn refreshed(&self) -> (u64, Arc<WorkflowContext>) {
        let _one_at_a_time = self.refreshing.lock().await;
        if let Some(known) = self.right().filter(|known| known.at.elapsed() < FRESH) {
            return (known.number, known.context);
        }
        let (at, models_version) = (Instant::now(), self.comfy.models_version());
        let asked = self.ask().await;
        let mut known = self.known.lock();
        // The number only rises when something changed: each rise makes the engine evaluate files
        // anew.
        let (number, context) = match (known.as_ref(), asked) {
            (Some(known), Ok(context)) if *known.context != context => {
                (known.number + 1, Arc::new(context))
            }
            // A ComfyUI that does not answer has not lost its models.
            (Some(known), _) => (known.number, known.context.clone()),
            (None, Ok(context)) => (1, Arc::new(context)),
            (None, Err(_)) => return (0, Arc::new(self.context_with(BTreeMap::default()))),
        };
        *known = Some(Known {
            number,
            models_version,
            at,
            context: context.clone(),
        });
        (number, context)
    }

    async fn ask(&self) -> Result<WorkflowContext, CallError> {
        Ok(self.context_with(self.comfy.list_models().await?))
    }

    fn context_with(&self, lists: BTreeMap<String, Vec<String>>) -> WorkflowContext {
        let catalogue = self.comfy.catalogue();
        let models = lists
            .into_iter()
            .map(|(folder, all)| {
                let dir = catalogue.model_dir(&folder).unwrap_or_default();
                (folder, ModelFolder { dir, all })
            })
            .collect();
        WorkflowContext {
            values: self.values.clone(),
            env: self.env.clone(),
            samplers: catalogue.samplers.clone(),
            schedulers: catalogue.schedulers.clone(),
            models,
            warmup_ckpt: self.warmup_checkpoint.get().cloned(),
        }
    }
}

/// The plain values that the Node server's `config` had, without its secrets.
fn values(config: &Config) -> Map<String, Value> {
    let comfy = &config.comfy;
    let authority = comfy.authority();
    let values = json!({
        "alwaysRestartComfyUI": comfy.always_restart,
        "apiVersion": crate::VERSION,
        "awsRegion": config.storage.s3.region,
        "azureStorageAccount": config.storage.azure.account,
        "cacheDir": config.storage.cache.dir,
        "comfyDir": comfy.home,
        "comfyHost": comfy.address,
        "comfyLaunchCmd": comfy.command.join(" "),
        "comfyPort": comfy.port.to_string(),
        "comfyURL": format!("http://{authority}"),
        "comfyWSURL": format!("ws://{authority}/ws"),
        "inputDir": comfy.input_dir,
        "logLevel": config.log.level,
        "lruCacheSizeBytes": config.storage.cache.max_bytes,
        "markdownSchemaDescriptions": config.workflow.markdown_descriptions,
        "maxBodySize": config.server.max_body_bytes,
        "maxQueueDepth": config.server.max_queue_depth,
        "modelDir": comfy.model_dir,
        "outputDir": comfy.output_dir,
        "prependFilenames": config.prompt.prepend_filenames,
        "promptWebhookRetries": config.webhook.retries,
        "startupCheckInterval": u64::try_from(
            comfy.startup_check_interval.as_millis()
        ).unwrap_or(u64::MAX),
        "startupCheckMaxTries": comfy.startup_check_max_tries,
        "workflowDir": config.workflow.dir,
        "wrapperHost": config.server.host,
        "wrapperPort": config.server.port.to_string(),
        "wrapperVersion": crate::VERSION,
    });
    match values {
        Value::Object(values) => values,
        _ => Map::new(),
    }
}
