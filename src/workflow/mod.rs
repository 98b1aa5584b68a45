//! Endpoints made from files: loading, the JavaScript engine, schemas.
//!
//! `files` finds them, `source` strips their types, `resolve` says what their imports mean, `engine` evaluates each in an
//! isolate of its own, `registry` makes endpoints of them, `schedule` and `pool` decide who runs when and where, `plain`
//! does all of it for JSON files without JavaScript. The built-in zod follows **zod 3** (3.25: codes, messages, shapes of
//! issues) because the Node server used it; zod 4's additional functions exist, its issue shapes do not. Where the two
//! differ: zod 4 says `invalid_format` for `invalid_string`, `invalid_value` for enums and literals, `invalid_union` for an
//! unknown discriminator, `invalid_key` for record keys, and words its messages differently ("Invalid input: expected
//! string, received number"); it checks `z.string().uuid()` against RFC 9562, requires every key of `z.record(z.enum())`,
//! fills defaults of optional object keys in more places, and refuses infinite numbers. A file that needs those gets
//! them by putting the real package into `WORKFLOW_DIR/node_modules`.

mod engine;
mod files;
mod plain;
mod pool;
mod registry;
mod resolve;
mod schedule;
mod source;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::comfy::conversion;
use crate::config::WorkflowConfig;
use crate::error::{Code, Failure};
use crate::graph::catalogue::NodeClasses;
use crate::json;
use crate::limits::{is_large, off_runtime};
use engine::{Isolate, Library, Outcome};
use pool::Pool;
use registry::{FileLoad, Registry, ScriptWorkflow, Workflow};
use schedule::Scheduler;

/// How often a watched directory is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// A call that failed sooner is repeated if it turns out that the context was out of date. Endless loops are not.
const WORTH_REPEATING: Duration = Duration::from_secs(1);

/// What workflow files see as `config`: plain values, and what the running ComfyUI offers at this moment.
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

    /// The context as it is now, however long finding out takes: asked when a call failed that might not fail under it.
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

/// One endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `/workflow/<path without extension>`
    pub route: String,
    /// For the documentation.
    pub summary: Option<String>,
    /// For the documentation; with the markdown table unless that is switched off.
    pub description: Option<String>,
    /// The description without that table.
    pub about: Option<String>,
    /// JSON Schema (OpenAPI 3.1 dialect) of `input`.
    pub input_schema: Value,
}

/// One endpoint as clients see it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Listed {
    /// `/workflow/<path without extension>`
    pub path: String,
    /// What follows `/workflow/`.
    pub name: String,
    /// One line.
    pub summary: Option<String>,
    /// More of it.
    pub description: Option<String>,
    /// `js` or `json`.
    pub source: &'static str,
    /// JSON Schema of `input`.
    pub input: Value,
}

/// A parsed input and the graph made from it.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The input after the schema: defaults filled in, unknown keys stripped.
    pub input: Value,
    /// The graph.
    pub prompt: Value,
    /// The file as the editor saved it, if it was such a file.
    pub workflow: Option<Arc<serde_json::Map<String, Value>>>,
    /// Of its conversion.
    pub warnings: Vec<String>,
}

/// A file that could not be loaded; the log has the same.
#[derive(Debug, Clone)]
pub struct BrokenFile {
    /// The path below the directory, without extension: what would follow `/workflow/`.
    pub name: String,
    /// The file with the mistake; another than the workflow's own when that imports it.
    pub file: String,
    /// From 1; 0 when the file could not even be read.
    pub line: u32,
    /// From 1; 0 when the file could not even be read.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

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

    /// Loads (or loads anew) every file; files that cannot be loaded are logged and left out. Starts watching if configured.
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

