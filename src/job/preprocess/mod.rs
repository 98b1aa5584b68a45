//! From the client's graph to one that ComfyUI can run: output names, media, models (prompt.md, section 1).

mod base64;
mod directory;
mod media;
mod models;
pub mod names;
mod value;
mod workspace;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use serde::Serialize;
use serde_json::{Map, Value};

use super::asset_input;
use super::cleanup::{Cleaner, Entry, Prefix};
use super::registry::Job;
use super::request::{PromptRequest, url_text};
use super::stream::Weight;
use crate::comfy::catalogue::Catalogue;
use crate::config::{ComfyConfig, PromptConfig, public_url};
use crate::error::{Code, Failure, panicked};
use crate::storage::{ErrorKind, Fetch, Fetched, Progress, Storage, StorageError};
use crate::store::Store;
pub use value::Directories;
pub use workspace::Workspace;

/// Inputs worked on at once; the number of downloads has its own limit in `storage`.
const AT_ONCE: usize = 64;

/// What preprocessing needs to know of the world.
pub struct PrepareContext<'a> {
    /// How prompts are treated.
    pub prompt: &'a PromptConfig,
    /// Where ComfyUI's directories are.
    pub comfy: &'a ComfyConfig,
    /// Where files that graphs may name are.
    pub directories: Arc<Directories>,
    /// What ComfyUI offers.
    pub catalogue: &'a Catalogue,
    /// Downloads.
    pub storage: &'a Storage,
    /// Where input files are handed over for cleaner.
    pub cleaner: &'a Cleaner,
    /// Assets that graphs may name.
    pub store: &'a Store,
    /// What is noted for the case of a kill.
    pub entry: &'a Arc<Entry>,
}

/// A graph that ComfyUI can run, and what it stands on.
pub struct Prepared {
    /// The graph.
    pub graph: Map<String, Value>,
    /// How the files of its nodes begin, where we have made that.
    pub prefixes: Vec<Prefix>,
    /// The request's input files; removed when this is dropped.
    pub workspace: Workspace,
    /// Keep the cached files from eviction while ComfyUI may read them.
    pub leases: Vec<Arc<dyn std::any::Any + Send + Sync>>,
    /// For `stats.downloads`.
    pub downloads: Vec<DownloadReport>,
    /// A model may have been put in place: lists of models are out of date.
    pub models_placed: bool,
    /// For the answer.
    pub warnings: Vec<String>,
}

/// One download in `stats.downloads`.
#[derive(Debug, Clone, Serialize)]
pub struct DownloadReport {
    /// Without secrets.
    pub url: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds this prompt waited for it.
    pub duration: u64,
    /// It was in the cache.
    pub cached: bool,
}

