//! One job from its record to its end, over as many attempts as it takes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::ending::{self, End};
use super::live::LiveJob;
use super::{Inner, left_for_later, recover, request};
use crate::comfy::fault::died;
use crate::document::Document;
use crate::error::{Code, Failure};
use crate::health::ComfyState;
use crate::job::{Keep, Policy, PromptRequest, Submission};
use crate::store::jobs::Logs;
use crate::store::{JobStatus, now_ms};
use crate::telemetry::{metrics, trace};

/// Of what ComfyUI printed, bytes.
const LONGEST_LOG: usize = 64 * 1024;

/// The submitter, until it has been told.
pub(super) type Verdict = oneshot::Sender<Option<Failure>>;

/// `extra_data`, and the credentials, also as they were sent.
type Secrets = (Option<Value>, crate::storage::Credentials, Option<Value>);

/// What an attempt came to.
enum Attempt {
    /// It is over.
    Ended(End),
    /// ComfyUI was lost; again.
    Again { counts: bool },
    /// The next process takes it up.
    Left,
}

/// Runs a job in the background. Without a `request` it is read from its record first.
pub(super) fn start(
    inner: Arc<Inner>,
    live: Arc<LiveJob>,
    request: Option<PromptRequest>,
    verdict: Option<Verdict>,
) {
    // Whoever has submitted it may be tracing.
    let context = trace::current();
    let job = async move { supervise(&inner, &live, request, verdict).await };
    tokio::spawn(trace::scope(context, job));
}

async fn supervise(
    inner: &Arc<Inner>,
    live: &Arc<LiveJob>,
    mut request: Option<PromptRequest>,
    mut verdict: Option<Verdict>,
) {
    // They are not recorded, so they are kept here for another attempt.
    let secrets = request.as_ref().map(|request| {
        let sent = request.passed_on.credentials.clone();
        (
            request.extra_data.clone(),
            request.credentials.clone(),
            sent,
        )
    });
    let expiry = inner.rules.queue_timeout.map(|limit| {
        let age = u64::try_from(now_ms() - live.record.created_at).unwrap_or(0);
        Instant::now() + limit.saturating_sub(Duration::from_millis(age))
    });
    loop {
        let attempt = match request.take() {
            Some(request) => one(inner, live, request, &mut verdict, expiry).await,
            None => match read_again(inner, live, secrets.as_ref(), expiry).await {
                Ok(request) => one(inner, live, request, &mut verdict, expiry).await,
                Err(attempt) => attempt,
            },
        };
        match attempt {
            Attempt::Ended(end) => return finish(inner, live, end).await,
            Attempt::Left => return leave(inner, live),
            Attempt::Again { counts } => {
                if let Some(end) = again(inner, live, counts).await {
                    return finish(inner, live, end).await;
                }
                // Somebody was promised an answer: it is a job by now.
                if let Some(verdict) = verdict.take() {
                    let _ = verdict.send(None);
                }
            }
        }
    }
}

/// Puts it back into the queue; `Some` when it was tried often enough.
async fn again(inner: &Inner, live: &LiveJob, counts: bool) -> Option<End> {
    let (attempts, cancelled) = live.change(|state| {
        state.job = None;
        (state.attempts, state.cancelled)
    });
    if cancelled {
        return Some(End::cancelled());
    }
    if counts && attempts >= inner.rules.max_attempts {
        return Some(End::failed(
            "worker_lost",
            format!(
                "ComfyUI was lost while it worked on the job, {attempts} times: V2_MAX_ATTEMPTS is {}",
                inner.rules.max_attempts
            ),
        ));
    }
    if counts {
        metrics::attempt_lost();
    }
    let _ = inner.store.withdraw_outputs(&live.id).await;
    live.change(|state| {
        state.status = JobStatus::Queued;
        state.started_at = None;
        state.outputs.clear();
        state.attempts += i64::from(counts);
    });
    let _ = inner.store.update_job(&live.id, live.update()).await;
    info!(id = %live.id, "ComfyUI was lost; the job waits to be sent to it again");
    None
}

