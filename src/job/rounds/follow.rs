//! A run is followed to its end, and to another where its ComfyUI was lost.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Parts, Round, Rounds};
use crate::comfy::Comfy;
use crate::comfy::pool::Place;
use crate::error::{Code, Failure, panicked};
use crate::job::cleanup::Record;
use crate::job::continuation::Family;
use crate::job::execution::{Execution, Followed, Queued};
use crate::job::outputs::{Collected, ReceivedImages, RunFacts};
use crate::job::pipeline::Pipeline;
use crate::job::stats::Timeline;
use crate::job::{continuation, execution, outputs};

/// What one run came to.
pub(super) enum Ran {
    Through(Box<Round>),
    /// Once more, in another ComfyUI.
    Elsewhere,
}

impl Rounds<'_> {
    /// Whether ComfyUI has refused the graph for a model that we have placed, and sees it now
    /// (A54). Asked once.
    pub(super) async fn sees_more(&mut self, comfy: &Comfy, failure: &Failure) -> bool {
        let models = std::mem::take(&mut self.models);
        match &failure.node_errors {
            Some(errors) if failure.code == Code::InvalidPrompt => {
                models.shown_again(comfy, errors).await
            }
            _ => false,
        }
    }

    /// Follows a run to its end, through all its parts, and collects what they have made.
    pub(super) async fn follow(
        &mut self,
        queued: Queued,
        place: Arc<Place>,
    ) -> Result<Ran, Failure> {
        let comfy = place.comfy.clone();
        let mut timeline = Timeline::accepted(self.graph.clone());
        timeline.in_instance(comfy.label());
        match self.waits_since {
            Some(since) => timeline.waits_since(since),
            None => self.waits_since = Some(timeline.accepted_at()),
        }
        let followed = self.follow_parts(queued, place, &mut timeline).await;
        let trace = &self.pipeline.job.trace;
        if trace.is_recorded() {
            trace.ran(timeline.began(), timeline.node_runs());
        }
        Ok(match followed? {
            Some((made, received, warnings)) => Ran::Through(Box::new(Round {
                made,
                received,
                timeline,
                warnings,
                comfy,
            })),
            None => Ran::Elsewhere,
        })
    }

    /// `None`: once more, in another ComfyUI.
    #[expect(clippy::too_many_lines, reason = "one loop over the parts of a run")]
    async fn follow_parts(
        &mut self,
        mut queued: Queued,
        place: Arc<Place>,
        timeline: &mut Timeline,
    ) -> Result<Option<Parts>, Failure> {
        let Pipeline {
            inner, job, entry, ..
        } = self.pipeline;
        let comfy = place.comfy.clone();
        let mut received = ReceivedImages::new(job.file_id.clone(), self.cleanup.clone());
        let mut made = Collected::default();
        let mut warnings = Vec::new();
        let mut family = Family {
            graph: self.graph.clone(),
            client_id: queued.client_id().to_owned(),
            parts: HashSet::new(),
        };
        loop {
            let comfy_id = queued.comfy_id().to_owned();
            family.parts.insert(comfy_id.clone());
            let followed =
                execution::follow(&place, &inner.jobs, job, queued, timeline, &mut received);
            let execution = match followed.await {
                Ok(Followed::Done(execution)) => execution,
                Ok(Followed::Moved) => {
                    self.next = place.over();
                    return Ok(None);
                }
                Ok(Followed::Lost { failure, counts }) => {
                    drop(place);
                    if let Err(failure) = self.lost(failure, counts).await {
                        self.give_up(&comfy, &failure, family);
                        return Err(failure);
                    }
                    return Ok(None);
                }
                Err(failure) => {
                    self.give_up(&comfy, &failure, family);
                    return Err(failure);
                }
            };
            inner.history_cleanup[comfy.index()].forget(comfy_id);
            let Execution {
                outputs,
                failure,
                warnings: of_part,
            } = execution;
            warnings.extend(of_part);
            if let Some(keeping) = &job.keeping {
                keeping.caught_up(&outputs).await;
            }
            let goes_on = failure.is_none() && continuation::announced(&outputs);
            let facts = RunFacts {
                graph: self.graph.clone(),
                claim: self.claim.clone(),
                cached: timeline.cached().clone(),
                alone: self.alone,
                has_files: received.any() || !made.files.is_empty(),
                goes_on,
            };
            let cleanup = self.cleanup.clone();
            let collecting =
                tokio::task::spawn_blocking(move || outputs::collect(&outputs, &facts, &cleanup));
            let collected = collecting.await;
            made.add(
                collected.map_err(|_| panicked(&format!("collecting for prompt {}", job.id)))?,
            );
            if let Some(failure) = failure {
                self.give_up(&comfy, &failure, family);
                return Err(failure);
            }
            if !goes_on {
                break;
            }
            timeline.goes_on();
            let next = continuation::next(&comfy, job, &family).await;
            let next = next.inspect_err(|failure| self.give_up(&comfy, failure, family.clone()))?;
            entry.note_later(Record::Run { id: next.clone() }).await;
            let held = Arc::new((self.guard.clone(), place.clone()));
            queued = Queued::adopted(self.adopt(&comfy, next), self.graph, held);
        }
        Ok(Some((made, received.into_files()?, warnings)))
    }

    /// Nobody follows the parts any more that may come. Does not wait for it.
    fn give_up(&self, comfy: &Comfy, failure: &Failure, family: Family) {
        if failure.code == Code::ComfyuiUnavailable {
            return;
        }
        let (comfy, guard) = (comfy.clone(), self.guard.clone());
        self.pipeline.inner.tasks.spawn(async move {
            continuation::give_up(&comfy, family).await;
            drop(guard);
        });
    }
}
