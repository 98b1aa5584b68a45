//! The order of the stages: preprocess, run, collect, convert, deliver. The same for every door.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tracing::info;

use super::deliver::{self, Outcome, Response};
use super::execution::{self, Execution};
use super::flight::{Flight, Status};
use super::outputs::{self, Collected, Leftovers, Origin, Wishes};
use super::preprocess::{self, Prepared, Surroundings, names};
use super::request::{Graph, PromptRequest};
use super::service::Inner;
use super::stats::{Stages, Timeline};
use crate::error::{Code, Failure};

/// Runs one prompt from its beginning to the response body. `accepted` is told the graph once ComfyUI has queued it.
///
/// # Errors
/// Whatever ended it, fit to be shown.
pub(super) async fn run(
    inner: &Arc<Inner>,
    flight: &Flight,
    request: &PromptRequest,
    graph: Map<String, Value>,
    accepted: oneshot::Sender<Graph>,
) -> Result<Response, Failure> {
    let mut stages = Stages::default();
    let prepared = prepare(inner, flight, request, graph).await?;
    stages.over("preprocess");
    if prepared.models_placed {
        inner.comfy.models_changed();
    }
    let Prepared {
        graph,
        workspace,
        leases,
        downloads,
        warnings,
        ..
    } = prepared;
    let leftovers = Arc::new(Leftovers::new(inner.removal.clone()));
    let origin = origin(inner, flight, Arc::new(graph)).await;
    let sweep = Arc::new(Sweep {
        inner: inner.clone(),
        origin: origin.clone(),
        number: flight.number,
        armed: AtomicBool::new(true),
    });
    let (collected, timeline, run_warnings) =
        execute(inner, flight, request, &sweep, &leftovers, accepted).await?;
    // Nothing reads the inputs any more.
    drop((workspace, leases));
    stages.over("comfy_round_trip");
    let mut warnings = [warnings, run_warnings, collected.missing].concat();
    flight.enter(Status::Postprocessing);
    let cancel = flight.outlives_cancelling();
    let wishes = Wishes {
        conversion: request.conversion.as_ref(),
        archive: request.archive,
        id: &request.id,
        output_dir: &origin.output_dir,
    };
    let finished =
        outputs::finish(&inner.media, collected.files, &wishes, &leftovers, &cancel).await;
    if cancel.is_cancelled() {
        return Err(flight.stop_reason());
    }
    let finished = finished?;
    warnings.extend(finished.warnings);
    stages.over("postprocess");
    let images = deliver::images(inner, flight, request, &finished.files, &cancel).await?;
    stages.over("upload");
    sweep.disarm();
    let stats = stages.report(&timeline, &origin.graph, &downloads);
    let result = Outcome {
        images,
        files: finished.files,
        texts: collected.texts,
        warnings,
        stats,
    };
    Ok(Response::new(
        request,
        origin.graph.clone(),
        result,
        leftovers,
    ))
}

/// Checks what the request's fields ask for, then brings everything in place.
async fn prepare(
    inner: &Inner,
    flight: &Flight,
    request: &PromptRequest,
    graph: Map<String, Value>,
) -> Result<Prepared, Failure> {
    let work = async {
        deliver::check(inner, request).await?;
        let catalogue = inner.comfy.catalogue();
        let around = Surroundings {
            prompt: &inner.config,
            comfy: &inner.comfy_config,
            places: inner.places.clone(),
            catalogue: &catalogue,
            storage: &inner.storage,
            removal: &inner.removal,
        };
        preprocess::run(&around, request, graph, flight).await
    };
    tokio::select! {
        biased;
        () = flight.cancel.cancelled() => Err(flight.stop_reason()),
        prepared = work => prepared,
    }
}

/// What tells this prompt's files from all others.
async fn origin(inner: &Inner, flight: &Flight, graph: Graph) -> Origin {
    let output_dir = inner.comfy_config.output_dir.clone();
    let mut earlier = HashSet::new();
    if flight.repeated {
        let (graph, output_dir) = (graph.clone(), output_dir.clone());
        let looking = tokio::task::spawn_blocking(move || names::saved_by(&graph, &output_dir));
        earlier.extend(looking.await.unwrap_or_default());
    }
    Origin {
        id: flight.id.clone(),
        graph,
        output_dir,
        earlier: Arc::new(earlier),
    }
}

