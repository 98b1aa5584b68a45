//! What follows the end of a job: its state, the events, metrics, log lines and webhooks.

use std::time::Duration;

use serde_json::{Map, Value};
use tracing::{info, warn};

use super::Inner;
use crate::config::public_value;
use crate::document::Document;
use crate::error::{Code, Failure};
use crate::job::deliver::{self, Promises, Response};
use crate::job::registry::Job;
use crate::job::request::PromptRequest;
use crate::job::witness::Ended;
use crate::store::AssetRecord;
use crate::telemetry::{metrics, trace};

pub(super) fn finish(
    inner: &Inner,
    job: &Job,
    request: &PromptRequest,
    queued: Option<&Map<String, Value>>,
    result: &Result<Response, Failure>,
    took: Duration,
    (promises, kept): (Promises, Vec<AssetRecord>),
) -> Ended {
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    inner.jobs.finish(job, result.as_ref().err());
    let mut ended = Ended {
        snapshot: job.snapshot(),
        result: result.as_ref().map(Response::summary).map_err(Clone::clone),
    };
    ended.keep(&kept);
    let comes_again = result
        .as_ref()
        .is_err_and(|failure| comes_again(job, failure));
    job.witness(|witness| witness.ended(job, &ended, comes_again));
    match result {
        Ok(response) => succeeded(inner, job, request, response, duration_ms, promises),
        Err(failure) => {
            failed(inner, job, failure, duration_ms);
            // Before ComfyUI had it an HTTP client learns of the failure from its own answer; a
            // task from the queue has none. One that will be tried again has not failed yet.
            let transport_tells = queued.is_none() && !job.policy.webhook_tells_refusals;
            let silent = transport_tells || comes_again;
            tell_webhooks(inner, job, request, queued, failure, (promises, silent));
        }
    }
    job.trace.release();
    ended
}

/// Whether another attempt follows.
fn comes_again(job: &Job, failure: &Failure) -> bool {
    let given_back = job.policy.given_back && failure.code == Code::ShuttingDown;
    failure.transient && (job.policy.tried_again || given_back)
}

fn succeeded(
    inner: &Inner,
    job: &Job,
    request: &PromptRequest,
    response: &Response,
    duration_ms: u64,
    promises: Promises,
) {
    metrics::prompt_ended("succeeded", job.source.as_str());
    let types = response.files.iter().map(|file| &*file.content_type);
    job.trace
        .delivered(response.files.len(), trace::output_type(types));
    let upload = request.upload.as_ref();
    let delivered = upload.map_or("inline", |upload| upload.field);
    info!(
        id = %job.id,
        duration_ms,
        files = response.files.len(),
        delivered,
        webhook = !request.webhooks.is_empty(),
        "prompt succeeded"
    );
    job.streams.end("complete", &response.document);
    let trace = job.trace.carried();
    deliver::succeeded(inner, request, response, promises, &trace);
}

fn failed(inner: &Inner, job: &Job, failure: &Failure, duration_ms: u64) {
    let status = match failure.code {
        Code::ExecutionInterrupted => "interrupted",
        _ => "failed",
    };
    if failure.status.is_server_error() {
        // Whatever it was: a full disk shows in many ways, and looking costs little.
        inner.health.suspect_folders();
    }
    metrics::prompt_ended(status, job.source.as_str());
    job.trace.failed(failure);
    warn!(
        id = %job.id,
        duration_ms,
        code = failure.code.as_str(),
        error = %failure.message,
        location = failure.location,
        "prompt failed"
    );
    let body = Value::Object(failure.body()).to_string();
    job.streams.end("error", &Document::from_text(body));
}

/// Tells the receivers of the failure, or, when they are to hear nothing of it, takes back what was
/// promised to them.
fn tell_webhooks(
    inner: &Inner,
    job: &Job,
    request: &PromptRequest,
    queued: Option<&Map<String, Value>>,
    failure: &Failure,
    (promises, silent): (Promises, bool),
) {
    let keep = job.keeping.as_ref().and_then(|keeping| keeping.keep());
    let mut promises = promises.into_iter();
    for webhook in &request.webhooks {
        let promise = promises.next().flatten();
        if silent {
            inner.webhooks.release(promise);
            continue;
        }
        // The URLs of its inputs are still in it, where it was not queued.
        let graph = queued.map_or_else(
            || public_value(Value::Object(request.sent())),
            |graph| Value::Object(graph.clone()),
        );
        let notice = deliver::Notice {
            id: &request.id,
            graph: &graph,
            failure,
            kept: keep.is_some_and(|keep| keep.is_job),
        };
        deliver::failed(inner, webhook, notice, promise, job.trace.carried());
    }
}
