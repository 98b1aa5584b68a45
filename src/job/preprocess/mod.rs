//! From the client's graph to one that ComfyUI can run: output names, media, models (prompt.md, section 1).

pub mod away;
mod base64;
mod directory;
mod find;
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

use super::asset_input::{self, TextMeans};
use super::cleanup::{Cleaner, Entry, Prefix};
use super::event::JobEvent;
use super::origin::Origin;
use super::registry::Job;
use super::request::{PromptRequest, url_text};
use super::stream::Weight;
use crate::comfy::catalogue::Catalogue;
use crate::comfy::input_kind::InputKind;
use crate::comfy::pool::Pool;
use crate::config::{ComfyConfig, PromptConfig, public_url};
use crate::error::{Code, Failure, panicked};
use crate::storage::downloads::Purpose;
use crate::storage::{ErrorKind, Fetch, Fetched, Progress, Storage, StorageError};
use crate::store::Store;
pub use media::{is_directory, is_media};
pub use models::{PlacedModels, first as first_model};
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
    /// ComfyUI itself, which is asked whether it sees what was put in place.
    pub engine: &'a Pool,
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
    /// What was put into model folders: where it is not empty, lists of models are out of date.
    pub models: PlacedModels,
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
    /// Where the value is inside the input: keys and places in lists. Empty for the input itself.
    inner: Vec<String>,
    class: String,
    /// Taken out of the graph: it may be large, and most of it is replaced.
    value: Arc<Value>,
    /// It was in ComfyUI's wrapper for lists.
    wrapped: bool,
    work: Work,
    /// Number of the task; makes file names different.
    index: usize,
}

impl InputTask {
    /// The path of the value in the request.
    fn location(&self) -> String {
        let inner = self.inner.iter().map(|part| format!(".{part}"));
        let start = format!("prompt.{}.inputs.{}", self.node, self.input);
        start + &inner.collect::<String>()
    }

    /// The value as it was, if nothing has come in its place.
    fn take_value(&mut self) -> Value {
        let value = Arc::unwrap_or_clone(std::mem::take(&mut self.value));
        if self.wrapped {
            serde_json::json!({ find::WRAPPER: value })
        } else {
            value
        }
    }

