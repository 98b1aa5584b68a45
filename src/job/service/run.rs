//! One job from beginning to end, with everything that must happen however it ends.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tracing::error;

use super::finish::finish;
use super::{End, Inner};
use crate::document::Document;
use crate::error::{Failure, panicked};
use crate::job::deliver::{self, Promises, Response};
use crate::job::event::JobEvent;
use crate::job::keep::Keeping;
use crate::job::pipeline;
use crate::job::registry::Job;
use crate::job::request::{Graph, PromptRequest};
use crate::job::witness::Ended;
use crate::limits::{is_large_object, off_runtime};
use crate::store::AssetRecord;

/// What a job came to, before anybody was told.
struct Outcome {
    result: Result<Response, Failure>,
    /// The graph as ComfyUI has queued it; failure webhooks need it, too.
    queued: Option<Graph>,
    promises: Promises,
}

pub(super) async fn run(
    inner: Arc<Inner>,
    job: Arc<Job>,
    mut request: Box<PromptRequest>,
    accepted: oneshot::Sender<Graph>,
    done: oneshot::Sender<Result<Document, Failure>>,
) {
    let began = Instant::now();
    // A request may carry its inputs in base64: nobody but a task's last word needs them once they
    // are in place.
    let graph = if job.policy.webhook_tells_refusals && !request.webhooks.is_empty() {
        request.graph.clone()
    } else {
        std::mem::take(&mut request.graph)
    };
    let graph = Box::new(graph);
    let Outcome {
        result,
        queued,
        promises,
    } = through_the_pipeline(&inner, &job, &request, graph, accepted).await;
    let kept = Box::pin(kept_by_address(&job)).await;
    let ended = finish(
        &inner,
        &job,
        &request,
        queued.as_deref(),
        &result,
        began.elapsed(),
        (promises, kept),
    );
    let result = result.map(|response| response.document);
    if let Some(ends) = inner.ends.get() {
        let _ = ends.send(End {
            id: job.id.clone(),
            source: job.source,
            result: result.clone(),
            context: job.trace.context().cloned(),
        });
    }
    // What a client sent may be large, and dropping it long.
    let large = is_large_object(&request.graph)
        || queued.as_ref().is_some_and(|graph| is_large_object(graph));
    off_runtime(large, || drop((request, queued)));
    let _ = done.send(result);
    Box::pin(tell_end(&job, ended)).await;
}

/// Runs the stages. Whoever waits for the acceptance is told on the way.
async fn through_the_pipeline(
    inner: &Arc<Inner>,
    job: &Arc<Job>,
    request: &PromptRequest,
    graph: Box<Map<String, Value>>,
    accepted: oneshot::Sender<Graph>,
) -> Outcome {
    let (tell, mut heard) = oneshot::channel::<Graph>();
    let mut queued = None;
    let mut promises = Vec::new();
    let result = {
        let running = pipeline::run(inner, job, request, graph, tell);
        let running = AssertUnwindSafe(running).catch_unwind();
        tokio::pin!(running);
        let mut accepted = Some(accepted);
        loop {
            tokio::select! {
                biased;
                result = &mut running => break result,
                Ok(graph) = &mut heard, if queued.is_none() => {
                    // A task that is given back is handed out again by its broker.
                    if !job.policy.given_back {
                        let context = job.trace.context();
                        let promising = deliver::promise(inner, request, &*graph, context);
                        promises = Box::pin(promising).await;
                    }
                    job.witness(|witness| witness.accepted(job, &graph));
                    if let Some(accepted) = accepted.take() {
                        let _ = accepted.send(graph.clone());
                    }
                    queued = Some(graph);
                }
            }
        }
    };
    if queued.is_none() {
        queued = heard.try_recv().ok();
        queued
            .iter()
            .for_each(|graph| job.witness(|witness| witness.accepted(job, graph)));
    }
    let result = result.unwrap_or_else(|_| {
        error!(id = %job.id, "the pipeline panicked; this is a defect, please report it");
        Err(panicked(&format!("prompt {}", job.id)))
    });
    Outcome {
        result,
        queued,
        promises,
    }
}

/// What was asked for by address is there when it is told of; else nobody waits for it.
async fn kept_by_address(job: &Job) -> Vec<AssetRecord> {
    let by_address = |keeping: &&Keeping| keeping.by_address();
    let Some(keeping) = job.keeping.as_deref().filter(by_address) else {
        return Vec::new();
    };
    keeping.settled().await;
    match keeping.keep() {
        Some(_) => keeping.kept(&job.id).await.0,
        // They are the origin's.
        None => Vec::new(),
    }
}

/// Tells whoever listens to the job, once its outputs are kept.
async fn tell_end(job: &Job, mut ended: Ended) {
    let Some(keeping) = &job.keeping else { return };
    if !keeping.by_address() {
        keeping.settled().await;
        let (kept, urls) = keeping.kept(&job.id).await;
        ended.keep(&kept);
        let ids = kept.into_iter().map(|asset| asset.id);
        job.tell(&JobEvent::Uploaded(ids.zip(urls).collect()));
    }
    job.witness(|witness| witness.kept(job, &ended));
    job.tell(&JobEvent::Ended(Arc::new(ended)));
}
