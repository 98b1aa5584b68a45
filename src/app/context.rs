//! What workflow files see as `config`, kept up to date with the running ComfyUI.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::comfy::Comfy;
use crate::config::Config;
use crate::workflow::{ContextSource, ModelFolder, WorkflowContext};

/// Files that others put into model folders are seen after this long; our own downloads at once.
const FRESH: Duration = Duration::from_secs(1);

/// The context, remembered for a moment.
pub(super) struct LiveContext {
    values: Map<String, Value>,
    comfy: Comfy,
    warmup_checkpoint: Arc<OnceLock<String>>,
    known: Mutex<Option<Known>>,
    refreshing: tokio::sync::Mutex<()>,
}

struct Known {
    number: u64,
    models_version: u64,
    at: Instant,
    context: Arc<WorkflowContext>,
}

impl LiveContext {
    pub fn new(config: &Config, comfy: Comfy, warmup_checkpoint: Arc<OnceLock<String>>) -> Self {
        Self { values: values(config), comfy, warmup_checkpoint, known: Mutex::default(), refreshing: tokio::sync::Mutex::default() }
    }

    fn known(&self) -> Option<(u64, Arc<WorkflowContext>)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_ref()?;
        let fresh = known.models_version == self.comfy.models_version() && known.at.elapsed() < FRESH;
        fresh.then(|| (known.number, known.context.clone()))
    }

    async fn ask(&self) -> WorkflowContext {
        let catalogue = self.comfy.catalogue();
        let lists = self.comfy.list_models().await.unwrap_or_default();
        let models = lists
            .into_iter()
            .map(|(folder, all)| {
                let dir = catalogue.model_dir(&folder).map(std::path::Path::to_path_buf).unwrap_or_default();
                (folder, ModelFolder { dir, all })
            })
            .collect();
        WorkflowContext {
            values: self.values.clone(),
            samplers: catalogue.samplers.clone(),
            schedulers: catalogue.schedulers.clone(),
            models,
            warmup_ckpt: self.warmup_checkpoint.get().cloned(),
        }
    }
}

#[async_trait]
impl ContextSource for LiveContext {
    async fn context(&self) -> (u64, Arc<WorkflowContext>) {
        if let Some(known) = self.known() {
            return known;
        }
        let _one_at_a_time = self.refreshing.lock().await;
        if let Some(known) = self.known() {
            return known;
        }
        let models_version = self.comfy.models_version();
        let context = self.ask().await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // The number only rises when something changed: each rise makes the engine evaluate files anew.
        let (number, context) = match known.as_ref() {
            Some(known) if *known.context == context => (known.number, known.context.clone()),
            Some(known) => (known.number + 1, Arc::new(context)),
            None => (1, Arc::new(context)),
        };
        *known = Some(Known { number, models_version, at: Instant::now(), context: context.clone() });
        (number, context)
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
        "startupCheckInterval": u64::try_from(comfy.startup_check_interval.as_millis()).unwrap_or(u64::MAX),
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
