//! The loaded workflows: opening files, and the endpoints that come of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::engine::{Isolate, Library, Opened};
use super::files::WorkflowFile;
use super::plain::{self, PlainWorkflow};
use super::pool::Pool;
use super::schedule::{GIVE_UP, Limit, Scheduler};
use super::source::Fault;
use super::{Endpoint, table};
use crate::graph::catalogue::NodeClasses;

/// Numbers workflows over the life of the process, so that isolates of an earlier load are never
/// mistaken.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A workflow that can be called.
pub enum Workflow {
    /// A script.
    Script(ScriptWorkflow),
    /// Plain JSON.
    Plain(Box<PlainWorkflow>),
}

/// A script and what its isolates need.
pub struct ScriptWorkflow {
    /// Unique in the process.
    pub number: u64,
    /// The id (path) of its file.
    pub id: String,
    /// The files as they were when it was loaded.
    pub library: Arc<Library>,
    /// Its places in the short lane.
    pub share: Arc<Semaphore>,
}

/// Everything that one load gave.
#[derive(Default)]
pub struct Registry {
    /// By path below `/workflow/`.
    pub workflows: BTreeMap<String, Arc<Workflow>>,
    /// Sorted by route.
    pub endpoints: Vec<Endpoint>,
    /// Files that could not be loaded, with their fault.
    pub failed: BTreeMap<String, Fault>,
    /// The state of the context it was made for.
    pub context: u64,
}

/// What opens files.
pub struct FileLoad<'a> {
    /// The files, freshly to be read.
    pub library: Arc<Library>,
    /// The context as JSON, and its number.
    pub context: (u64, Arc<str>),
    /// PerFileQueue.
    pub scheduler: &'a Scheduler,
    /// Where opened isolates wait for their first call.
    pub pool: &'a Arc<Pool>,
    /// What is known of ComfyUI's nodes.
    pub classes: Option<Arc<NodeClasses>>,
    /// Whether descriptions are tables.
    pub markdown: bool,
}

/// What one file is.
enum Loaded {
    Workflow(Box<Endpoint>, Workflow),
    Nothing,
    Failed(Fault),
}

