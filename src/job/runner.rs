//! The order of the stages: preprocess, run, collect, convert, deliver. The same for every transport.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tracing::info;

use super::deliver::{self, Images, Outcome, Response};
use super::event::JobEvent;
use super::execution::{self, Execution};
use super::keep;
use super::outputs::{self, Collected, DeliveryOptions, FileCleanup, Origin, OutputFile};
use super::preprocess::{self, PrepareContext, Prepared, names};
use super::registry::{Job, Status};
use super::request::{Graph, PromptRequest};
use super::service::Inner;
use super::stats::{Stages, Timeline};
use crate::error::{Code, Failure};
use crate::store::AssetRecord;

/// Runs one prompt from its beginning to the response body. `accepted` is told the graph once ComfyUI has queued it.
///
/// # Errors
/// Whatever ended it, fit to be shown.
pub(super) async fn run(
    inner: &Arc<Inner>,
    job: &Arc<Job>,
    request: &PromptRequest,
    graph: Map<String, Value>,
    accepted: oneshot::Sender<Graph>,
) -> Result<Response, Failure> {
    let mut stages = Stages::default();
    let prepared = prepare(inner, job, request, graph).await?;
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
    let cleanup = Arc::new(FileCleanup::new(inner.cleaner.clone()));
    let origin = origin(inner, job, Arc::new(graph)).await;
    let cleanup_guard = Arc::new(CleanupGuard {
        inner: inner.clone(),
        origin: origin.clone(),
        number: job.number,
        armed: AtomicBool::new(true),
    });
    job.submitting.store(true, Ordering::Relaxed);
    if let Some(keeping) = &job.keeping {
        let place = keep::Place {
            output_dir: origin.output_dir.clone(),
            temp_dir: inner.comfy_config.home.join("temp"),
            results_differ: request.conversion.is_some() || request.archive.is_some(),
            guards: vec![cleanup.clone(), cleanup_guard.clone()],
        };
        keeping.start(inner, job, place).await;
    }
    let (collected, timeline, run_warnings) =
        execute(inner, job, request, &cleanup_guard, &cleanup, accepted).await?;
    // Nothing reads the inputs any more.
    drop((workspace, leases));
    stages.over("comfy_round_trip");
    let mut warnings = [warnings, run_warnings, collected.missing].concat();
    job.enter(Status::Postprocessing);
    let cancel = job.outlives_cancelling();
    let options = DeliveryOptions {
        conversion: request.conversion.as_ref(),
        archive: request.archive,
        id: &request.id,
        output_dir: &origin.output_dir,
    };
    let finished =
        outputs::finish(&inner.media, collected.files, &options, &cleanup, &cancel).await;
    if cancel.is_cancelled() {
        return Err(job.stop_reason());
    }
    let finished = finished?;
    warnings.extend(finished.warnings);
    stages.over("postprocess");
    let images = deliver::images(inner, job, request, &finished.files, &cancel).await?;
    let images = kept(job, &finished.files, images).await?;
    stages.over("upload");
    cleanup_guard.disarm();
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
        cleanup,
    ))
}

/// Keeps what is delivered, if that was asked for; whoever is told of the result gets addresses then.
async fn kept(job: &Job, files: &[OutputFile], images: Images) -> Result<Images, Failure> {
    let Some(keeping) = &job.keeping else {
        return Ok(images);
    };
    let assets = keeping.results(files).await.map_err(|error| {
        Failure::new(
            Code::Internal,
            format!("the outputs cannot be kept: {error}"),
        )
    })?;
    match images {
        Images::Urls(urls) => {
            let uploaded = assets
                .iter()
                .map(|asset| asset.id.clone())
                .zip(urls.iter().cloned());
            job.tell(&JobEvent::Uploaded(uploaded.collect()));
            Ok(Images::Urls(urls))
        }
        Images::Inline if keeping.keep().by_address => {
            let address = |asset: &AssetRecord| (keeping.keep().address)(&asset.id);
            Ok(Images::Urls(assets.iter().map(address).collect()))
        }
        inline => Ok(inline),
    }
}