    /// Wakes whenever the files were loaded anew: because they, or what ComfyUI offers, have changed.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// The endpoints, sorted by route. Does not block.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.0.registry().endpoints.clone()
    }

    /// The endpoints as clients see them, sorted by path. With what ComfyUI says of its nodes inputs that take media are known.
    pub fn listed(&self, classes: Option<&NodeClasses>) -> Vec<Listed> {
        let registry = self.0.registry();
        let endpoints = registry.endpoints.iter();
        endpoints
            .map(|endpoint| {
                let name = endpoint.route.trim_start_matches("/workflow/");
                let mut input = endpoint.input_schema.clone();
                let workflow = registry.workflows.get(name).map(|workflow| &**workflow);
                let source = match workflow {
                    Some(Workflow::Plain(plain)) => {
                        plain.name_media(&mut input, classes);
                        "json"
                    }
                    _ => "js",
                };
                Listed {
                    path: endpoint.route.clone(),
                    name: name.to_owned(),
                    summary: endpoint.summary.clone(),
                    description: endpoint.about.clone(),
                    source,
                    input,
                }
            })
            .collect()
    }

    /// The files that the last load left out, sorted by name. Does not block.
    pub fn broken(&self) -> Vec<BrokenFile> {
        let describe = |(name, fault): (&String, &source::Fault)| {
            let source::Fault {
                message,
                file,
                line,
                column,
            } = fault.clone();
            BrokenFile {
                name: name.clone(),
                file,
                line,
                column,
                message,
            }
        };
        self.0.registry().failed.iter().map(describe).collect()
    }

    /// Runs one. `path` is what follows `/workflow/`.
    ///
    /// # Errors
    /// 404 for an unknown path; 400 with location `input.<path>` for input that breaks the schema; 400 when generating fails.
    pub async fn generate(&self, path: &str, input: Value) -> Result<Generated, Failure> {
        let context = self.0.context_json().await;
        if !self.0.exists(path) {
            return Err(self.0.unknown(path));
        }
        let (tried, began, input) = (context.0, Instant::now(), Arc::new(input));
        match self.generate_under(context, path, &input).await {
            Err(failure) if began.elapsed() < WORTH_REPEATING => {
                let context = self.0.fresh_json().await;
                if context.0 == tried {
                    return Err(self.0.blamed_on_context(tried, failure));
                }
                let number = context.0;
                let ended = self.generate_under(context, path, &input).await;
                ended.map_err(|failure| self.0.blamed_on_context(number, failure))
            }
            ended => ended,
        }
    }

    async fn generate_under(
        &self,
        context: (u64, Arc<str>),
        path: &str,
        input: &Arc<Value>,
    ) -> Result<Generated, Failure> {
        let workflow = match self.0.find(path, context.0) {
            Some(workflow) => workflow,
            None if self.0.may_load_now(path, context.0) => {
                self.0.load(false).await;
                self.0
                    .find(path, context.0)
                    .ok_or_else(|| self.0.unknown(path))?
            }
            None => return Err(self.0.unknown(path)),
        };
        match &*workflow {
            Workflow::Script(_) => {
                self.0
                    .run_script(path, workflow, context, input.clone())
                    .await
            }
            Workflow::Plain(_) => {
                run_plain(workflow, input.clone(), self.0.source.node_classes()).await
            }
        }
    }
}

impl Inner {
    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The workflow of a path; when the context has changed since loading, documentation is renewed in the background.
    fn find(self: &Arc<Self>, path: &str, context: u64) -> Option<Arc<Workflow>> {
        let registry = self.registry();
        if registry.context != context
            && !registry.workflows.is_empty()
            && !self.refreshing.swap(true, Ordering::SeqCst)
        {
            let inner = Arc::clone(self);
            tokio::spawn(async move {
                inner.load(false).await;
                inner.refreshing.store(false, Ordering::SeqCst);
            });
        }
        registry.workflows.get(path).cloned()
    }

    /// A file that failed under an earlier context (no models yet, say) may load under this one.
    fn may_load_now(&self, path: &str, context: u64) -> bool {
        let registry = self.registry();
        registry.failed.contains_key(path) && registry.context != context
    }

    fn unknown(&self, path: &str) -> Failure {
        let broken = self.registry().failed.contains_key(path);
        let reason = if broken {
            "its file cannot be loaded, the log says why"
        } else {
            "see /docs for those that exist"
        };
        Failure::new(
            Code::NotFound,
            format!("there is no workflow \"{path}\": {reason}"),
        )
    }

