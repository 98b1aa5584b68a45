//! A job in flight as clients see it: always the newest state, from memory.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::record::{is_job, outputs_text};
use super::{Inner, lock};
use crate::comfy::message::Preview;
use crate::error::Failure;
use crate::job::progress::GraphProgress;
use crate::job::registry::{Job, Status};
use crate::job::request::Graph;
use crate::job::{JobEvent, Source};
use crate::store::jobs::JobUpdate;
use crate::store::{AssetRecord, JobRecord, JobStatus, now_ms};

/// A job that has not ended, or that has ended a moment ago.
#[derive(Debug)]
pub struct LiveJob {
    /// Its id.
    pub id: String,
    /// The transport it came through.
    pub source: Source,
    pub(super) record: JobRecord,
    pub(super) state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
pub(super) struct State {
    pub status: JobStatus,
    /// Every status so far, for streams.
    pub history: Vec<JobStatus>,
    pub started_at: Option<i64>,
    pub completed_at: Option<i64>,
    pub error: Option<Value>,
    pub progress: Option<GraphProgress>,
    pub preview: Option<(u64, Preview)>,
    pub outputs: Vec<AssetRecord>,
    pub reused: bool,
    /// What is being downloaded for it, and how much of that is here, percent.
    pub download: Option<(String, Option<u64>)>,
    pub attempts: i64,
    /// The ComfyUI that it began in, and where its output was then.
    pub log_from: Option<(usize, u64)>,
    /// The pipeline's own, while it has one.
    pub job: Option<Arc<Job>>,
    pub cancelled: bool,
    /// Its submitter has its answer: from now on it is a job whatever comes.
    pub answered: bool,
    /// The process ends: streams end with the state as it is.
    pub suspended: bool,
    /// ComfyUI has had it in this attempt.
    pub in_comfy: bool,
    /// As ComfyUI has it or will have it, for whoever is answered with it.
    pub graph: Option<Graph>,
}

/// What is known of a job at one moment.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the keys of v2.md")]
pub struct JobView {
    pub record: JobRecord,
    pub queue_position: Option<usize>,
    pub progress: Option<Value>,
    pub error: Option<Value>,
    pub outputs: Vec<AssetRecord>,
    pub download: Option<(String, Option<u64>)>,
}

impl JobView {
    /// Of a job that is only recorded.
    pub fn of_record(record: JobRecord, outputs: Vec<AssetRecord>) -> Self {
        let parse = |text: &Option<String>| {
            text.as_deref()
                .and_then(|text| serde_json::from_str(text).ok())
        };
        Self {
            queue_position: None,
            progress: parse(&record.progress),
            error: parse(&record.error),
            outputs,
            download: None,
            record,
        }
    }
}

/// What a stream has shown so far, to know what is new.
#[derive(Debug, Default)]
pub struct Shown {
    pub(super) statuses: usize,
    position: Option<usize>,
    outputs: std::collections::HashSet<String>,
    progress: Option<GraphProgress>,
    preview: u64,
}

/// What is new for a stream.
#[derive(Debug, Default)]
pub struct News {
    /// Not terminal ones.
    pub statuses: Vec<(JobStatus, Option<usize>)>,
    /// Outputs that were not shown yet.
    pub outputs: Vec<AssetRecord>,
    /// The newest snapshot, if it is another one.
    pub progress: Option<Value>,
    /// The newest picture, if it is another one.
    pub preview: Option<Preview>,
    /// It has ended like this.
    pub end: Option<JobStatus>,
    /// The process ends.
    pub suspended: bool,
}

impl LiveJob {
    pub(super) fn new(record: JobRecord, source: Source) -> Arc<Self> {
        let state = State {
            status: JobStatus::Queued,
            history: vec![JobStatus::Queued],
            started_at: None,
            completed_at: None,
            error: None,
            progress: None,
            preview: None,
            outputs: Vec::new(),
            reused: false,
            download: None,
            attempts: record.attempts.max(1),
            log_from: None,
            job: None,
            cancelled: false,
            answered: false,
            suspended: false,
            in_comfy: false,
            graph: None,
        };
        Arc::new(Self {
            id: record.id.clone(),
            source,
            record,
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
        })
    }

    /// Whether it is one of `/api/v2/jobs`.
    pub fn is_job(&self) -> bool {
        is_job(self.source.as_str())
    }

    /// The graph as ComfyUI has it; of runs that are no jobs only.
    pub(super) fn graph(&self) -> Option<Graph> {
        lock(&self.state).graph.clone()
    }

    /// When its record says that it was made, milliseconds since 1970.
    pub const fn created_at(&self) -> i64 {
        self.record.created_at
    }

    /// What it has made so far.
    pub fn outputs(&self) -> Vec<AssetRecord> {
        lock(&self.state).outputs.clone()
    }

    /// Its status now.
    pub fn status(&self) -> JobStatus {
        lock(&self.state).status
    }

