//! What whoever runs the graph tells of it.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Told, VERDICT};
use crate::comfy::message::TextMessage;
use crate::events::{Source, SystemEvent};
use crate::job::event::JobEvent;
use crate::job::preprocess::last_part;
use crate::job::registry::{Job, Status};
use crate::job::request::Graph;
use crate::job::service::Inner;
use crate::job::stats::Timeline;
use crate::job::stream::Weight;
use crate::job::{deliver, execution, keep};

/// Makes of what is told what a run here would show.
pub(super) struct Listening<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) job: &'a Arc<Job>,
    /// As it was submitted.
    pub(super) shown: Graph,
    pub(super) accepted: Option<oneshot::Sender<Graph>>,
    /// When the submitter is told, if nothing was said before.
    pub(super) verdict: Option<Instant>,
    /// How far it is.
    pub(super) timeline: Timeline,
}

impl Listening<'_> {
    /// It is a job from now on.
    pub(super) fn accept(&mut self) {
        self.verdict = None;
        if let Some(accepted) = self.accepted.take() {
            let _ = accepted.send(self.shown.clone());
        }
    }

    pub(super) async fn hear(&mut self, told: Told) {
        let (inner, job) = (self.inner, self.job);
        match told {
            Told::Queue(queue, rank) => job.waits_in(queue, rank),
            Told::Published { idle } => {
                self.published().await;
                if job.policy.waits_for_verdict && idle {
                    self.verdict = Some(Instant::now() + VERDICT);
                } else {
                    self.accept();
                }
            }
            Told::Message(message) => self.message(&message),
            Told::Preview(preview) => {
                self.emit("binary_preview", || {
                    let image = crate::document::base64(&preview.image);
                    let data = json!({
                        "prompt_id": &*job.id,
                        "image_type": preview.image_type,
                        "image_data": image
                    });
                    json!({"type": "binary_preview", "data": data})
                });
                execution::show_preview(job, &preview);
            }
            Told::State(state) => match state.as_str() {
                "pending" => self.accept(),
                "running" => self.started(),
                "postprocessing" => drop(job.enter(Status::Postprocessing)),
                "uploading" => drop(job.enter(Status::Uploading)),
                _ => {}
            },
            Told::Stream(name, data) => self.streamed(&name, &data),
            Told::Output(file) => {
                if let Some(keeping) = &job.keeping {
                    let kept = keeping.results(std::slice::from_ref(&*file)).await;
                    if let Err(error) = kept {
                        tracing::warn!(id = %job.id, %error, "an output is not kept");
                    }
                }
            }
            Told::Withdrawn => {
                if let Some(keeping) = &job.keeping {
                    keeping.withdraw();
                }
            }
            Told::Requeued => {
                if let Some(keeping) = &job.keeping {
                    keeping.withdraw();
                }
                inner.jobs.requeued(job);
                self.timeline = Timeline::accepted(self.shown.clone());
                self.track();
            }
        }
    }

    /// An event that its streams get as it is.
    fn streamed(&self, name: &str, data: &Value) {
        if name == "file_download_progress" {
            self.downloading(data);
        }
        let weight = if name == "upload_progress" { 21 } else { 20 };
        self.job.streams.message(Weight::Newest(weight), || {
            json!({"type": name, "data": data}).to_string()
        });
    }

    async fn published(&self) {
        let (inner, job) = (self.inner, self.job);
        if let Some(keeping) = &job.keeping {
            // What nodes report is made elsewhere; its files come in another way.
            let nowhere = PathBuf::from("/nonexistent");
            let place = keep::Place {
                output_dir: nowhere.clone(),
                temp_dir: nowhere,
                results_differ: true,
                asked: None,
                guards: Vec::new(),
            };
            keeping.start(inner, job, place).await;
        }
        job.tell(&JobEvent::Accepted {
            comfy_id: job.id.to_string(),
            graph: self.shown.clone(),
        });
        self.track();
        inner.jobs.accepted(job);
        tracing::info!(
            id = %job.id,
            source = job.source.as_str(),
            nodes = self.shown.len(),
            "prompt queued"
        );
    }

    fn downloading(&self, data: &Value) {
        let url = data.get("url").and_then(Value::as_str);
        let percent = data.get("percent").and_then(Value::as_f64);
        self.job.tell(&JobEvent::Downloading {
            name: last_part(url.unwrap_or_default()),
            percent: percent.map(|percent| percent.clamp(0.0, 100.0) as u64),
        });
    }

    fn track(&self) {
        let catalogue = self.inner.comfy.catalogue();
        self.job
            .track(&self.shown, |class| catalogue.is_output(class));
    }

    fn started(&mut self) {
        if matches!(self.job.status(), Status::Preprocessing | Status::Pending) {
            self.inner.jobs.started(self.job);
        }
        self.accept();
    }

    fn emit(&self, name: &str, make: impl FnOnce() -> Value) {
        if self.inner.events.wanted(name) {
            self.inner.events.emit(SystemEvent {
                source: Source::Comfy,
                name: name.into(),
                data: Arc::new(make()),
                prompt: Some(deliver::prompt_ref(self.job)),
            });
        }
    }

    fn message(&mut self, message: &TextMessage) {
        let kind = message.kind.as_str();
        self.emit(kind, || {
            serde_json::from_str(&message.text_with_id(&self.job.id)).unwrap_or_default()
        });
        if matches!(kind, "execution_start" | "executing" | "progress") {
            self.started();
        }
        if matches!(
            kind,
            "execution_start" | "execution_cached" | "executing" | "progress"
        ) {
            let mut value = message.value();
            let data = value.get_mut("data").map(Value::take).unwrap_or_default();
            if let Some(progress) = self.timeline.message(kind, &data) {
                self.job.progress(progress);
            }
        }
        self.job.observe(message);
        self.job.streams.message(execution::weight(kind), || {
            message.text_with_id(&self.job.id)
        });
    }
}
