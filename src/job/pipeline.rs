//! The order of the stages, and nothing else: prepare, run (submit, follow, collect), convert,
//! deliver. The same for every transport.
//!
//! Thousands of jobs may wait at a time, so what a stage needs is allocated while it lasts.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::cleanup::Entry;
use super::conversion::{self, Named};
use super::deliver::{self, Images, Outcome, Response};
use super::event::JobEvent;
use super::origin;
use super::outputs::{self, DeliveryOptions, OutputFile};
use super::preprocess::{self, PrepareContext, Prepared};
use super::registry::{Job, Status};
use super::remote;
use super::request::{Graph, PromptRequest};
use super::rounds::{self, Executed};
use super::service::Inner;
use super::stats::Stages;
use crate::error::{Code, Failure};
use crate::store::AssetRecord;
use crate::telemetry::trace::Span;

/// What every stage may ask.
pub(super) struct Pipeline<'a> {
    pub inner: &'a Arc<Inner>,
    pub job: &'a Arc<Job>,
    pub request: &'a PromptRequest,
    /// Passed to ComfyUI.
    pub extra_data: Option<Value>,
    /// What is noted for the case of a kill.
    pub entry: Arc<Entry>,
}

/// Runs one prompt from its beginning to the response body. `accepted` is told the graph once
/// ComfyUI has queued it.
///
/// # Errors
/// Whatever ended it, fit to be shown.
pub(super) async fn run(
    inner: &Arc<Inner>,
    job: &Arc<Job>,
    request: &PromptRequest,
    graph: Box<Map<String, Value>>,
    accepted: oneshot::Sender<Graph>,
) -> Result<Response, Failure> {
    match &inner.remote {
        Some(engine) => {
            let engine = engine.as_ref();
            Box::pin(remote::run(inner, engine, job, request, graph, accepted)).await
        }
        None => Box::pin(run_here(inner, job, request, graph, accepted)).await,
    }
}

/// Runs it in a ComfyUI of ours.
async fn run_here(
    inner: &Arc<Inner>,
    job: &Arc<Job>,
    request: &PromptRequest,
    graph: Box<Map<String, Value>>,
    accepted: oneshot::Sender<Graph>,
) -> Result<Response, Failure> {
    let stages = Stages::default();
    let mut preparing = job.trace.stage("preprocess");
    let runnable = conversion::runnable(inner, job, request, *graph);
    let mut runnable = preparing.around(Box::pin(runnable)).await?;
    let ignored = request.passed_on.iter().flat_map(|given| given.ignored());
    runnable.warnings.extend(ignored);
    let pipeline = Pipeline {
        inner,
        job,
        request,
        extra_data: runnable.extra_data,
        entry: inner.journal.entry(&job.id),
    };
    let titles = runnable.titles;
    pipeline
        .run(
            runnable.graph,
            (runnable.warnings, &titles),
            (stages, preparing),
            accepted,
        )
        .await
        .map_err(|failure| titles.in_failure(failure))
}

