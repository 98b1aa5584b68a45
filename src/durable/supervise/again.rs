//! Another attempt: whether there is one, and reading what the job was.

use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;
use tracing::info;

use super::Attempt;
use super::waiting::{at, cancelled};
use crate::durable::ending::End;
use crate::durable::live::LiveJob;
use crate::durable::{Inner, ending, recover, request};
use crate::error::{Code, Failure};
use crate::job::PromptRequest;
use crate::store::JobStatus;
use crate::telemetry::metrics;

/// Puts it back into the queue; `Some` when it was tried often enough.
pub(super) async fn again(inner: &Inner, live: &LiveJob, counts: bool) -> Option<End> {
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
                "ComfyUI was lost while it worked on the job, {attempts} times: V2_MAX_ATTEMPTS \
                 is {}",
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
pub(super) async fn read_again(
    inner: &Arc<Inner>,
    live: &Arc<LiveJob>,
    secrets: Option<&Secrets>,
    expiry: Option<Instant>,
) -> Result<Box<PromptRequest>, Attempt> {
    // A fleet may have it, and them.
    let here = !inner.service.is_elsewhere(&live.id);
    let secrets_lost = secrets.is_none() && live.record.needs_secrets && here;
    let lost = || {
        Attempt::Ended(End::failed(
            "worker_lost",
            "the server was restarted, and the job had extra_data or credentials, which are not \
             stored: submit it again"
                .into(),
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
        .and_then(|body| PromptRequest::parse(body).map(Box::new));
    let mut request =
        parsed.map_err(|failure| Attempt::Ended(ending::of_failure(&failure, false)))?;
    if live.is_job() {
        request.id_is_callers = false;
        request.echo.insert("job_id".into(), live.id.clone().into());
    }
    if let Some((extra_data, credentials, sent)) = secrets {
        request.extra_data.clone_from(extra_data);
        request.credentials = credentials.clone();
        if sent.is_some() {
            let passed_on = request.passed_on.get_or_insert_default();
            passed_on.credentials.clone_from(sent);
        }
    }
    Ok(request)
}

/// `extra_data`, and the credentials, also as they were sent.
type Secrets = (Option<Value>, crate::storage::Credentials, Option<Value>);
