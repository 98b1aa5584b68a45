//! One run through the pipeline.

use std::sync::Arc;

use tokio::time::Instant;

use super::verdict::{is_a_job, judge, refused};
use super::waiting::while_queued;
use super::{Attempt, Verdict};
use crate::durable::ending::End;
use crate::durable::live::LiveJob;
use crate::durable::{Inner, left_for_later};
use crate::error::Failure;
use crate::job::{Keep, Policy, PromptRequest, Submission};

/// One run through the pipeline.
pub(super) async fn one(
    inner: &Arc<Inner>,
    live: &Arc<LiveJob>,
    request: Box<PromptRequest>,
    verdict: &mut Option<Verdict>,
    expiry: Option<Instant>,
) -> Attempt {
    let webhooks = request.webhooks.clone();
    let attempts = live.state.lock().attempts;
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
            is_a_job(verdict);
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
    Box::pin(judge(inner, live, result, accepted, &webhooks, verdict)).await
}

fn begun_badly(live: &LiveJob, failure: Failure, verdict: &mut Option<Verdict>) -> Attempt {
    if let Some(tell) = refused(live, verdict) {
        return Attempt::Revoked(failure, tell);
    }
    if left_for_later(&failure) {
        return Attempt::Left;
    }
    Attempt::Again { counts: false }
}

fn listener(inner: &Arc<Inner>, live: &Arc<LiveJob>) -> crate::job::Listener {
    let (inner, live) = (Arc::downgrade(inner), live.clone());
    Arc::new(move |event| {
        if let Some(inner) = inner.upgrade() {
            live.note(&inner, event);
        }
    })
}

pub(super) fn keep(inner: &Arc<Inner>, live: &LiveJob) -> Keep {
    let (store, lives, base) = (
        inner.store.clone(),
        inner.rules.address_lives,
        live.record.base_url.clone(),
    );
    Keep {
        address: Box::new(move |asset| crate::durable::address(&store, lives, &base, asset).0),
        by_address: true,
        is_job: live.is_job(),
        created_at: u64::try_from(live.record.created_at).ok(),
    }
}