impl Pipeline<'_> {
    async fn run(
        &self,
        graph: Map<String, Value>,
        (mut warnings, titles): (Vec<String>, &Named),
        (mut stages, mut preparing): (Stages, Span),
        accepted: oneshot::Sender<Graph>,
    ) -> Result<Response, Failure> {
        let prepared = preparing.around(Box::pin(self.prepare(graph))).await?;
        drop(preparing);
        stages.over("preprocess");
        let executed = rounds::execute(self, prepared, accepted).await?;
        stages.over("comfy_round_trip");
        let mut converting = self.job.trace.stage("postprocess");
        let converted = converting.around(Box::pin(self.convert(executed)));
        let mut converted = converted.await?;
        drop(converting);
        stages.over("postprocess");
        warnings.extend(titles.in_sentences(std::mem::take(&mut converted.warnings)));
        converted.warnings = warnings;
        Box::pin(self.deliver(converted, stages)).await
    }

    /// Checks what the request's fields ask for, then brings everything in place.
    async fn prepare(&self, graph: Map<String, Value>) -> Result<Box<Prepared>, Failure> {
        let inner = self.inner;
        let work = async {
            deliver::check(inner, self.request).await?;
            let catalogue = inner.comfy.catalogue();
            let around = PrepareContext {
                prompt: &inner.config,
                comfy: &inner.comfy_config,
                directories: inner.directories.clone(),
                catalogue: &catalogue,
                engine: &inner.comfy,
                storage: &inner.storage,
                store: &inner.store,
                cleaner: &inner.cleaner,
                entry: &self.entry,
            };
            preprocess::run(&around, self.request, graph, self.job).await
        };
        let prepared = tokio::select! {
            biased;
            () = self.job.cancel.cancelled() => return Err(self.job.stop_reason()),
            prepared = work => prepared?,
        };
        if !prepared.models.is_empty() {
            inner.comfy.models_changed();
        }
        Ok(Box::new(prepared))
    }

    /// Converts and packs what was made.
    async fn convert(&self, mut executed: Executed) -> Result<Executed, Failure> {
        self.job.enter(Status::Postprocessing);
        let cancel = executed.cancel.clone();
        let options = DeliveryOptions {
            conversion: self.request.conversion.as_deref(),
            archive: self.request.archive,
            id: &self.request.file_id,
        };
        let files = std::mem::take(&mut executed.files);
        let finished = outputs::finish(
            &self.inner.media,
            files,
            &options,
            &executed.cleanup,
            &cancel,
        )
        .await;
        if cancel.is_cancelled() {
            return Err(self.job.stop_reason());
        }
        let finished = finished?;
        executed.files = finished.files;
        executed.warnings.extend(finished.warnings);
        Ok(executed)
    }

    /// Uploads if that was asked for, and puts the answer together.
    async fn deliver(&self, executed: Executed, mut stages: Stages) -> Result<Response, Failure> {
        let uploading = deliver::images(
            self.inner,
            self.job,
            self.request,
            &executed.files,
            &executed.cancel,
        );
        let images = match &self.request.upload {
            Some(_) => self.job.trace.stage("upload").around(uploading).await?,
            None => uploading.await?,
        };
        let uploaded = matches!(images, Images::Urls(_));
        let (files, stop) = (&executed.files, &executed.cancel);
        let handed = origin::hand_over(self.job, files, uploaded, stop).await?;
        let images = keep(self.job, files, images).await?;
        stages.over("upload");
        let stats = stages.report(&executed.timeline, &executed.graph, &executed.downloads);
        let outcome = Outcome {
            images,
            handed,
            files: executed.files,
            texts: executed.texts,
            warnings: [self.request.warnings.clone(), executed.warnings].concat(),
            stats,
        };
        Ok(Response::new(
            self.request,
            executed.graph,
            outcome,
            executed.cleanup,
        ))
    }
}

/// Keeps what is delivered, if that was asked for; whoever is told of the result gets addresses
/// then.
pub(super) async fn keep(
    job: &Job,
    files: &[OutputFile],
    images: Images,
) -> Result<Images, Failure> {
    // What the origin keeps was handed over to it.
    let here = job.keeping.as_ref();
    let Some((keeping, how)) = here.and_then(|keeping| Some((keeping, keeping.keep()?))) else {
        return Ok(images);
    };
    if !how.by_address {
        let urls = match &images {
            Images::Urls(urls) => urls.as_slice(),
            Images::Inline => &[],
        };
        keeping.results_later(files, urls);
        return Ok(images);
    }
    let assets = keeping.results(files).await.map_err(|error| {
        let message = format!("the outputs cannot be kept: {error}");
        Failure::new(Code::Internal, message)
    })?;
    match images {
        Images::Urls(urls) => {
            let ids = assets.iter().map(|asset| asset.id.clone());
            let uploaded = ids.zip(urls.iter().cloned()).collect();
            job.tell(&JobEvent::Uploaded(uploaded));
            Ok(Images::Urls(urls))
        }
        Images::Inline if how.by_address => {
            let address = |asset: &AssetRecord| (how.address)(&asset.id);
            Ok(Images::Urls(assets.iter().map(address).collect()))
        }
        inline => Ok(inline),
    }
}
