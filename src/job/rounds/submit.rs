//! A ComfyUI is chosen, and given the graph.

use std::sync::Arc;

use serde_json::Map;
use tracing::info;

use super::Rounds;
use crate::comfy::Comfy;
use crate::comfy::pool::Place;
use crate::comfy::watch::Watcher;
use crate::error::{Code, Failure};
use crate::events::PromptRef;
use crate::file_threads;
use crate::job::event::JobEvent;
use crate::job::execution::Queued;
use crate::job::pipeline::Pipeline;
use crate::job::preprocess::names;
use crate::job::{execution, going_on};

impl Rounds<'_> {
    /// A run of the graph that is in ComfyUI: one that is there since before this process began,
    /// else a new one.
    pub(super) async fn submit(&mut self) -> Result<(Box<Queued>, Arc<Place>), Failure> {
        let Pipeline { inner, job, .. } = self.pipeline;
        self.guard.arm(true);
        let (queued, place) = match self.watched_on().await? {
            Some(queued) => queued,
            None => self.submit_anew().await?,
        };
        let queued = Box::new(queued);
        place.accepted();
        job.tell(&JobEvent::Accepted {
            comfy_id: queued.comfy_id().to_owned(),
            graph: self.graph.clone(),
        });
        let catalogue = inner.comfy.catalogue();
        job.track(&self.graph, |class| catalogue.is_output(class));
        inner.jobs.accepted(job);
        if !std::mem::replace(&mut self.queued, true) {
            info!(
                id = %job.id,
                comfyui_id = %queued.comfy_id(),
                instance = place.comfy.label(),
                source = job.source.as_str(),
                nodes = self.graph.len(),
                "prompt queued"
            );
        }
        Ok((queued, place))
    }

    /// The run that an earlier process has left in ComfyUI, if it is still there or has ended
    /// there.
    async fn watched_on(&mut self) -> Result<Option<(Queued, Arc<Place>)>, Failure> {
        let Pipeline { inner, job, .. } = self.pipeline;
        let Some(going_on) = self.going_on.take() else {
            return Ok(None);
        };
        let found = match going_on::still_there(&inner.comfy, &going_on).await {
            Ok(found) => found,
            Err(error) => {
                inner.put_back_going_on(*going_on);
                return Err(error.into());
            }
        };
        let run = found.as_ref().map(|(_, run)| run.as_str());
        let old = going_on::take_over(&inner.cleaner, *going_on, &self.pipeline.entry, run);
        self.old_folders = Some(old.await);
        let Some((comfy, run)) = found else {
            // What it has written is of no use to the run that comes.
            let claim = self.claim.clone();
            let _ = file_threads::spawn(move || claim.sweep()).await;
            return Ok(None);
        };
        info!(
            id = %job.id,
            comfyui_id = run,
            instance = comfy.label(),
            "prompt is still in ComfyUI; it is watched on"
        );
        let elsewhere = self.need.only.replace(comfy.index());
        let place = Arc::new(self.place().await?);
        self.need.only = elsewhere;
        let watcher = self.adopt(&comfy, run);
        let held = Arc::new((self.guard.clone(), place.clone()));
        Ok(Some((Queued::adopted(watcher, held), place)))
    }

    /// Watches a run that we have not submitted.
    pub(super) fn adopt(&self, comfy: &Comfy, run: String) -> Watcher {
        let job = self.pipeline.job;
        let prompt = PromptRef {
            id: job.id.clone(),
            published: job.policy.published,
            context: job.trace.context().cloned(),
        };
        comfy.watch.adopt(run, prompt, job.streams.read.clone())
    }

    async fn submit_anew(&mut self) -> Result<(Queued, Arc<Place>), Failure> {
        let Pipeline {
            job,
            request,
            extra_data,
            entry,
            ..
        } = self.pipeline;
        let marked = self.anew.as_ref().map(|beside| {
            let mut marked = Map::clone(&self.graph);
            names::make_unique(&mut marked, beside);
            marked
        });
        job.reached.submitted.cancel();
        let fields = self.fields(&request.submit);
        loop {
            let place = Arc::new(self.place().await?);
            let submitting = execution::submit(
                &place.comfy,
                job,
                marked.as_ref().unwrap_or(&self.graph),
                extra_data.as_ref(),
                &fields,
                entry,
                Arc::new((self.guard.clone(), place.clone())),
            );
            match submitting.await {
                Ok(queued) => {
                    self.need.not.clear();
                    return Ok((queued, place));
                }
                Err(failure) if self.sees_more(&place.comfy, &failure).await => {}
                Err(failure) if self.goes_on_after(&place, &failure) => {}
                Err(failure) => {
                    self.guard.arm(failure.code != Code::InvalidPrompt);
                    return Err(self.not_taken(failure));
                }
            }
        }
    }
}