/// Checks what the request's fields ask for, then brings everything in place.
async fn prepare(
    inner: &Inner,
    job: &Job,
    request: &PromptRequest,
    graph: Map<String, Value>,
) -> Result<Prepared, Failure> {
    let work = async {
        deliver::check(inner, request).await?;
        let catalogue = inner.comfy.catalogue();
        let around = PrepareContext {
            prompt: &inner.config,
            comfy: &inner.comfy_config,
            directories: inner.directories.clone(),
            catalogue: &catalogue,
            storage: &inner.storage,
            cleaner: &inner.cleaner,
            store: &inner.store,
        };
        preprocess::run(&around, request, graph, job).await
    };
    tokio::select! {
        biased;
        () = job.cancel.cancelled() => Err(job.stop_reason()),
        prepared = work => prepared,
    }
}

/// What tells this prompt's files from all others.
async fn origin(inner: &Inner, job: &Job, graph: Graph) -> Origin {
    let output_dir = inner.comfy_config.output_dir.clone();
    let mut earlier = HashSet::new();
    if job.repeated {
        let (graph, output_dir) = (graph.clone(), output_dir.clone());
        let looking = tokio::task::spawn_blocking(move || names::saved_by(&graph, &output_dir));
        earlier.extend(looking.await.unwrap_or_default());
    }
    Origin {
        id: job.id.clone(),
        graph,
        output_dir,
        earlier: Arc::new(earlier),
    }
}

/// Runs the graph and finds its files; once more when ComfyUI answered from its cache with files that are gone (comfyui.md 5.2).
async fn execute(
    inner: &Inner,
    job: &Job,
    request: &PromptRequest,
    cleanup_guard: &Arc<CleanupGuard>,
    cleanup: &Arc<FileCleanup>,
    accepted: oneshot::Sender<Graph>,
) -> Result<(Collected, Timeline, Vec<String>), Failure> {
    let origin = &cleanup_guard.origin;
    let graph = &origin.graph;
    // Nodes that must run anew, beside those that save by a prefix.
    let mut unique = job.repeated.then(BTreeSet::new);
    let mut accepted = Some(accepted);
    loop {
        let marked = unique.as_ref().map(|beside| {
            let mut marked = Map::clone(graph);
            names::make_unique(&mut marked, beside);
            marked
        });
        let queued = execution::submit(
            &inner.comfy,
            job,
            marked.as_ref().unwrap_or(graph),
            request.extra_data.as_ref(),
            cleanup_guard.clone(),
        )
        .await?;
        drop(marked);
        let comfy_id = queued.comfy_id().to_owned();
        let mut timeline = Timeline::accepted(graph.len());
        job.tell(&JobEvent::Accepted {
            comfy_id: comfy_id.clone(),
            graph: graph.clone(),
        });
        let catalogue = inner.comfy.catalogue();
        job.track(graph, |class| catalogue.is_output(class));
        inner.jobs.accepted(job);
        if let Some(accepted) = accepted.take() {
            info!(id = %job.id, comfyui_id = %comfy_id, source = job.source.as_str(), nodes = graph.len(), "prompt queued");
            let _ = accepted.send(graph.clone());
        }
        let execution =
            execution::follow(&inner.comfy, &inner.jobs, job, queued, &mut timeline).await?;
        inner.history_cleanup.forget(comfy_id);
        let Execution {
            outputs,
            failure,
            warnings,
        } = execution;
        let collected = collect(outputs, origin, cleanup).await;
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
                if let Some(keeping) = &job.keeping {
                    keeping.withdraw();
                }
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

async fn collect(outputs: Value, origin: &Origin, cleanup: &Arc<FileCleanup>) -> Collected {
    let (origin, cleanup) = (origin.clone(), cleanup.clone());
    tokio::task::spawn_blocking(move || outputs::collect(&outputs, &origin, &cleanup))
        .await
        .unwrap_or_default()
}

/// Removes what the saving nodes of a prompt wrote when it did not get as far as being delivered: an interrupted or lost run
/// leaves files that nobody reports.
struct CleanupGuard {
    inner: Arc<Inner>,
    origin: Origin,
    /// Of the job.
    number: u64,
    armed: AtomicBool,
}

impl CleanupGuard {
    fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }
}

impl Drop for CleanupGuard {
    fn drop(&mut self) {
        if self.armed.load(Ordering::Relaxed) {
            let (inner, origin, number) = (self.inner.clone(), self.origin.clone(), self.number);
            self.inner.cleaner.later(move || {
                // A cleanup_guard may come late. What a later prompt with the same id has written is not told apart from ours, and not to be lost.
                if inner.jobs.is_superseded(&origin.id, number) {
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