    /// Wakes whenever anything has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let result = {
            let mut state = lock(&self.state);
            let before = state.status;
            let result = work(&mut state);
            if state.status != before {
                let status = state.status;
                state.history.push(status);
            }
            result
        };
        self.changed.send_modify(|version| *version += 1);
        result
    }

    /// Resolves when it has ended, or when this process ends.
    pub async fn ended(&self) {
        let mut changes = self.changes();
        loop {
            {
                let state = lock(&self.state);
                if state.status.has_ended() || state.suspended {
                    return;
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Still before ComfyUI has been asked.
    pub(super) fn is_preparing(&self, _: &Inner) -> bool {
        lock(&self.state)
            .job
            .as_ref()
            .is_none_or(|job| job.status() == Status::Preprocessing && !job.is_submitting())
    }

    /// The submitter is told that it is a job, unless the verdict came in this very moment.
    pub(super) fn answered(
        &self,
        verdict: &mut oneshot::Receiver<Option<Failure>>,
    ) -> Option<Failure> {
        let mut state = lock(&self.state);
        if let Ok(told) = verdict.try_recv() {
            return told;
        }
        state.answered = true;
        None
    }

    /// What happens in the pipeline.
    pub(super) fn note(&self, inner: &Inner, event: &JobEvent) {
        match event {
            JobEvent::State(status) => {
                if *status != Status::Preprocessing {
                    lock(&self.state).download = None;
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
            JobEvent::Ended(ended) => {
                // The rest of it was recorded before its end was.
                if let Some(outputs) = outputs_text(ended) {
                    inner.store.job_result(&self.id, outputs);
                }
            }
            JobEvent::Accepted { comfy_id, graph } => {
                lock(&self.state).in_comfy = true;
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
                let known = lock(&self.state).download.clone();
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

    /// Asks it to end.
    pub(super) fn cancel(&self, inner: &Inner) {
        let in_flight = self.change(|state| {
            if state.status.has_ended() {
                return false;
            }
            state.cancelled = true;
            if state.status == JobStatus::Running {
                state.status = JobStatus::Canceling;
            }
            state.job.is_some()
        });
        if in_flight {
            inner.service.interrupt(&self.id);
        }
    }

    /// What is recorded of it.
    pub(super) fn update(&self) -> JobUpdate {
        let state = lock(&self.state);
        JobUpdate {
            status: state.status,
            started_at: state.started_at,
            completed_at: state.completed_at,
            error: state.error.as_ref().map(Value::to_string),
            attempts: state.attempts,
            outputs_reused: state.reused,
            outputs_count: i64::try_from(state.outputs.len()).unwrap_or(i64::MAX),
            progress: state
                .progress
                .as_ref()
                .map(|progress| shown_progress(progress).to_string()),
        }
    }

    pub(super) fn view(&self, inner: &Inner) -> JobView {
        let queue_position = self.position(inner);
        let state = lock(&self.state);
        let now = now_ms();
        let record = JobRecord {
            status: state.status,
            started_at: state.started_at.map(|at| at.min(now)),
            completed_at: state.completed_at,
            attempts: state.attempts,
            outputs_reused: state.reused,
            outputs_count: i64::try_from(state.outputs.len()).unwrap_or(i64::MAX),
            expires_at: state.completed_at.unwrap_or(self.record.created_at)
                + (self.record.expires_at - self.record.created_at),
            ..self.record.clone()
        };
        let queued = state.status == JobStatus::Queued;
        JobView {
            record,
            queue_position: queue_position.filter(|_| queued),
            progress: state
                .progress
                .as_ref()
                .filter(|_| !queued)
                .map(shown_progress),
            error: state.error.clone(),
            outputs: state.outputs.clone(),
            download: state.download.clone().filter(|_| queued),
        }
    }

    fn position(&self, inner: &Inner) -> Option<usize> {
        let (status, job) = {
            let state = lock(&self.state);
            (state.status, state.job.clone())
        };
        if status != JobStatus::Queued {
            return None;
        }
        let behind = || inner.again.place(self.record.seq);
        Some(
            job.and_then(|job| inner.service.place(&job))
                .unwrap_or_else(behind),
        )
    }

    /// What a stream has not shown yet. `all` includes progress and previews, which are shown twice a second at most.
    pub(super) fn news(&self, inner: &Inner, shown: &mut Shown, all: bool) -> News {
        let position = self.position(inner);
        let state = lock(&self.state);
        let mut news = News {
            suspended: state.suspended,
            ..News::default()
        };
        let ended = state.status.has_ended();
        if shown.statuses == 0 {
            // The present one; what was before is history.
            shown.statuses = state.history.len();
            if !ended {
                news.statuses.push((state.status, position));
            }
        } else {
            for status in state.history.get(shown.statuses..).unwrap_or_default() {
                if !status.has_ended() {
                    news.statuses
                        .push((*status, position.filter(|_| *status == JobStatus::Queued)));
                }
            }
            shown.statuses = state.history.len();
            if news.statuses.is_empty() && position.is_some() && position != shown.position {
                news.statuses.push((state.status, position));
            }
        }
        shown.position = position;
        for output in &state.outputs {
            if shown.outputs.insert(output.id.clone()) {
                news.outputs.push(output.clone());
            }
        }
        if (all || ended) && state.progress != shown.progress && state.status != JobStatus::Queued {
            shown.progress = state.progress.clone();
            news.progress = state.progress.as_ref().map(shown_progress);
        }
        if all
            && !ended
            && let Some((number, preview)) = &state.preview
            && *number > shown.preview
        {
            shown.preview = *number;
            news.preview = Some(preview.clone());
        }
        news.end = ended.then_some(state.status);
        news
    }
}

impl super::DurableJobs {
    /// What a stream has not shown yet.
    pub fn news(&self, live: &LiveJob, shown: &mut Shown, all: bool) -> News {
        live.news(&self.inner, shown, all)
    }
}

/// A snapshot as clients see it.
pub(super) fn shown_progress(progress: &GraphProgress) -> Value {
    json!({
        "value": progress.value,
        "nodes_done": progress.nodes_done,
        "nodes_total": progress.nodes_total,
        "current_node": progress.current_node,
        "current_node_class": progress.current_class,
        "step": progress.step,
        "steps": progress.steps,
        "message": progress.message(),
    })
}
