//! What came of an attempt, and who is told.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Attempt, Verdict};
use crate::document::Document;
use crate::durable::ending::End;
use crate::durable::live::{Answer, LiveJob};
use crate::durable::{Inner, ending, left_for_later};
use crate::error::{Code, Failure};
use crate::health::ComfyState;
use crate::store::JobStatus;

/// Tells whoever has submitted it that it is a job, unless that was told something before.
pub(super) fn is_a_job(verdict: &mut Option<Verdict>) {
    if let Some(tell) = verdict.take() {
        let _ = tell.send(None);
    }
}

/// Whom to tell that there is no job: `None` when it was told that there is one.
pub(super) fn refused(live: &LiveJob, verdict: &mut Option<Verdict>) -> Option<Verdict> {
    verdict.take().filter(|_| live.decide(Answer::Refusal))
}

pub(super) async fn judge(
    inner: &Arc<Inner>,
    live: &LiveJob,
    result: Result<Document, Failure>,
    accepted: bool,
    webhooks: &[crate::job::request::WebhookRequest],
    verdict: &mut Option<Verdict>,
) -> Attempt {
    let failure = match result {
        Ok(document) => {
            crate::durable::result::keep(inner, live, &document).await;
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
        && let Some(tell) = refused(live, verdict)
    {
        return Attempt::Revoked(failure, tell);
    }
    // A fleet has tried it often enough.
    let for_good = !failure.transient;
    if failure.code == Code::ComfyuiUnavailable && !for_good {
        let down = matches!(inner.health.now().comfy, ComfyState::Down(_));
        let (ran, queued) = {
            let state = live.state.lock();
            (
                state.status != JobStatus::Queued,
                accepted && state.in_comfy,
            )
        };
        // Waiting in a queue that died with ComfyUI is no attempt; being thrown out of one that
        // lives is. One that dies before it has answered may have died of the job.
        let died = !queued && failure.comfyui_died;
        return Attempt::Again {
            counts: ran || (queued && !down) || died,
        };
    }
    if !accepted && failure.code != Code::ExecutionInterrupted {
        // One that ComfyUI died of, as often as it may, is a job that has failed.
        if failure.code == Code::ComfyuiUnavailable {
            is_a_job(verdict);
        } else if let Some(tell) = refused(live, verdict) {
            return Attempt::Revoked(failure, tell);
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
    let cancelled = live.state.lock().cancelled;
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
