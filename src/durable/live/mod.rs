//! A job in flight as clients see it: always the newest state, from memory.

mod news;
mod note;
mod view;

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use super::Inner;
use super::record::is_job;
use crate::comfy::message::Preview;
use crate::job::Source;
use crate::job::progress::GraphProgress;
use crate::job::registry::{Job, Status};
use crate::job::request::Graph;
use crate::store::{AssetRecord, JobRecord, JobStatus};

pub use news::{News, Shown};
pub use view::JobView;
pub(super) use view::shown_progress;

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

/// What a submitter is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing so far.
    Open,
    /// It is a job from now on, whatever comes.
    Job,
    /// It never was one.
    Refusal,
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
    /// What its submitter is told of it: whoever decides first, decides.
    pub answer: Answer,
    /// The process ends: streams end with the state as it is.
    pub suspended: bool,
    /// ComfyUI has had it in this attempt.
    pub in_comfy: bool,
    /// As ComfyUI has it or will have it, for whoever is answered with it.
    pub graph: Option<Graph>,
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
            answer: Answer::Open,
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
        self.state.lock().graph.clone()
    }

    /// When its record says that it was made, milliseconds since 1970.
    pub const fn created_at(&self) -> i64 {
        self.record.created_at
    }

    /// What it has made so far.
    pub fn outputs(&self) -> Vec<AssetRecord> {
        self.state.lock().outputs.clone()
    }

    /// Its status now.
    pub fn status(&self) -> JobStatus {
        self.state.lock().status
    }

    /// Wakes whenever anything has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let result = {
            let mut state = self.state.lock();
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
                let state = self.state.lock();
                if state.status.has_ended() || state.suspended {
                    return;
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Still before whoever is to run it has been asked.
    pub(super) fn is_preparing(&self) -> bool {
        self.state
            .lock()
            .job
            .as_ref()
            .is_none_or(|job| job.status() == Status::Preprocessing && !job.is_submitting())
    }

    /// Decides what the submitter is told, unless that is decided; `true`: it is this.
    pub(super) fn decide(&self, answer: Answer) -> bool {
        let mut state = self.state.lock();
        if state.answer == Answer::Open {
            state.answer = answer;
        }
        state.answer == answer
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
}