    /// A failure that may come of it that nobody has said yet which models and samplers there are.
    fn blamed_on_context(&self, number: u64, failure: Failure) -> Failure {
        let of_a_type =
            |issue: &Value| issue.get("code").is_some_and(|code| code == "invalid_type");
        let issues = failure.details.as_ref().and_then(Value::as_array);
        let of_types = issues.is_some_and(|issues| issues.iter().all(of_a_type));
        if !self.source.is_unknown(number) || of_types {
            return failure;
        }
        Failure::new(
            Code::ComfyuiUnavailable,
            "which models and samplers there are is not known yet (ComfyUI is starting, or no instance of the fleet has said so yet), and the workflow may need it; send it again",
        )
    }

    /// Whether there is a file for it, whether or not it could be loaded.
    fn exists(&self, path: &str) -> bool {
        let registry = self.registry();
        registry.workflows.contains_key(path) || registry.failed.contains_key(path)
    }

    async fn context_json(&self) -> (u64, Arc<str>) {
        self.as_json(self.source.context().await).await
    }

    async fn fresh_json(&self) -> (u64, Arc<str>) {
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

    async fn load(&self, read_files: bool) {
        let mut last = self.loading.lock().await;
        let context = self.context_json().await;
        let dir = self.config.dir.clone();
        let scanned = tokio::task::spawn_blocking(move || {
            dir.canonicalize()
                .ok()
                .map(|root| (files::scan(&root), root))
        })
        .await;
        let (found, root) = scanned
            .ok()
            .flatten()
            .unwrap_or_else(|| (Vec::new(), self.config.dir.clone()));
        let library = match &*last {
            Some(library) if !read_files => Arc::clone(library),
            _ => Arc::new(Library::new(root)),
        };
        *last = Some(Arc::clone(&library));
        let opening = FileLoad {
            library,
            context,
            scheduler: &self.scheduler,
            pool: &self.pool,
            classes: self.source.node_classes(),
            markdown: self.config.markdown_descriptions,
        };
        let registry = opening.all(found).await;
        tracing::info!(workflows = registry.endpoints.len(), failed = registry.failed.len(), directory = %self.config.dir.display(), "workflow files loaded");
        let numbers: Vec<u64> = registry
            .workflows
            .values()
            .filter_map(|workflow| workflow.script().map(|script| script.number))
            .collect();
        *self
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(registry);
        self.pool.retain(|(number, _)| numbers.contains(&number));
        self.changed.send_modify(|version| *version += 1);
    }

    async fn run_script(
        &self,
        path: &str,
        workflow: Arc<Workflow>,
        (number, json): (u64, Arc<str>),
        input: Arc<Value>,
    ) -> Result<Generated, Failure> {
        let Some(script) = workflow.script() else {
            return Err(self.unknown(path));
        };
        let turn = self.scheduler.admit(&script.share).await;
        let (cancel, places) = (CancelOnDrop(turn.cancellation()), turn.places());
        let (pool, running) = (Arc::clone(&self.pool), Arc::clone(&workflow));
        let ran = tokio::task::spawn_blocking(move || {
            let input = serde_json::to_string(&*input).unwrap_or_default();
            run_blocking(&running, &pool, number, &json, &input, turn)
        });
        let Ok(ran) = tokio::time::timeout(schedule::GIVE_UP, ran).await else {
            places.release();
            tracing::error!(
                workflow = path,
                "a call has not ended within its limits and is given up"
            );
            return Err(Failure::invalid(
                "input",
                format!(
                    "Failed to generate workflow prompt: {}",
                    schedule::Limit::Wall.sentence()
                ),
            ));
        };
        let outcome = ran.map_err(|error| {
            Failure::new(
                Code::Internal,
                format!("the workflow \"{path}\" could not be run: {error}"),
            )
        })?;
        drop(cancel);
        match outcome {
            Outcome::Done { input, prompt } => Ok(Generated {
                input: read_back(&input)?,
                prompt: read_back(&prompt)?,
                workflow: None,
                warnings: Vec::new(),
            }),
            Outcome::Invalid(issues) => Err(invalid_input(read_back(&issues)?)),
            Outcome::Failed { message, at, .. } => {
                tracing::warn!(workflow = path, at, "generateWorkflow failed: {message}");
                Err(Failure::invalid(
                    "input",
                    format!("Failed to generate workflow prompt: {message}"),
                ))
            }
        }
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

/// Ends a call whose caller has left.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn run_blocking(
    workflow: &Workflow,
    pool: &Pool,
    number: u64,
    json: &Arc<str>,
    input: &str,
    turn: schedule::Slot,
) -> Outcome {
    let failed = |message: String, at| Outcome::Failed {
        message,
        at,
        discard: true,
    };
    let Some(script) = workflow.script() else {
        return failed("it is no script".to_owned(), None);
    };
    let key = (script.number, number);
    let (mut isolate, turn) = match pool.take(key) {
        Some(isolate) => (isolate, turn),
        None => match Isolate::open(&script.library, json, &script.id, turn) {
            Ok((isolate, _, turn)) => (isolate, turn),
            Err(fault) => {
                return failed(
                    fault.message,
                    Some(format!("{}:{}:{}", fault.file, fault.line, fault.column)),
                );
            }
        },
    };
    let outcome = isolate.call(input, turn);
    if isolate.changed() || matches!(outcome, Outcome::Failed { discard: true, .. }) {
        drop(isolate);
        engine::give_memory_back();
    } else {
        pool.put(key, isolate);
    }
    outcome
}

async fn run_plain(
    workflow: Arc<Workflow>,
    input: Arc<Value>,
    classes: Option<Arc<NodeClasses>>,
) -> Result<Generated, Failure> {
    let ran = tokio::task::spawn_blocking(move || match &*workflow {
        Workflow::Plain(plain) => plain.generate(&input, classes.as_deref()),
        Workflow::Script(_) => Err(plain::Refusal::Input(Vec::new())),
    });
    let ran = ran.await.map_err(|error| {
        Failure::new(
            Code::Internal,
            format!("the workflow could not be run: {error}"),
        )
    })?;
    ran.map_err(|refusal| match refusal {
        plain::Refusal::Input(issues) => {
            invalid_input(issues.iter().map(plain::Issue::to_json).collect())
        }
        plain::Refusal::Unknown => conversion::unknown_yet(),
        plain::Refusal::Workflow(error) => conversion::failure(error, "workflow"),
    })
}

fn read_back(text: &str) -> Result<Value, Failure> {
    // JSON.stringify wrote it, so only its size, and nesting beyond what serde_json follows, can be wrong with it.
    let text = text.as_bytes().to_vec();
    off_runtime(is_large(text.len()), || json::parse(text))
        .map_err(|error| error.failure("input", "Failed to generate workflow prompt: its result"))
}

/// The first issue is the message, all of them are the details.
fn invalid_input(issues: Value) -> Failure {
    let first = issues.get(0);
    let message = first
        .and_then(|issue| issue.get("message"))
        .and_then(Value::as_str)
        .unwrap_or("Invalid input")
        .to_owned();
    let mut location = String::from("input");
    for step in first
        .and_then(|issue| issue.get("path"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        location.push('.');
        match step {
            Value::String(key) => location.push_str(key),
            other => location.push_str(&other.to_string()),
        }
    }
    Failure::invalid(location, message).with_details(issues)
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

async fn directory_state(dir: &Path) -> files::Signature {
    let dir = dir.to_path_buf();
    tokio::task::spawn_blocking(move || files::signature(&dir))
        .await
        .unwrap_or_default()
}

/// Looks at the directory until nobody holds the workflows any more.
async fn watch(inner: Weak<Inner>, dir: PathBuf, mut seen: files::Signature) {
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let now = directory_state(&dir).await;
        let Some(inner) = inner.upgrade() else { return };
        if now != seen {
            seen = now;
            tracing::info!(directory = %dir.display(), "workflow files have changed");
            inner.load(true).await;
        }
    }
}