/// Waits for its turn to be sent again, and reads what it was.
async fn read_again(
    inner: &Arc<Inner>,
    live: &Arc<LiveJob>,
    secrets: Option<&Secrets>,
    expiry: Option<Instant>,
) -> Result<PromptRequest, Attempt> {
    // A fleet may have it, and them.
    let here = !inner.service.is_elsewhere(&live.id);
    let secrets_lost = secrets.is_none() && live.record.needs_secrets && here;
    let lost = || {
        Attempt::Ended(End::failed(
            "worker_lost",
            "the server was restarted, and the job had extra_data or credentials, which are not stored: submit it again".into(),
        ))
    };
    if secrets_lost && !inner.service.goes_on(&live.id) {
        return Err(lost());
    }
    tokio::select! {
        ready = recover::turn(inner, live) => if !ready { return Err(Attempt::Left) },
        () = cancelled(live) => return Err(Attempt::Ended(End::cancelled())),
        () = at(expiry) => return Err(Attempt::Ended(End::expired())),
    }
    // Nothing needs them in a run that ComfyUI has.
    if secrets_lost && !inner.service.is_still_there(&live.id).await {
        return Err(lost());
    }
    let body = async {
        let (stored, _) = inner.store.job_request(&live.id).await?;
        request::unpack(&stored, &inner.store).await
    };
    let parsed = body
        .await
        .map_err(|error| {
            Failure::new(
                Code::Internal,
                format!("the job's record cannot be read: {error}"),
            )
        })
        .and_then(PromptRequest::parse);
    let mut request =
        parsed.map_err(|failure| Attempt::Ended(ending::of_failure(&failure, false)))?;
    if live.is_job() {
        request.id_is_callers = false;
        request.echo.insert("job_id".into(), live.id.clone().into());
    }
    if let Some((extra_data, credentials, sent)) = secrets {
        request.extra_data.clone_from(extra_data);
        request.credentials = credentials.clone();
        request.passed_on.credentials.clone_from(sent);
    }
    Ok(request)
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Resolves at that time, if the job still waits then.
async fn while_queued(live: &LiveJob, expiry: Option<Instant>) {
    at(expiry).await;
    if live.status() != JobStatus::Queued {
        std::future::pending::<()>().await;
    }
}

async fn cancelled(live: &LiveJob) {
    let mut changes = live.changes();
    while !super::lock(&live.state).cancelled {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// One run through the pipeline.
async fn one(
    inner: &Arc<Inner>,
    live: &Arc<LiveJob>,
    request: PromptRequest,
    verdict: &mut Option<Verdict>,
    expiry: Option<Instant>,
) -> Attempt {
    let webhooks = request.webhooks.clone();
    let attempts = super::lock(&live.state).attempts;
    let submission = Submission {
        policy: Policy {
            tried_again: attempts < inner.rules.max_attempts,
            given_back: true,
            waits_for_verdict: verdict.is_some(),
            runs: u32::try_from(inner.rules.max_attempts - attempts + 1).ok(),
            ..Policy::default()
        },
        listener: Some(listener(inner, live)),
        keep: Some(Arc::new(keep(inner, live))),
        workflow: live.record.workflow.as_deref().map(Into::into),
        ..Submission::new(live.source)
    };
    let mut handle = match inner.service.begin(request, submission) {
        Ok(handle) => handle,
        Err(failure) => return begun_badly(live, failure, verdict),
    };
    let was_cancelled = live.change(|state| {
        state.job = Some(handle.job.clone());
        state.in_comfy = false;
        state.cancelled
    });
    if was_cancelled {
        inner.service.interrupt(&live.id);
    }
    let taken = tokio::select! {
        taken = handle.accepted() => taken,
        () = while_queued(live, expiry) => {
            inner.service.interrupt(&live.id);
            let _ = handle.accepted().await;
            return Attempt::Ended(End::expired());
        }
    };
    inner.again.sent(live.record.seq);
    let accepted = taken.is_ok();
    let result = match taken {
        Ok(graph) => {
            if !live.is_job() {
                live.change(|state| state.graph = Some(graph));
            }
            if let Some(verdict) = verdict.take() {
                let _ = verdict.send(None);
            }
            tokio::select! {
                result = handle.done() => result,
                () = while_queued(live, expiry) => {
                    inner.service.interrupt(&live.id);
                    let _ = handle.done().await;
                    return Attempt::Ended(End::expired());
                }
            }
        }
        Err(failure) => Err(failure),
    };
    judge(inner, live, result, accepted, &webhooks, verdict).await
}

fn begun_badly(live: &LiveJob, failure: Failure, verdict: &mut Option<Verdict>) -> Attempt {
    if let Some(tell) = verdict.take()
        && refuse(live, failure.clone(), tell)
    {
        return Attempt::Ended(End::revoked());
    }
    if left_for_later(&failure) {
        return Attempt::Left;
    }
    Attempt::Again { counts: false }
}

/// Tells the submitter that there is no job, unless it was told that there is one. `true`: it never was a job.
fn refuse(live: &LiveJob, failure: Failure, tell: Verdict) -> bool {
    let state = super::lock(&live.state);
    if state.answered {
        return false;
    }
    // A submitter that has left has no job either.
    let _ = tell.send(Some(failure));
    true
}

async fn judge(
    inner: &Arc<Inner>,
    live: &LiveJob,
    result: Result<Document, Failure>,
    accepted: bool,
    webhooks: &[crate::job::request::WebhookRequest],
    verdict: &mut Option<Verdict>,
) -> Attempt {
    let failure = match result {
        Ok(document) => {
            super::result::keep(inner, live, &document).await;
            // The files of the result are in the store; ComfyUI's own may go.
            drop(document);
            return Attempt::Ended(End::succeeded());
        }
        Err(failure) => failure,
    };
    if left_for_later(&failure) {
        return Attempt::Left;
    }
    // Nobody has taken it: there is no job.
    if !accepted
        && failure.attempts == Some(0)
        && let Some(tell) = verdict.take()
        && refuse(live, failure.clone(), tell)
    {
        return Attempt::Ended(End::revoked());
    }
    // A fleet has tried it often enough.
    let for_good = !failure.transient;
    if failure.code == Code::ComfyuiUnavailable && !for_good {
        let down = matches!(inner.health.now().comfy, ComfyState::Down(_));
        let (ran, queued) = {
            let state = super::lock(&live.state);
            (
                state.status != JobStatus::Queued,
                accepted && state.in_comfy,
            )
        };
        // Waiting in a queue that died with ComfyUI is no attempt; being thrown out of one that lives is.
        // One that dies before it has answered may have died of the job.
        let died = !queued && died(&failure);
        return Attempt::Again {
            counts: ran || (queued && !down) || died,
        };
    }
    if !accepted && failure.code != Code::ExecutionInterrupted {
        // One that ComfyUI died of, as often as it may, is a job that has failed.
        let lost = failure.code == Code::ComfyuiUnavailable;
        if let Some(tell) = verdict.take() {
            if lost {
                let _ = tell.send(None);
            } else if refuse(live, failure.clone(), tell) {
                return Attempt::Ended(End::revoked());
            }
        }
        for webhook in webhooks {
            tell_webhook(inner, live, webhook, &failure).await;
        }
    } else if failure.transient {
        // The pipeline has not told: it was said that another attempt follows.
        for webhook in webhooks {
            tell_webhook(inner, live, webhook, &failure).await;
        }
    }
    let cancelled = super::lock(&live.state).cancelled;
    Attempt::Ended(ending::of_failure(&failure, cancelled))
}

async fn tell_webhook(
    inner: &Inner,
    live: &LiveJob,
    webhook: &crate::job::request::WebhookRequest,
    failure: &Failure,
) {
    let stored = inner
        .store
        .job_request(&live.id)
        .await
        .map(|(request, _)| request)
        .unwrap_or_default();
    let mut body: Map<String, Value> = serde_json::from_str(&stored).unwrap_or_default();
    inner.service.given_up(
        &live.id,
        webhook,
        body.remove("prompt").unwrap_or_default(),
        failure,
    );
}

fn listener(inner: &Arc<Inner>, live: &Arc<LiveJob>) -> crate::job::Listener {
    let (inner, live) = (Arc::downgrade(inner), live.clone());
    Arc::new(move |event| {
        if let Some(inner) = inner.upgrade() {
            live.note(&inner, event);
        }
    })
}

fn keep(inner: &Arc<Inner>, live: &LiveJob) -> Keep {
    let (store, lives, base) = (
        inner.store.clone(),
        inner.rules.address_lives,
        live.record.base_url.clone(),
    );
    Keep {
        address: Box::new(move |asset| super::address(&store, lives, &base, asset).0),
        by_address: true,
        is_job: live.is_job(),
        created_at: u64::try_from(live.record.created_at).ok(),
    }
}

/// Records the end, then shows it.
async fn finish(inner: &Inner, live: &LiveJob, end: End) {
    inner.again.sent(live.record.seq);
    inner.service.forget_elsewhere(&live.id);
    inner.service.lets_go_of(&live.id);
    if end.revoked {
        // The submitter has been told; whoever asks meanwhile sees a job that is about to vanish.
        let _ = inner.store.revoke_job(&live.id).await;
        inner.forget(&live.id);
        live.change(|state| state.status = JobStatus::Failed);
        return;
    }
    let mut update = live.update();
    update.status = end.status;
    update.completed_at = Some(now_ms().max(update.started_at.unwrap_or(0)));
    update.error = end.error.as_ref().map(Value::to_string);
    let progress = {
        let state = super::lock(&live.state);
        state.progress.as_ref().map(|progress| {
            if end.status == JobStatus::Succeeded {
                progress.completed()
            } else {
                progress.clone()
            }
        })
    };
    update.progress = progress
        .as_ref()
        .map(|progress| super::live::shown_progress(progress).to_string());
    keep_logs(inner, live);
    if let Some(failure) = end.failure {
        super::result::keep_failure(inner, live, failure);
    }
    let completed_at = update.completed_at;
    let mut pause = Duration::from_millis(100);
    // An end that is not recorded is not shown: after a restart it would be another one.
    while !matches!(
        inner.store.update_job(&live.id, update.clone()).await,
        Ok(Ok(()))
    ) {
        warn!(id = %live.id, "the end of a job cannot be recorded; trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
    live.change(|state| {
        state.status = end.status;
        state.completed_at = completed_at;
        state.error = end.error;
        state.progress = progress;
        state.job = None;
        state.preview = None;
    });
    inner.forget(&live.id);
    metrics::job_ended(end.status.as_str());
    metrics::store_size(inner.store.used());
}

/// What ComfyUI printed meanwhile. Written before the end, which waits for it.
fn keep_logs(inner: &Inner, live: &LiveJob) {
    let Some((comfy, from)) = super::lock(&live.state).log_from else {
        return;
    };
    let output = &inner.comfy.instance(comfy).output;
    let (text, truncated) = output.since(from, LONGEST_LOG);
    if !text.is_empty() {
        inner.store.job_logs(&live.id, Logs { text, truncated });
    }
}

/// The process ends; the record says `queued`.
fn leave(inner: &Inner, live: &LiveJob) {
    inner.again.sent(live.record.seq);
    let mut update = live.update();
    update.status = JobStatus::Queued;
    update.started_at = None;
    drop(inner.store.update_job(&live.id, update));
    live.change(|state| {
        state.job = None;
        state.suspended = true;
    });
}
