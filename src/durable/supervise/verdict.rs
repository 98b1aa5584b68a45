//! What came of an attempt, and who is told.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Attempt, Verdict};
use crate::document::Document;
use crate::durable::ending::End;
use crate::durable::live::LiveJob;
use crate::durable::{Inner, ending, left_for_later};
use crate::error::{Code, Failure};
use crate::health::ComfyState;
use crate::store::JobStatus;

/// Tells the submitter that there is no job, unless it was told that there is one. `true`: it never
/// was a job.
pub(super) fn refuse(live: &LiveJob, failure: Failure, tell: Verdict) -> bool {
    let state = live.state.lock();
    if state.answered {
        return false;
    }
    // A submitter that has left has no job either.
    let _ = tell.send(Some(failure));
    true
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