impl FileLoad<'_> {
    /// Opens all files, several at once.
    pub async fn all(&self, files: Vec<WorkflowFile>) -> Registry {
        let mut registry = Registry {
            context: self.context.0,
            ..Registry::default()
        };
        let mut opened = futures_util::stream::iter(files)
            .map(|file| async move { (self.open(&file).await, file) })
            .buffered(self.scheduler.places());
        while let Some((loaded, file)) = opened.next().await {
            match loaded {
                Loaded::Failed(fault) => {
                    tracing::error!(
                        file = %fault.file,
                        line = fault.line,
                        column = fault.column,
                        workflow = %file.name,
                        "the workflow file cannot be loaded: {}",
                        fault.message
                    );
                    registry.failed.entry(file.name).or_insert(fault);
                }
                Loaded::Nothing => {}
                Loaded::Workflow(endpoint, workflow) => {
                    if registry.workflows.contains_key(&file.name) {
                        tracing::warn!(
                            file = %file.path.display(),
                            route = %endpoint.route,
                            "another workflow file has the same name and comes first; this one is \
                             not served"
                        );
                        continue;
                    }
                    registry.workflows.insert(file.name, Arc::new(workflow));
                    registry.endpoints.push(*endpoint);
                }
            }
        }
        registry.endpoints.sort_by(|a, b| a.route.cmp(&b.route));
        registry
    }

    async fn open(&self, file: &WorkflowFile) -> Loaded {
        let loaded = if file.is_media() {
            self.open_media(file).await
        } else if file.is_json() {
            self.open_json(file).await
        } else {
            self.open_script(file).await
        };
        loaded.unwrap_or_else(Loaded::Failed)
    }

    async fn open_json(&self, file: &WorkflowFile) -> Result<Loaded, Fault> {
        let text = tokio::fs::read_to_string(&file.path)
            .await
            .map_err(|error| Fault::of_file(&file.path, error.to_string()))?;
        let (path, classes) = (file.path.clone(), self.classes.clone());
        let read =
            tokio::task::spawn_blocking(move || plain::read(&path, &text, classes.as_deref()))
                .await
                .map_err(|error| Fault::of_file(&file.path, error.to_string()))?;
        Ok(self.plain(file, read?))
    }

    /// A picture, video or sound with a graph inside.
    async fn open_media(&self, file: &WorkflowFile) -> Result<Loaded, Fault> {
        let (path, classes) = (file.path.clone(), self.classes.clone());
        let read =
            tokio::task::spawn_blocking(move || plain::read_media(&path, classes.as_deref()))
                .await
                .map_err(|error| Fault::of_file(&file.path, error.to_string()))?;
        Ok(self.plain(file, read?))
    }

    fn plain(&self, file: &WorkflowFile, workflow: Option<PlainWorkflow>) -> Loaded {
        let Some(workflow) = workflow else {
            return Loaded::Nothing;
        };
        let described = Described {
            summary: workflow.summary.clone(),
            description: workflow.description.clone(),
            schema: workflow.input.clone(),
            table: None,
        };
        Loaded::Workflow(
            Box::new(self.endpoint(&file.name, described)),
            Workflow::Plain(Box::new(workflow)),
        )
    }

    async fn open_script(&self, file: &WorkflowFile) -> Result<Loaded, Fault> {
        let id = file.path.display().to_string();
        let share = self.scheduler.share();
        let turn = self.scheduler.admit(&share).await;
        let places = turn.places();
        let (library, context, opened_id) = (
            Arc::clone(&self.library),
            Arc::clone(&self.context.1),
            id.clone(),
        );
        let opening = tokio::task::spawn_blocking(move || {
            Isolate::open(&library, &context, &opened_id, turn)
        });
        let Ok(opening) = tokio::time::timeout(GIVE_UP, opening).await else {
            places.release();
            return Err(Fault::of_file(&file.path, Limit::Wall.sentence()));
        };
        let (isolate, opened, _) =
            opening.map_err(|error| Fault::of_file(Path::new(&id), error.to_string()))??;
        let Opened::Workflow(description) = opened else {
            tracing::debug!(file = %id, "the file holds no workflow; other files may import it");
            return Ok(Loaded::Nothing);
        };
        let described: Described = serde_json::from_str(&description)
            .map_err(|error| Fault::of_file(&file.path, error.to_string()))?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.pool.put((number, self.context.0), isolate);
        let workflow = Workflow::Script(ScriptWorkflow {
            number,
            id,
            library: Arc::clone(&self.library),
            share,
        });
        Ok(Loaded::Workflow(
            Box::new(self.endpoint(&file.name, described)),
            workflow,
        ))
    }

    fn endpoint(&self, name: &str, described: Described) -> Endpoint {
        let own = described.description.filter(|text| !text.is_empty());
        let about = own.clone();
        let description = if self.markdown {
            let table = described
                .table
                .unwrap_or_else(|| table::markdown(&described.schema));
            Some(own.map_or_else(|| table.clone(), |own| format!("{table}\n{own}")))
        } else {
            own
        };
        let last = name.rsplit('/').next().unwrap_or(name);
        Endpoint {
            route: format!("/workflow/{name}"),
            summary: Some(
                described
                    .summary
                    .filter(|text| !text.is_empty())
                    .unwrap_or_else(|| last.to_owned()),
            ),
            description,
            about,
            input_schema: described.schema,
        }
    }
}

/// What entry.js says about a workflow.
#[derive(serde::Deserialize)]
struct Described {
    summary: Option<String>,
    description: Option<String>,
    schema: Value,
    table: Option<String>,
}
