//! A run is followed to its end, and to another where its ComfyUI was lost.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Round, Rounds};
use crate::comfy::Comfy;
use crate::comfy::pool::Place;
use crate::error::{Code, Failure, panicked};
use crate::file_threads;
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

/// What all parts of a run have made so far, and what they warn of.
struct Parts {
    made: Collected,
    received: ReceivedImages,
    warnings: Vec<String>,
    family: Family,
}

/// A part that was followed to its end.
struct Over {
    place: Arc<Place>,
    comfy_id: String,
    followed: Result<Followed, Failure>,
}

/// What comes after a part.
enum Next {
    /// ComfyUI goes on under another id.
    Part(Box<Queued>, Arc<Place>),
    Nothing,
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
        queued: Box<Queued>,
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
            Some(parts) => Ran::Through(Box::new(Round {
                made: parts.made,
                received: parts.received.into_files()?,
                timeline,
                warnings: parts.warnings,
                comfy,
            })),
            None => Ran::Elsewhere,
        })
    }

    /// `None`: once more, in another ComfyUI.
    async fn follow_parts(
        &mut self,
        mut queued: Box<Queued>,
        mut place: Arc<Place>,
        timeline: &mut Timeline,
    ) -> Result<Option<Parts>, Failure> {
        let Pipeline { inner, job, .. } = self.pipeline;
        let comfy = place.comfy.clone();
        let mut parts = Parts {
            made: Collected::default(),
            received: ReceivedImages::new(job.file_id.clone(), self.cleanup.clone()),
            warnings: Vec::new(),
            family: Family {
                graph: self.graph.clone(),
                client_id: queued.client_id().to_owned(),
                parts: HashSet::new(),
            },
        };
        loop {
            let comfy_id = queued.comfy_id().to_owned();
            parts.family.parts.insert(comfy_id.clone());
            let received = &mut parts.received;
            let followed =
                execution::follow(&place, &inner.jobs, job, queued, timeline, received).await;
            // What follows has its room only meanwhile: thousands may wait above.
            let over = Over {
                place,
                comfy_id,
                followed,
            };
            match Box::pin(self.part_over(over, timeline, &mut parts)).await {
                Ok(Next::Part(next, there)) => (queued, place) = (next, there),
                Ok(Next::Nothing) => return Ok(Some(parts)),
                Ok(Next::Elsewhere) => return Ok(None),
                Err(failure) => {
                    self.give_up(&comfy, &failure, parts.family);
                    return Err(failure);
                }
            }
        }
    }

    /// Collects what a part has made, and finds out what comes next.
    async fn part_over(
        &mut self,
        over: Over,
        timeline: &mut Timeline,
        parts: &mut Parts,
    ) -> Result<Next, Failure> {
        let Pipeline {
            inner, job, entry, ..
        } = self.pipeline;
        let place = over.place;
        let comfy = &place.comfy;
        let execution = match over.followed? {
            Followed::Done(execution) => execution,
            Followed::Moved => {
                self.next = place.over();
                return Ok(Next::Elsewhere);
            }
            Followed::Lost { failure, counts } => {
                drop(place);
                self.lost(failure, counts).await?;
                return Ok(Next::Elsewhere);
            }
        };
        inner.history_cleanup[comfy.index()].forget(over.comfy_id);
        let Execution {
            outputs,
            failure,
            warnings,
        } = execution;
        parts.warnings.extend(warnings);
        if let Some(keeping) = &job.keeping {
            keeping.caught_up(&outputs).await;
        }
        let goes_on = failure.is_none() && continuation::announced(&outputs);
        let facts = RunFacts {
            graph: self.graph.clone(),
            claim: self.claim.clone(),
            cached: timeline.cached().clone(),
            alone: self.alone,
            has_files: parts.received.any() || !parts.made.files.is_empty(),
            goes_on,
        };
        let cleanup = self.cleanup.clone();
        let collecting = file_threads::spawn(move || outputs::collect(&outputs, &facts, &cleanup));
        let collected = collecting.await;
        let collected =
            collected.map_err(|_| panicked(&format!("collecting for prompt {}", job.id)))?;
        parts.made.add(collected);
        if let Some(failure) = failure {
            return Err(failure);
        }
        if !goes_on {
            return Ok(Next::Nothing);
        }
        timeline.goes_on();
        let next = continuation::next(comfy, job, &parts.family).await?;
        entry.note_later(Record::Run { id: next.clone() }).await;
        let held = Arc::new((self.guard.clone(), place.clone()));
        let next = Queued::adopted(self.adopt(comfy, next), held);
        Ok(Next::Part(Box::new(next), place))
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
