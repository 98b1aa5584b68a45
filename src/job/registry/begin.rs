//! A job comes into the registry; its id is taken while it is there, and known for a while after.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::job::{Job, Reached, State};
use super::signals::Listeners;
use super::snapshot::{JobSnapshot, Status};
use super::{Inner, JobRegistry};
use crate::error::{Code, Failure};
use crate::job::keep::Keeping;
use crate::job::policy::Submission;
use crate::job::request::PromptRequest;
use crate::job::stream::Streams;
use crate::telemetry::logging::epoch_ms;
use crate::telemetry::trace::{JobTrace, PromptFacts};

/// How many callers' ids are remembered, to know one that comes again.
const RECENT_IDS: usize = 10_000;

fn at_the_beginning(id: &Arc<str>, source: &'static str) -> State {
    let entry = JobSnapshot {
        id: id.clone(),
        status: Status::Preprocessing,
        position: None,
        instance: None,
        source,
        created_at: epoch_ms(),
        started_at: None,
        finished_at: None,
        progress: None,
        error: None,
        code: None,
    };
    State {
        entry,
        accepted: None,
        lane: 0,
        comfy: 0,
        reason: None,
        later: None,
    }
}

fn conflict(message: String) -> Failure {
    Failure::new(Code::Conflict, message).at("id")
}

impl JobRegistry {
    /// Begins a job.
    ///
    /// # Errors
    /// 409 when the id is in flight already.
    pub fn begin(
        &self,
        request: &PromptRequest,
        submission: Submission,
    ) -> Result<Arc<Job>, Failure> {
        let job = self.begin_as(
            &request.id,
            &request.file_id,
            request.id_is_callers,
            submission,
        )?;
        job.witness(|witness| witness.begun(&job, request));
        Ok(job)
    }

    pub(super) fn begin_as(
        &self,
        id: &Arc<str>,
        file_id: &Arc<str>,
        id_is_callers: bool,
        submission: Submission,
    ) -> Result<Arc<Job>, Failure> {
        let state = at_the_beginning(id, submission.source.as_str());
        let mut inner = self.inner.lock();
        if inner.active.contains_key(id) {
            return Err(conflict(format!(
                "a prompt with the id \"{id}\" is in flight already: wait for it, or use another id"
            )));
        }
        // An id may be chosen so that it looks like what file names hold of another one.
        if !inner.file_ids.insert(file_id.clone()) {
            return Err(conflict(format!(
                "a prompt whose files have the same names as those of \"{id}\" is in flight: wait \
                 for it, or use another id"
            )));
        }
        inner.begun += 1;
        let listeners = Listeners::default();
        submission
            .listener
            .into_iter()
            .for_each(|listener| listeners.add(listener));
        let facts = PromptFacts {
            id,
            source: submission.source.as_str(),
            workflow: submission.workflow.as_deref(),
        };
        let trace = JobTrace::begin(submission.context.as_ref(), facts);
        let keeping = match (submission.keep, &submission.origin) {
            (Some(keep), _) => Some(Box::new(Keeping::new(keep))),
            (None, Some(origin)) if origin.wants_all() => {
                Some(Box::new(Keeping::for_origin(origin.clone())))
            }
            (None, _) => None,
        };
        let job = Job {
            id: id.clone(),
            file_id: file_id.clone(),
            source: submission.source,
            policy: submission.policy,
            tracker: Mutex::default(),
            keeping,
            origin: submission.origin,
            workflow: submission.workflow,
            witness: self.witness.clone(),
            listeners,
            submitting: std::sync::atomic::AtomicBool::default(),
            cancel: CancellationToken::new(),
            streams: Streams::default(),
            repeated: id_is_callers && inner.seen_before(id),
            number: inner.begun,
            reached: Reached::default(),
            signals: self.signals.clone(),
            trace,
            state: Mutex::new(state),
        };
        let job = Arc::new(job);
        inner.active.insert(id.clone(), job.clone());
        drop(inner);
        self.signals.moved();
        Ok(job)
    }

    /// Whether another job with that id has begun since.
    pub fn is_superseded(&self, id: &str, number: u64) -> bool {
        self.inner
            .lock()
            .last_of
            .get(&hash(id))
            .is_some_and(|last| *last > number)
    }
}

impl Inner {
    /// Whether a caller's id was used lately; remembers it.
    fn seen_before(&mut self, id: &str) -> bool {
        let hash = hash(id);
        if self.last_of.insert(hash, self.begun).is_some() {
            return true;
        }
        if self.recent.len() >= RECENT_IDS
            && let Some(oldest) = self.recent.pop_front()
        {
            self.last_of.remove(&oldest);
        }
        self.recent.push_back(hash);
        false
    }
}

fn hash(id: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
