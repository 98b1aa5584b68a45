//! What a job came to beside its files: texts, warnings, statistics, or the failure as HTTP says
//! it. Kept with its record.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::live::LiveJob;
use super::{DurableJobs, Inner};
use crate::document::Document;
use crate::limits::{is_large, off_runtime};
use crate::store::StoreError;

/// Texts beyond so many bytes in all are not repeated here: each is an output of its own.
const MOST_TEXT: usize = 256 * 1024;
/// The same for everything else.
const MOST_REST: usize = 256 * 1024;

/// What is kept.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct JobResult {
    /// `{node: [text]}`
    pub texts: Option<Value>,
    /// What went wrong without failing the job.
    pub warnings: Vec<String>,
    /// The statistics of the run.
    pub stats: Option<Value>,
    /// Why it failed: `error`, `code`, and `location`, `details`, `node_errors` where there are
    /// some.
    pub error: Option<Map<String, Value>>,
}

/// Keeps what is worth it of a response body.
pub(super) async fn keep(inner: &Inner, live: &LiveJob, document: &Document) {
    // No file is in it: they are given by their addresses.
    let Ok(text) = document.collect().await else {
        return;
    };
    let read = || serde_json::from_slice::<JobResult>(&text).ok();
    let Some(found) = off_runtime(is_large(text.len()), read) else {
        return;
    };
    let texts = found.texts.filter(|texts| fits(texts, MOST_TEXT));
    let stats = found.stats.filter(|stats| fits(stats, MOST_REST));
    let mut warnings = found.warnings;
    warnings.truncate(100);
    let result = json!({"texts": texts, "warnings": warnings, "stats": stats});
    inner.store.job_result(&live.id, result.to_string());
}

fn fits(value: &Value, most: usize) -> bool {
    value.to_string().len() <= most
}

/// Keeps why it failed.
pub(super) fn keep_failure(inner: &Inner, live: &LiveJob, failure: Map<String, Value>) {
    let result = json!({"error": failure});
    inner.store.job_result(&live.id, result.to_string());
}

impl DurableJobs {
    /// What an ended job came to.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn result(&self, id: &str) -> Result<JobResult, StoreError> {
        let kept = self.inner.store.result_of(id).await?;
        Ok(kept
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default())
    }
}
