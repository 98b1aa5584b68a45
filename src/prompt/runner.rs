//! The order of the stages: preprocess, run, collect, convert, deliver. The same for every door.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tracing::info;

use super::deliver::{self, Response};
use super::execution::{self, Execution};
use super::flight::{Flight, Status};
use super::outputs::{self, Collected, Leftovers, Wishes};
use super::preprocess::{self, Prepared, Surroundings, names};
use super::request::PromptRequest;
use super::service::Inner;
use super::stats::{Stages, Timeline};
use crate::error::{Code, Failure};

/// Runs one prompt from its beginning to the response body. `accepted` is told the graph once ComfyUI has queued it.
///
/// # Errors
/// Whatever ended it, fit to be shown.
pub(super) async fn run(inner: &Inner, flight: &Flight, request: &PromptRequest, accepted: oneshot::Sender<Map<String, Value>>) -> Result<Response, Failure> {
    let mut stages = Stages::default();
    let prepared = prepare(inner, flight, request).await?;
    stages.over("preprocess");
    if !prepared.downloads.is_empty() {
        inner.comfy.models_changed();
    }
    let Prepared { graph, workspace, leases, downloads, warnings } = prepared;
    let leftovers = Arc::new(Leftovers::default());
    let swept = Sweep { inner, graph: &graph, armed: true };
    let (collected, timeline, run_warnings) = execute(inner, flight, request, &graph, &leftovers, accepted).await?;
    // Nothing reads the inputs any more.
    drop((workspace, leases));
    stages.over("comfy_round_trip");
    let mut warnings = [warnings, run_warnings, collected.missing].concat();
    flight.enter(Status::Postprocessing);
    let wishes = Wishes { conversion: request.conversion.as_ref(), archive: request.archive, id: &request.id, output_dir: &inner.comfy_config.output_dir };
    let finished = outputs::finish(&inner.media, collected.files, &wishes, &leftovers, &flight.cancel).await;
    if flight.cancel.is_cancelled() {
        return Err(flight.stop_reason());
    }
    let finished = finished?;
    warnings.extend(finished.warnings);
    stages.over("postprocess");
    let images = deliver::images(inner, flight, request, &finished.files).await?;
    stages.over("upload");
    swept.disarm();
    let stats = stages.report(&timeline, &graph, &downloads);
    Ok(Response::new(request, graph.clone(), images, finished.files, collected.texts, warnings, stats, leftovers))
}

/// Checks what the request's fields ask for, then brings everything in place.
async fn prepare(inner: &Inner, flight: &Flight, request: &PromptRequest) -> Result<Prepared, Failure> {
    let work = async {
        deliver::check(inner, request).await?;
        let catalogue = inner.comfy.catalogue();
        let around =
            Surroundings { prompt: &inner.config, comfy: &inner.comfy_config, places: inner.places.clone(), catalogue: &catalogue, storage: &inner.storage };
        preprocess::run(&around, request, flight).await
    };
    tokio::select! {
        prepared = work => prepared,
        () = flight.cancel.cancelled() => Err(flight.stop_reason()),
    }
}

/// Runs the graph and finds its files; once more when ComfyUI answered from its cache with files that are gone (comfyui.md 5.2).
async fn execute(
    inner: &Inner,
    flight: &Flight,
    request: &PromptRequest,
    graph: &Map<String, Value>,
    leftovers: &Arc<Leftovers>,
    accepted: oneshot::Sender<Map<String, Value>>,
) -> Result<(Collected, Timeline, Vec<String>), Failure> {
    let mut unique = flight.repeated;
    let mut accepted = Some(accepted);
    let mut sent = graph.clone();
    if unique {
        names::make_unique(&mut sent);
    }
    loop {
        let submitting = execution::submit(&inner.comfy, flight, &sent, request.extra_data.as_ref());
        // Not raced against cancellation: what was sent is watched, and `follow` cancels it.
        let queued = submitting.await?;
        let comfy_id = queued.comfy_id().to_owned();
        let mut timeline = Timeline::accepted(graph.len());
        inner.flights.accepted(flight);
        if let Some(accepted) = accepted.take() {
            info!(id = %flight.id, comfyui_id = %comfy_id, source = flight.source.as_str(), nodes = graph.len(), "prompt queued");
            let _ = accepted.send(graph.clone());
        }
        let execution = execution::follow(&inner.comfy, &inner.flights, flight, queued, &mut timeline).await?;
        inner.forget(comfy_id);
        let Execution { outputs, failure, warnings } = execution;
        let collected = collect(inner, outputs, graph.clone(), leftovers.clone()).await;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if !collected.missing.is_empty() && timeline.any_cached() && !unique {
            unique = true;
            names::make_unique(&mut sent);
            continue;
        }
        if collected.files.is_empty() && collected.texts.is_empty() {
            let why = if collected.missing.is_empty() { "no node has saved a file".to_owned() } else { collected.missing.join("; ") };
            return Err(Failure::new(Code::ExecutionError, format!("ComfyUI finished the prompt, but there is no output to deliver: {why}")));
        }
        return Ok((collected, timeline, warnings));
    }
}

async fn collect(inner: &Inner, outputs: Value, graph: Map<String, Value>, leftovers: Arc<Leftovers>) -> Collected {
    let output_dir = inner.comfy_config.output_dir.clone();
    let collecting = tokio::task::spawn_blocking(move || outputs::collect(&outputs, &graph, &output_dir, &leftovers));
    collecting.await.unwrap_or_default()
}

/// Removes what the saving nodes of a prompt wrote when it did not get as far as being delivered: an interrupted or lost run
/// leaves files that nobody reports.
struct Sweep<'a> {
    inner: &'a Inner,
    graph: &'a Map<String, Value>,
    armed: bool,
}

impl Sweep<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        if self.armed {
            let (graph, output_dir) = (self.graph.clone(), self.inner.comfy_config.output_dir.clone());
            self.inner.tasks.spawn_blocking(move || {
                for path in names::saved_by(&graph, &output_dir) {
                    let _ = std::fs::remove_file(path);
                }
            });
        }
    }
}
