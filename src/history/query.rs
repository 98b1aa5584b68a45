//! Which runs a list shows, and where its pages begin.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::item::RunView;
use crate::job::registry::Status;
use crate::store::JobStatus;

/// Where a page begins: after the run that began then (milliseconds since 1970) and has this id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When it began.
    pub at: i64,
    /// Its id.
    pub id: String,
}

impl Place {
    /// As clients see it.
    pub fn text(&self) -> String {
        format!("{}-{}", self.at, URL_SAFE_NO_PAD.encode(&self.id))
    }

    /// The place again.
    pub fn parse(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('-')?;
        let id = String::from_utf8(URL_SAFE_NO_PAD.decode(id).ok()?).ok()?;
        Some(Self {
            at: at.parse().ok()?,
            id,
        })
    }
}

/// Which runs a list shows.
#[derive(Debug, Clone, Default)]
pub struct HistoryQuery {
    /// Any of these; empty for all.
    pub statuses: Vec<Status>,
    /// Only this transport.
    pub source: Option<String>,
    /// Only this workflow endpoint: what follows `/workflow/`.
    pub workflow: Option<String>,
    /// Part of the id, the workflow, the request or the error; in lower case.
    pub text: Option<String>,
    /// Older than this one.
    pub before: Option<Place>,
    /// At most so many.
    pub limit: usize,
}

impl HistoryQuery {
    /// The states of records that may be meant, beside those that have not ended.
    pub(super) fn record_statuses(&self) -> Vec<JobStatus> {
        let mut statuses = Vec::new();
        for status in &self.statuses {
            match status {
                Status::Succeeded => statuses.push(JobStatus::Succeeded),
                Status::Failed => statuses.extend([JobStatus::Failed, JobStatus::Expired]),
                Status::Interrupted => statuses.push(JobStatus::Canceled),
                _ => statuses.push(JobStatus::Running),
            }
        }
        statuses
    }

    /// Whether it shows a run, but for its text and its place.
    pub(super) fn shows(&self, run: &RunView) -> bool {
        let snapshot = &run.snapshot;
        (self.statuses.is_empty() || self.statuses.contains(&snapshot.status))
            && self
                .source
                .as_ref()
                .is_none_or(|source| source == snapshot.source)
            && self
                .workflow
                .as_ref()
                .is_none_or(|workflow| Some(workflow.as_str()) == run.workflow.as_deref())
            && self
                .before
                .as_ref()
                .is_none_or(|before| run.place() < *before)
    }

    /// Whether the text is part of one of these.
    pub(super) fn finds<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        let Some(wanted) = &self.text else {
            return true;
        };
        // In JSON it is escaped.
        let escaped = serde_json::Value::from(wanted.as_str()).to_string();
        let escaped = escaped.trim_matches('"');
        texts.into_iter().any(|text| {
            let text = text.to_lowercase();
            text.contains(wanted.as_str()) || text.contains(escaped)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_again_whatever_the_id() {
        for id in ["a", "ä b/%-\"", ""] {
            let place = Place {
                at: 1_764_365_063_007,
                id: id.to_owned(),
            };
            assert_eq!(Place::parse(&place.text()), Some(place));
        }
        for bad in ["", "x", "1-!", "x-YQ", "1"] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn texts_are_found_whatever_the_case_also_within_json() {
        let query = |text: &str| HistoryQuery {
            text: Some(text.to_lowercase()),
            ..HistoryQuery::default()
        };
        let json = serde_json::json!({"text": "A \"red\" FÜCHSIN"}).to_string();
        for text in ["red", "RED", "füch", "a \"Red\""] {
            assert!(query(text).finds(["x", json.as_str()]), "{text}");
        }
        assert!(!query("blue").finds([json.as_str()]));
        assert!(HistoryQuery::default().finds([]));
    }
}
