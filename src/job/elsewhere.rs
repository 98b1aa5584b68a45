//! Where a job runs when there are several ComfyUI, and how it goes on when it loses the one that
//! it was in (fleet.md, section 1).

use std::time::Duration;

use serde_json::{Map, Number, Value};
use tokio::time::sleep;
use tracing::warn;

use super::event::JobEvent;
use super::request::SubmitFields;
use super::rounds::Rounds;
use crate::comfy::pool::{Place, Pool};
use crate::error::{Code, Failure, panicked};

/// Before the same ComfyUIs are tried again, when all have failed just now.
const PAUSE: Duration = Duration::from_millis(100);
/// How long each is asked for a file.
const LOOK: Duration = Duration::from_secs(5);
/// How a name of a temporary file ends.
const TEMPORARY: &str = " [temp]";

impl Rounds<'_> {
    /// The ComfyUI that it goes to now.
    ///
    /// # Errors
    /// The reason for stopping, when it is stopped meanwhile; 503 when there will be none.
    pub(super) async fn place(&mut self) -> Result<Place, Failure> {
        let (inner, job) = (self.pipeline.inner, self.pipeline.job);
        let place = match self.next.take() {
            Some(place) => place,
            None => {
                let all = inner.comfy.instances().len();
                if all > 1 && self.need.not.len() >= all {
                    self.need.not.clear();
                    sleep(PAUSE).await;
                }
                let in_flight = self.queued;
                tokio::select! {
                    place = inner.comfy.place(&self.need, in_flight) => place?,
                    () = job.cancel.cancelled() => return Err(job.stop_reason()),
                }
            }
        };
        job.goes_to(place.comfy.index(), place.comfy.label());
        let temp_dir = place.comfy.temp_dir();
        if let Some(keeping) = &job.keeping {
            keeping.runs_with(&temp_dir, &place.comfy.client);
        }
        self.claim.runs_with(temp_dir);
        Ok(place)
    }

    /// What is sent beside the graph. Several ComfyUI count for themselves, so that we count for
    /// them.
    pub(super) fn fields(&self, asked: &SubmitFields) -> SubmitFields {
        let mut fields = asked.clone();
        if self.pipeline.inner.comfy.several() && fields.number.is_none() {
            let number = i64::try_from(self.need.number).unwrap_or(i64::MAX);
            // As ComfyUI does it: before everything, the later the more so.
            let front = fields.front.take() == Some(true);
            fields.number = Some(Number::from(if front { -number } else { number }));
        }
        fields
    }

    /// Whether another ComfyUI is tried after one has not taken it: it does not answer, or it
    /// refuses what another had accepted.
    pub(super) fn goes_on_after(&mut self, place: &Place, failure: &Failure) -> bool {
        let most_runs = self.most_runs();
        let Self { pipeline, need, .. } = self;
        let all = pipeline.inner.comfy.instances().len();
        let again = match failure.code {
            Code::ComfyuiUnavailable => true,
            Code::InvalidPrompt => self.queued && need.not.len() + 1 < all,
            _ => false,
        };
        if all < 2 || !again || pipeline.job.cancel.is_cancelled() {
            return false;
        }
        if failure.comfyui_died {
            // It may have begun with it, and died of it.
            if self.runs >= most_runs {
                return false;
            }
            self.runs += 1;
        }
        warn!(
            id = %pipeline.job.id,
            instance = place.comfy.index(),
            reason = failure.message,
            "ComfyUI did not take a prompt; trying another"
        );
        need.not.insert(place.comfy.index());
        true
    }

    /// How often it may run, those runs included that are lost with their ComfyUI.
    fn most_runs(&self) -> u32 {
        let most = self.pipeline.inner.max_runs;
        self.pipeline.job.policy.runs.unwrap_or(most)
    }

    fn lost_too_often(&self) -> Failure {
        let mut failure = Failure::new(
            Code::ComfyuiUnavailable,
            format!(
                "ComfyUI was lost while it worked on the prompt, as often as V2_MAX_ATTEMPTS ({}) \
                 allows: it is not sent again",
                self.pipeline.inner.max_runs
            ),
        );
        (failure.transient, failure.retry_after) = (false, None);
        failure
    }

    /// What is said of a prompt that no ComfyUI has taken.
    pub(super) fn not_taken(&self, failure: Failure) -> Failure {
        let several = self.pipeline.inner.comfy.several();
        if several && failure.comfyui_died && self.runs >= self.most_runs() {
            return self.lost_too_often();
        }
        failure
    }

    /// Its ComfyUI was lost: it goes to another, if there are several, as often as it may.
    ///
    /// # Errors
    /// When that is its end.
    pub(super) async fn lost(&mut self, failure: Failure, counts: bool) -> Result<(), Failure> {
        let (inner, job) = (self.pipeline.inner, self.pipeline.job);
        let here_alone = !inner.comfy.several() || job.policy.only.is_some();
        if here_alone || failure.code != Code::ComfyuiUnavailable {
            return Err(failure);
        }
        if counts && self.runs >= self.most_runs() {
            return Err(self.lost_too_often());
        }
        self.runs += u32::from(counts);
        warn!(
            id = %job.id,
            instance = job.comfy(),
            reason = failure.message,
            "ComfyUI was lost; its prompt goes to another"
        );
        // Its temporary files go with it.
        self.need.only = job.policy.only;
        let claim = self.claim.clone();
        let sweeping = tokio::task::spawn_blocking(move || claim.sweep());
        sweeping
            .await
            .map_err(|_| panicked("removing what a lost run has left"))?;
        if let Some(keeping) = &job.keeping {
            keeping.withdraw();
        }
        job.tell(&JobEvent::Lost(counts));
        inner.jobs.waits_again(job);
        Ok(())
    }
}

/// The ComfyUI that has the temporary files which a graph names, if it names some.
pub(super) async fn holder_of_temporary(graph: &Map<String, Value>, pool: &Pool) -> Option<usize> {
    let mut names = Vec::new();
    for node in graph.values() {
        let inputs = node.get("inputs").and_then(Value::as_object);
        let texts = inputs
            .into_iter()
            .flatten()
            .filter_map(|(_, value)| value.as_str());
        names.extend(texts.filter_map(|text| text.strip_suffix(TEMPORARY)));
    }
    let name = names.first()?;
    let (subfolder, file) = name.rsplit_once('/').unwrap_or(("", name));
    for comfy in pool.instances() {
        let here = comfy.temp_dir().join(name);
        if tokio::fs::try_exists(&here).await.unwrap_or(false) {
            return Some(comfy.index());
        }
    }
    for comfy in pool.up() {
        let look = comfy.client.view("temp", subfolder, file);
        if matches!(tokio::time::timeout(LOOK, look).await, Ok(Ok(_))) {
            return Some(comfy.index());
        }
    }
    None
}