    /// Where its value is in a graph.
    fn place_in<'a>(&self, graph: &'a mut Map<String, Value>) -> Option<&'a mut Value> {
        let mut value = graph
            .get_mut(&self.node)?
            .get_mut("inputs")?
            .get_mut(&self.input)?;
        for part in &self.inner {
            value = match value {
                Value::Object(map) => map.get_mut(part)?,
                Value::Array(list) => list.get_mut(part.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Work {
    Media,
    /// A directory of one of the classes that are known to read one.
    Directory,
    /// A text that names a folder, of any class (F32).
    Folder,
    Model(ModelWork),
    Repository,
}

/// A model to be put into a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ModelWork {
    folder: String,
    form: Form,
}

/// How the node wants the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it is in the folder.
    Name,
    /// Without its extension.
    Stem,
    /// As the list of the class has it, which is not the folder's.
    Listed,
}

/// What became of a task.
#[derive(Default)]
struct Done {
    value: Option<Value>,
    fetched: Vec<(String, Fetched)>,
    models: PlacedModels,
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
    let takes_path = |class: &str, input: &str| media::takes_path(class, input, around.catalogue);
    let text_means = |class: &str, input: &str| text_means(class, input, around.catalogue);
    asset_input::place(
        &mut graph,
        around.store,
        &workspace,
        input_dir,
        takes_path,
        text_means,
    )
    .await?;
    let owned = |text: &str| job.origin.as_ref().is_some_and(|origin| origin.owns(text));
    let found = find::tasks_and(&mut graph, around.catalogue, &owned);
    let mut tasks = found.tasks;
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
        models: PlacedModels::default(),
        warnings: found.warnings,
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
        if let Some(place) = task.place_in(&mut prepared.graph) {
            *place = value;
        }
        prepared.models.extend(done.models);
        prepared.warnings.extend(done.warnings);
        for (url, fetched) in done.fetched {
            // What came with the request is no download.
            if owned(&url) {
                continue;
            }
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

/// Where a text like `asset:<id>` is an asset: in every input that takes files or names of files, and in no other.
pub(super) fn text_means(class: &str, input: &str, catalogue: &Catalogue) -> TextMeans {
    let files = media::is_media(class, input, catalogue) || media::is_directory(class, input);
    match catalogue.kind(class, input) {
        _ if files => TextMeans::Asset,
        Some(InputKind::Text) if directory::is_folder_name(input) => TextMeans::Asset,
        Some(InputKind::Choice) => TextMeans::Asset,
        Some(InputKind::Text | InputKind::Other) => TextMeans::Text,
        Some(InputKind::Upload) => TextMeans::Asset,
        None => TextMeans::Perhaps,
    }
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
            Work::Folder => directory::place_folder(self, task).await,
            Work::Model(model) => models::place(self, task, model).await,
            Work::Repository => models::clone(self, task).await,
        };
        done.map(|done| (task.index, done)).map_err(|failure| {
            if failure.location.is_some() {
                failure
            } else {
                failure.at(task.location())
            }
        })
    }

    /// Fetches a URL for a folder with the request's credentials; progress goes to the prompt's streams.
    async fn fetch(&self, url: &str, folder: &str) -> Result<Fetched, Failure> {
        url_text(url, "").map_err(|failure| Failure {
            location: None,
            ..failure
        })?;
        if let Some(origin) = self.job.origin.as_ref().filter(|origin| origin.owns(url)) {
            return self.fetch_from(&**origin, url).await;
        }
        let fetch = Fetch {
            url: url.to_owned(),
            auth: None,
            credentials: self.request.credentials.clone(),
            cancel: self.stop.clone(),
            progress: None,
            purpose: Some(Purpose {
                folder: folder.to_owned(),
                filename: None,
                prompt_id: Some(self.job.id.clone()),
            }),
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

    /// Brings a file of the origin of the job into the workspace.
    async fn fetch_from(&self, origin: &dyn Origin, url: &str) -> Result<Fetched, Failure> {
        let started = std::time::Instant::now();
        let dir = self.workspace.subdir(".origin").await;
        let dir = dir.map_err(media::unwritable)?;
        let (path, size) = tokio::select! {
            fetched = origin.fetch(url, &dir) => fetched?,
            () = self.stop.cancelled() => return Err(self.job.stop_reason()),
        };
        Ok(Fetched::local(path, size, started.elapsed()))
    }

    fn tell_progress(&self, url: &str, so_far: u64, total: Option<u64>) {
        self.job.tell_with(|| JobEvent::Downloading {
            name: last_part(url),
            percent: total
                .filter(|total| *total > 0)
                .map(|total| so_far.saturating_mul(100) / total),
        });
        self.job.streams.message(Weight::Newest(20), || {
            let percent = total.filter(|total| *total > 0).map(|total| (so_far as f64 / total as f64 * 1000.0).round() / 10.0);
            let data = serde_json::json!({"prompt_id": &*self.job.id, "url": public_url(url), "downloaded": so_far, "total": total, "percent": percent});
            serde_json::json!({"type": "file_download_progress", "data": data}).to_string()
        });
    }

    fn failure(&self, error: StorageError) -> Failure {
        match error.kind {
            // Otherwise it was the download alone that somebody has cancelled.
            ErrorKind::Cancelled if self.stop.is_cancelled() => self.job.stop_reason(),
            ErrorKind::Defect => panicked(&format!("a download of prompt {}", self.job.id)),
            _ => error.into_failure(Code::DownloadFailed),
        }
    }

    /// The name ComfyUI knows a placed file by: relative to its input directory, or the path itself for classes that take paths.
    fn name_for(&self, class: &str, input: &str, path: PathBuf) -> Value {
        if media::takes_path(class, input, self.around.catalogue) {
            return path.to_string_lossy().into_owned().into();
        }
        let relative = path
            .strip_prefix(&self.around.comfy.input_dir)
            .map(std::path::Path::to_path_buf)
            .unwrap_or(path);
        relative.to_string_lossy().into_owned().into()
    }
}

/// What a file is called by its address, for people.
fn last_part(url: &str) -> String {
    let public = public_url(url);
    let path = public.split(['?', '#']).next().unwrap_or_default();
    let name = path
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
    crate::limits::text::quoted(&name).into_owned()
}