/// One input to be worked on.
#[derive(Debug, Clone)]
struct InputTask {
    node: String,
    input: String,
    class: String,
    /// Taken out of the graph: it may be large, and most of it is replaced.
    value: Arc<Value>,
    work: Work,
    /// Number of the task; makes file names different.
    index: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Work {
    Media,
    Directory,
    Model { folder: String },
    Repository,
}

/// What became of a task.
#[derive(Default)]
struct Done {
    value: Option<Value>,
    fetched: Vec<(String, Fetched)>,
    warnings: Vec<String>,
}

/// Does it all. Downloads run in parallel; the first failure stops the rest.
///
/// # Errors
/// A 400 with the location of the input that cannot be used, or the reason the prompt was stopped for.
pub async fn run(
    around: &PrepareContext<'_>,
    request: &PromptRequest,
    mut graph: Map<String, Value>,
    job: &Job,
) -> Result<Prepared, Failure> {
    let prefixes = names::prefix_outputs(
        &mut graph,
        &request.file_id,
        around.prompt.prepend_filenames,
    )?;
    let workspace = Workspace::new(
        &around.comfy.input_dir,
        &request.file_id,
        around.cleaner.clone(),
        around.entry.clone(),
    );
    let input_dir = &around.comfy.input_dir;
    asset_input::place(
        &mut graph,
        around.store,
        &workspace,
        input_dir,
        media::takes_path,
    )
    .await?;
    let mut tasks = find_tasks(&mut graph, around.catalogue);
    let models_placed = tasks
        .iter()
        .any(|task| matches!(task.work, Work::Model { .. } | Work::Repository));
    let leases = around
        .storage
        .hold_linked(models::named(&graph, around))
        .await;
    let mut prepared = Prepared {
        graph,
        prefixes,
        workspace,
        leases,
        downloads: Vec::new(),
        models_placed,
        warnings: Vec::new(),
    };
    if tasks.is_empty() {
        return Ok(prepared);
    }
    let layout = directory::DirectoryLayout::of(&tasks);
    let stop = job.cancel.child_token();
    let _stop_rest = stop.clone().drop_guard();
    let context = Context {
        around,
        request,
        job,
        stop,
        workspace: &prepared.workspace,
        layout,
    };
    let mut results = Vec::new();
    {
        let work: Vec<_> = tasks.iter().map(|task| context.run(task)).collect();
        let mut running = stream::iter(work).buffer_unordered(AT_ONCE);
        while let Some(result) = tokio::select! {
            result = running.next() => result,
            () = job.cancel.cancelled() => return Err(job.stop_reason()),
        } {
            results.push(result?);
        }
    }
    for (index, done) in results {
        let task = &mut tasks[index];
        let value = done.value.unwrap_or_else(|| task.take_value());
        if let Some(input) = input_of(&mut prepared.graph, &task.node, &task.input) {
            *input = value;
        }
        prepared.warnings.extend(done.warnings);
        for (url, fetched) in done.fetched {
            let duration = u64::try_from(fetched.duration.as_millis()).unwrap_or(u64::MAX);
            prepared.downloads.push(DownloadReport {
                url: public_url(&url),
                size: fetched.size,
                duration,
                cached: fetched.cached,
            });
            prepared.leases.push(fetched.lease);
        }
    }
    Ok(prepared)
}

impl InputTask {
    fn take_value(&mut self) -> Value {
        Arc::unwrap_or_clone(std::mem::take(&mut self.value))
    }
}

fn input_of<'a>(
    graph: &'a mut Map<String, Value>,
    node: &str,
    input: &str,
) -> Option<&'a mut Value> {
    graph
        .get_mut(node)?
        .get_mut("inputs")?
        .as_object_mut()?
        .get_mut(input)
}

/// What is to be brought in place; it is no longer in the graph then.
fn find_tasks(graph: &mut Map<String, Value>, catalogue: &Catalogue) -> Vec<InputTask> {
    let mut tasks = Vec::new();
    for Input {
        node,
        class,
        name,
        value,
    } in inputs(graph)
    {
        if let Some(work) = work_for(class, name, value, catalogue) {
            let index = tasks.len();
            tasks.push(InputTask {
                node: node.to_owned(),
                input: name.to_owned(),
                class: class.to_owned(),
                value: Arc::default(),
                work,
                index,
            });
        }
    }
    for task in &mut tasks {
        if let Some(input) = input_of(graph, &task.node, &task.input) {
            task.value = Arc::new(input.take());
        }
    }
    tasks
}

/// One input of a graph.
struct Input<'a> {
    node: &'a str,
    class: &'a str,
    name: &'a str,
    value: &'a Value,
}

/// All inputs of a graph, in its order.
fn inputs(graph: &Map<String, Value>) -> impl Iterator<Item = Input<'_>> {
    let described = graph.iter().filter_map(|(node, description)| {
        let class = description.get("class_type")?.as_str()?;
        Some((node, class, description.get("inputs")?.as_object()?))
    });
    described.flat_map(|(node, class, inputs)| {
        inputs.iter().map(move |(name, value)| Input {
            node,
            class,
            name,
            value,
        })
    })
}

