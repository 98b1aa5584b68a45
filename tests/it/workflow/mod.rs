//! Workflow endpoints: files loaded, run, limited, described; the built-in zod against the real
//! ones.

mod calls;
mod differential;
mod examples;
mod limits;
mod loading;
mod node_modules;
mod plain;
mod schemas;

mod zod_packages;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use comfyui_api::config::WorkflowConfig;
use comfyui_api::workflow::{ContextSource, ModelFolder, WorkflowContext, Workflows};

/// A context that tests can change.
pub struct Stage {
    number: AtomicU64,
    context: Mutex<Arc<WorkflowContext>>,
}

impl Stage {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            number: AtomicU64::new(1),
            context: Mutex::new(Arc::new(context())),
        })
    }

    pub fn change(&self, change: impl FnOnce(&mut WorkflowContext)) {
        let mut context = self.context.lock().unwrap();
        change(Arc::make_mut(&mut context));
        self.number.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl ContextSource for Stage {
    async fn context(&self) -> (u64, Arc<WorkflowContext>) {
        (
            self.number.load(Ordering::SeqCst),
            Arc::clone(&self.context.lock().unwrap()),
        )
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn context() -> WorkflowContext {
    let folder = |name: &str, all: &[&str]| {
        (
            name.to_owned(),
            ModelFolder {
                dir: format!("/opt/ComfyUI/models/{name}").into(),
                all: names(all),
            },
        )
    };
    let values = serde_json::json!({
        "comfyURL": "http://127.0.0.1:8188",
        "modelDir": "/opt/ComfyUI/models",
        "outputDir": "/opt/ComfyUI/output"
    });
    WorkflowContext {
        values: values.as_object().unwrap().clone(),
        env: BTreeMap::from([("STAGE".into(), "test".into())]),
        samplers: names(&["euler", "euler_ancestral", "dpmpp_2m"]),
        schedulers: names(&["normal", "karras", "simple"]),
        models: BTreeMap::from([
            folder("checkpoints", &["one.safetensors", "two.safetensors"]),
            folder("loras", &[]),
        ]),
        warmup_ckpt: None,
    }
}

pub fn config(dir: &Path) -> WorkflowConfig {
    WorkflowConfig {
        dir: dir.to_path_buf(),
        watch: false,
        markdown_descriptions: true,
        env: BTreeMap::new(),
    }
}

/// A directory with these files, loaded.
pub async fn loaded(files: &[(&str, &str)]) -> (tempfile::TempDir, Workflows) {
    let (dir, workflows, _) = staged(files).await;
    (dir, workflows)
}

pub async fn staged(files: &[(&str, &str)]) -> (tempfile::TempDir, Workflows, Arc<Stage>) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        write(dir.path(), name, text);
    }
    let stage = Stage::new();
    let workflows = Workflows::new(
        &config(dir.path()),
        Arc::clone(&stage) as Arc<dyn ContextSource>,
    );
    workflows.load().await;
    (dir, workflows, stage)
}

pub fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

pub fn routes(workflows: &Workflows) -> Vec<String> {
    workflows
        .endpoints()
        .into_iter()
        .map(|endpoint| endpoint.route)
        .collect()
}

/// A workflow with this RequestSchema and this body of generateWorkflow.
pub fn file(schema: &str, body: &str) -> String {
    format!(
        "import {{ z }} from \"zod\";\nconst RequestSchema = {schema};\nfunction \
         generateWorkflow(input: any) {{ {body} }}\nexport default {{ RequestSchema, \
         generateWorkflow }};\n"
    )
}

/// Where npm packages for tests are.
pub fn node_modules() -> std::path::PathBuf {
    std::env::var_os("TEST_NODE_MODULES")
        .map_or_else(|| "/opt/comfyui-api-test/node_modules".into(), Into::into)
}
