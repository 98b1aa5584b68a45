//! What happens in the pipeline, noted.

use super::LiveJob;
use crate::durable::Inner;
use crate::durable::record::outputs_text;
use crate::job::JobEvent;
use crate::job::registry::Status;
use crate::store::{JobStatus, now_ms};

impl LiveJob {
    /// What happens in the pipeline.
    pub(in crate::durable) fn note(&self, inner: &Inner, event: &JobEvent) {
        match event {
            JobEvent::State(status) => self.note_state(inner, *status),
            JobEvent::Ended(ended) => {
                // The rest of it was recorded before its end was.
                if let Some(outputs) = outputs_text(ended) {
                    inner.store.job_result(&self.id, outputs);
                }
            }
            JobEvent::Accepted { comfy_id, graph } => {
                self.state.lock().in_comfy = true;
                let graph = serde_json::to_string(&**graph).unwrap_or_default();
                inner.store.job_accepted(&self.id, comfy_id.clone(), graph);
            }
            JobEvent::Lost(counts) => {
                self.change(|state| {
                    if state.status == JobStatus::Running {
                        state.status = JobStatus::Queued;
                    }
                    state.started_at = None;
                    state.attempts += i64::from(*counts);
                });
                drop(inner.store.update_job(&self.id, self.update()));
            }
            JobEvent::Moved => self.change(|_| {}),
            JobEvent::Downloading { name, percent } => {
                let known = self.state.lock().download.clone();
                let now = Some((name.clone(), *percent));
                // Each piece that arrives says so; what is shown changes less often.
                if known != now {
                    self.change(|state| state.download = now);
                }
            }
            JobEvent::Progress(progress) => self.change(|state| {
                state.reused |= progress.reused;
                // An attempt after a lost one begins anew.
                let floor = state.progress.as_ref().map_or(0.0, |known| known.value);
                let mut progress = progress.clone();
                progress.value = progress.value.max(floor);
                state.progress = Some(progress);
            }),
            JobEvent::Preview(preview) => self.change(|state| {
                let number = state.preview.as_ref().map_or(0, |(number, _)| *number) + 1;
                state.preview = Some((number, preview.clone()));
            }),
            JobEvent::Output(asset) => self.change(|state| state.outputs.push(asset.clone())),
            JobEvent::Withdrawn => self.change(|state| state.outputs.clear()),
            JobEvent::Uploaded(urls) => {
                self.change(|state| {
                    for output in &mut state.outputs {
                        if let Some((_, url)) = urls.iter().find(|(id, _)| *id == output.id) {
                            output.remote_url = Some(url.clone());
                        }
                    }
                });
                inner.store.outputs_uploaded(urls.clone());
            }
        }
    }

    fn note_state(&self, inner: &Inner, status: Status) {
        if status != Status::Preprocessing {
            self.state.lock().download = None;
        }
        let running = matches!(
            status,
            Status::Running | Status::Postprocessing | Status::Uploading
        );
        let began = self.change(|state| {
            if !running || state.status != JobStatus::Queued {
                return false;
            }
            state.status = if state.cancelled {
                JobStatus::Canceling
            } else {
                JobStatus::Running
            };
            state.started_at = Some(now_ms());
            let job = state.job.as_ref();
            let comfy = inner.comfy.instance(job.map_or(0, |job| job.comfy()));
            state.log_from = Some((comfy.index(), comfy.output.place()));
            true
        });
        if began {
            drop(inner.store.update_job(&self.id, self.update()));
        }
    }
}