fn work_for(class: &str, input: &str, value: &Value, catalogue: &Catalogue) -> Option<Work> {
    if media::is_directory(class, input) && (value.is_string() || directory::is_media_list(value)) {
        return Some(Work::Directory);
    }
    let text = value.as_str()?;
    if class == "DiffusersLoader" && input == "model_path" && Storage::is_url(text) {
        return Some(Work::Repository);
    }
    if media::is_media(class, input, catalogue) {
        return Some(Work::Media);
    }
    // A URL in an input that is neither media nor model is left alone: it is a prompt text, a webhook...
    let folder = Storage::is_url(text)
        .then(|| catalogue.model_folder(class, input))
        .flatten()?;
    Some(Work::Model {
        folder: folder.to_owned(),
    })
}

struct Context<'a> {
    around: &'a PrepareContext<'a>,
    request: &'a PromptRequest,
    job: &'a Job,
    stop: tokio_util::sync::CancellationToken,
    workspace: &'a Workspace,
    layout: directory::DirectoryLayout,
}

impl Context<'_> {
    async fn run(&self, task: &InputTask) -> Result<(usize, Done), Failure> {
        let done = match &task.work {
            Work::Media => media::place(self, task).await,
            Work::Directory => directory::place(self, task).await,
            Work::Model { folder } => models::place(self, task, folder).await,
            Work::Repository => models::clone(self, task).await,
        };
        let location = format!("prompt.{}.inputs.{}", task.node, task.input);
        done.map(|done| (task.index, done)).map_err(|failure| {
            if failure.location.is_some() {
                failure
            } else {
                failure.at(location)
            }
        })
    }

    /// Fetches a URL with the request's credentials; progress goes to the prompt's streams.
    async fn fetch(&self, url: &str) -> Result<Fetched, Failure> {
        url_text(url, "").map_err(|failure| Failure {
            location: None,
            ..failure
        })?;
        let fetch = Fetch {
            url: url.to_owned(),
            auth: None,
            credentials: self.request.credentials.clone(),
            cancel: self.stop.clone(),
            progress: None,
        };
        // The closure must live as long as the download, which may outlive this prompt: it gets what it needs by value.
        let (sender, mut progress) = tokio::sync::watch::channel((0_u64, None::<u64>));
        let report: Progress = Arc::new(move |so_far, total| {
            let _ = sender.send((so_far, total));
        });
        let fetching = self.around.storage.fetch(Fetch {
            progress: Some(report),
            ..fetch
        });
        tokio::pin!(fetching);
        let fetched = loop {
            tokio::select! {
                fetched = &mut fetching => break fetched,
                Ok(()) = progress.changed() => {
                    let (so_far, total) = *progress.borrow_and_update();
                    self.tell_progress(url, so_far, total);
                }
            }
        };
        fetched.map_err(|error| self.failure(error))
    }

    fn tell_progress(&self, url: &str, so_far: u64, total: Option<u64>) {
        self.job.streams.message(Weight::Newest(20), || {
            let percent = total.filter(|total| *total > 0).map(|total| (so_far as f64 / total as f64 * 1000.0).round() / 10.0);
            let data = serde_json::json!({"prompt_id": &*self.job.id, "url": public_url(url), "downloaded": so_far, "total": total, "percent": percent});
            serde_json::json!({"type": "file_download_progress", "data": data}).to_string()
        });
    }

    fn failure(&self, error: StorageError) -> Failure {
        match error.kind {
            ErrorKind::Cancelled => self.job.stop_reason(),
            ErrorKind::Defect => panicked(&format!("a download of prompt {}", self.job.id)),
            _ => error.into_failure(Code::DownloadFailed),
        }
    }

    /// The name ComfyUI knows a placed file by: relative to its input directory, or the path itself for classes that take paths.
    fn name_for(&self, class: &str, input: &str, path: PathBuf) -> Value {
        if media::takes_path(class, input) {
            return path.to_string_lossy().into_owned().into();
        }
        let relative = path
            .strip_prefix(&self.around.comfy.input_dir)
            .map(std::path::Path::to_path_buf)
            .unwrap_or(path);
        relative.to_string_lossy().into_owned().into()
    }
}