/// Runs the graph and finds its files; once more when ComfyUI answered from its cache with files that are gone (comfyui.md 5.2).
async fn execute(
    inner: &Inner,
    flight: &Flight,
    request: &PromptRequest,
    sweep: &Arc<Sweep>,
    leftovers: &Arc<Leftovers>,
    accepted: oneshot::Sender<Graph>,
) -> Result<(Collected, Timeline, Vec<String>), Failure> {
    let origin = &sweep.origin;
    let graph = &origin.graph;
    // Nodes that must run anew, beside those that save by a prefix.
    let mut unique = flight.repeated.then(BTreeSet::new);
    let mut accepted = Some(accepted);
    loop {
        let marked = unique.as_ref().map(|beside| {
            let mut marked = Map::clone(graph);
            names::make_unique(&mut marked, beside);
            marked
        });
        let queued = execution::submit(
            &inner.comfy,
            flight,
            marked.as_ref().unwrap_or(graph),
            request.extra_data.as_ref(),
            sweep.clone(),
        )
        .await?;
        drop(marked);
        let comfy_id = queued.comfy_id().to_owned();
        let mut timeline = Timeline::accepted(graph.len());
        inner.flights.accepted(flight);
        if let Some(accepted) = accepted.take() {
            info!(id = %flight.id, comfyui_id = %comfy_id, source = flight.source.as_str(), nodes = graph.len(), "prompt queued");
            let _ = accepted.send(graph.clone());
        }
        let execution =
            execution::follow(&inner.comfy, &inner.flights, flight, queued, &mut timeline).await?;
        inner.forgetting.forget(comfy_id);
        let Execution {
            outputs,
            failure,
            warnings,
        } = execution;
        let collected = collect(outputs, origin, leftovers).await;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let nothing = collected.files.is_empty() && collected.texts.is_empty();
        if (nothing || !collected.missing.is_empty()) && timeline.any_cached() {
            let beside = names::not_saving(
                graph,
                collected
                    .missing_of
                    .iter()
                    .filter(|node| timeline.is_cached(node)),
            );
            let news = unique.as_ref().is_none_or(|known| !beside.is_subset(known));
            if news {
                unique.get_or_insert_default().extend(beside);
                continue;
            }
        }
        if nothing {
            let reasons = [collected.missing, warnings].concat();
            let why = if reasons.is_empty() {
                "no node has saved a file".to_owned()
            } else {
                reasons.join("; ")
            };
            return Err(Failure::new(
                Code::ExecutionError,
                format!("ComfyUI finished the prompt, but there is no output to deliver: {why}"),
            ));
        }
        return Ok((collected, timeline, warnings));
    }
}

async fn collect(outputs: Value, origin: &Origin, leftovers: &Arc<Leftovers>) -> Collected {
    let (origin, leftovers) = (origin.clone(), leftovers.clone());
    tokio::task::spawn_blocking(move || outputs::collect(&outputs, &origin, &leftovers))
        .await
        .unwrap_or_default()
}

/// Removes what the saving nodes of a prompt wrote when it did not get as far as being delivered: an interrupted or lost run
/// leaves files that nobody reports.
struct Sweep {
    inner: Arc<Inner>,
    origin: Origin,
    /// Of the flight.
    number: u64,
    armed: AtomicBool,
}

impl Sweep {
    fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        if self.armed.load(Ordering::Relaxed) {
            let (inner, origin, number) = (self.inner.clone(), self.origin.clone(), self.number);
            self.inner.removal.later(move || {
                // A sweep may come late. What a later prompt with the same id has written is not told apart from ours, and not to be lost.
                if inner.flights.is_superseded(&origin.id, number) {
                    return;
                }
                for path in names::saved_by(&origin.graph, &origin.output_dir) {
                    if !origin.earlier.contains(&path) {
                        let _ = std::fs::remove_file(path);
                    }
                }
            });
        }
    }
}
