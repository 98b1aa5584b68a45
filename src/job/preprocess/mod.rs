//! From the client's graph to one that ComfyUI can run: output names, media, models (prompt.md,
//! section 1).

pub mod away;
mod base64;
mod context;
mod directory;
mod find;
mod inputs;
mod media;
mod model_names;
mod models;
pub mod names;
mod task;
mod value;
mod workspace;

use std::sync::Arc;

use context::Context;
use futures_util::stream;
use futures_util::stream::StreamExt;
use inputs::{Input, inputs};
use serde::Serialize;
use serde_json::{Map, Value};
use task::{Done, Form, InputTask, ModelWork, Work};

use super::asset_input;
use super::cleanup::{Cleaner, Entry, Prefix};
use super::registry::Job;
use super::request::PromptRequest;
use crate::comfy::catalogue::Catalogue;
use crate::comfy::pool::Pool;
use crate::config::{ComfyConfig, PromptConfig, public_url};
use crate::error::Failure;
use crate::storage::Storage;
use crate::store::Store;

pub use context::last_part;
pub(super) use inputs::text_means;
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

/// Does it all. Downloads run in parallel; the first failure stops the rest.
///
/// # Errors
/// A 400 with the location of the input that cannot be used, or the reason the prompt was stopped
/// for.
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
    let results = all(&context, &tasks).await?;
    for (index, done) in results {
        prepared.take(&mut tasks[index], done, &owned);
    }
    Ok(prepared)
}

/// Does all tasks, some at once.
async fn all(context: &Context<'_>, tasks: &[InputTask]) -> Result<Vec<(usize, Done)>, Failure> {
    let job = context.job;
    let mut results = Vec::new();
    let work: Vec<_> = tasks.iter().map(|task| context.run(task)).collect();
    let mut running = stream::iter(work).buffer_unordered(AT_ONCE);
    while let Some(result) = tokio::select! {
        result = running.next() => result,
        () = job.cancel.cancelled() => return Err(job.stop_reason()),
    } {
        results.push(result?);
    }
    Ok(results)
}

impl Prepared {
    /// Puts what a task has made in its place.
    fn take(&mut self, task: &mut InputTask, done: Done, owned: &dyn Fn(&str) -> bool) {
        let value = done.value.unwrap_or_else(|| task.take_value());
        if let Some(place) = task.place_in(&mut self.graph) {
            *place = value;
        }
        self.models.extend(done.models);
        self.warnings.extend(done.warnings);
        for (url, fetched) in done.fetched {
            // What came with the request is no download.
            if owned(&url) {
                continue;
            }
            let duration = u64::try_from(fetched.duration.as_millis()).unwrap_or(u64::MAX);
            self.downloads.push(DownloadReport {
                url: public_url(&url),
                size: fetched.size,
                duration,
                cached: fetched.cached,
            });
            self.leases.push(fetched.lease);
        }
    }
}
