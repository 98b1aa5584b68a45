//! What a failed run means for the task: an answer, or another attempt.

use bytes::Bytes;

use super::Worker;
use crate::error::{Code, Failure};
use crate::transport::amqp::attempts::Past;
use crate::transport::amqp::custody::Blame;
use crate::transport::amqp::memory::Answer;
use crate::transport::amqp::{TaskOutcome, task};

/// What becomes of a task at its end.
pub(super) enum Verdict {
    Publish(Answer),
    /// As it came.
    Return,
    /// As a new message that tells this.
    Replace(Past),
}

impl Worker {
    pub(super) async fn judge(
        &self,
        id: &str,
        past: Past,
        outcome: TaskOutcome,
        bytes: &Bytes,
    ) -> Verdict {
        let answers = &self.parts.answers;
        let failure = match outcome {
            TaskOutcome::Success(document) => {
                let largest = self.parts.outbox.largest();
                match answers.success(id, &document, largest).await {
                    Ok(answer) => return Verdict::Publish(answer),
                    Err(failure) => failure,
                }
            }
            TaskOutcome::Failed(failure) => failure,
        };
        if !failure.transient {
            return Verdict::Publish(answers.failure(id, &failure));
        }
        // Shutting down is no attempt of the task's: it goes back, however often it was tried.
        if failure.code == Code::ShuttingDown {
            return Verdict::Return;
        }
        let attempt = past.attempts + 1;
        match self.blame(id, &failure).await {
            Blame::Innocent => {
                tracing::info!(id, reason = %failure, "task goes back into the queue as it came");
                return Verdict::Return;
            }
            Blame::Suspect => {
                tracing::warn!(
                    id,
                    reason = %failure,
                    "task goes back into the queue and runs alone next: ComfyUI died with several, \
                     and one of them may be the reason"
                );
                return Verdict::Replace(Past {
                    suspect: true,
                    ..past
                });
            }
            Blame::Charged
                if attempt < failure.attempts.unwrap_or(u32::MAX).min(self.max_attempts) =>
            {
                tracing::warn!(id, attempt, reason = %failure, "task goes back into the queue");
                return Verdict::Replace(Past {
                    attempts: attempt,
                    suspect: false,
                    ..past
                });
            }
            Blame::Charged => {}
        }
        tracing::error!(id, attempt, reason = %failure, "task is given up (AMQP_MAX_ATTEMPTS)");
        self.parts
            .runner
            .given_up(id, task::body_of(bytes), &failure)
            .await;
        Verdict::Publish(answers.failure(id, &failure))
    }

    async fn blame(&self, id: &str, failure: &Failure) -> Blame {
        if failure.code != Code::ComfyuiUnavailable {
            // While we end, nothing is to be held against it.
            return if self.give_back.is_cancelled() {
                Blame::Innocent
            } else {
                Blame::Charged
            };
        }
        let runner = &self.parts.runner;
        if runner.comfyui_was_restarted() {
            return Blame::Innocent;
        }
        let blame = self
            .custody
            .blame(id, || runner.other_prompt_was_executing())
            .await;
        // Without a death it is this task's own failure.
        if runner.comfyui_has_died() {
            blame
        } else {
            Blame::Charged
        }
    }
}
