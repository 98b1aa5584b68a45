//! What is new for a stream.

use serde_json::Value;

use super::LiveJob;
use super::view::shown_progress;
use crate::comfy::message::Preview;
use crate::durable::Inner;
use crate::job::progress::GraphProgress;
use crate::store::{AssetRecord, JobStatus};

/// What a stream has shown so far, to know what is new.
#[derive(Debug, Default)]
pub struct Shown {
    pub(in crate::durable) statuses: usize,
    pub(super) position: Option<usize>,
    pub(super) outputs: std::collections::HashSet<String>,
    pub(super) progress: Option<GraphProgress>,
    pub(super) preview: u64,
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
    /// What a stream has not shown yet. `all` includes progress and previews, which are shown twice
    /// a second at most.
    pub(in crate::durable) fn news(&self, inner: &Inner, shown: &mut Shown, all: bool) -> News {
        let position = self.position(inner);
        let state = self.state.lock();
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

impl crate::durable::DurableJobs {
    /// What a stream has not shown yet.
    pub fn news(&self, live: &LiveJob, shown: &mut Shown, all: bool) -> News {
        live.news(&self.inner, shown, all)
    }
}
