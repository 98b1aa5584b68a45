//! One job from its record to its end, over as many attempts as it takes.

mod again;
mod attempt;
mod finish;
mod verdict;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use again::{again, read_again};
use attempt::one;
use finish::{finish, leave, revoke};
use tokio::sync::oneshot;
use tokio::time::Instant;
use verdict::is_a_job;

use super::Inner;
use super::ending::End;
use super::live::LiveJob;
use crate::error::Failure;
use crate::job::PromptRequest;
use crate::store::now_ms;
use crate::telemetry::trace;

/// The submitter, until it has been told.
pub(super) type Verdict = oneshot::Sender<Option<Failure>>;

/// What an attempt came to.
enum Attempt {
    /// It is over.
    Ended(End),
    /// It never was a job, which its submitter is to be told.
    Revoked(Failure, Verdict),
    /// ComfyUI was lost; again.
    Again { counts: bool },
    /// The next process takes it up.
    Left,
}

/// Runs a job in the background. Without a `request` it is read from its record first.
pub(super) fn start(
    inner: Arc<Inner>,
    live: Arc<LiveJob>,
    request: Option<Box<PromptRequest>>,
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
    mut request: Option<Box<PromptRequest>>,
    mut verdict: Option<Verdict>,
) {
    // They are not recorded, so they are kept here for another attempt.
    let secrets = request.as_ref().map(|request| {
        let passed_on = request.passed_on.as_deref();
        let sent = passed_on.and_then(|given| given.credentials.clone());
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
            None => match Box::pin(read_again(inner, live, secrets.as_ref(), expiry)).await {
                Ok(request) => one(inner, live, request, &mut verdict, expiry).await,
                Err(attempt) => attempt,
            },
        };
        match attempt {
            Attempt::Ended(end) => return Box::pin(finish(inner, live, end)).await,
            Attempt::Revoked(failure, tell) => {
                return Box::pin(revoke(inner, live, failure, tell)).await;
            }
            Attempt::Left => return leave(inner, live),
            Attempt::Again { counts } => {
                if let Some(end) = Box::pin(again(inner, live, counts)).await {
                    return Box::pin(finish(inner, live, end)).await;
                }
                // Somebody was promised an answer: it is a job by now.
                is_a_job(&mut verdict);
            }
        }
    }
}
