//! The workflow of a path.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::Inner;
use super::registry::Workflow;
use crate::error::{Code, Failure};

/// A call that failed sooner is repeated if it turns out that the context was out of date. Endless
/// loops are not.
pub(super) const WORTH_REPEATING: Duration = Duration::from_secs(1);

impl Inner {
    /// The workflow of a path; when the context has changed since loading, documentation is renewed
    /// in the background.
    pub(super) fn find(self: &Arc<Self>, path: &str, context: u64) -> Option<Arc<Workflow>> {
        let registry = self.registry();
        if registry.context != context
            && !registry.workflows.is_empty()
            && !self.refreshing.swap(true, Ordering::SeqCst)
        {
            let inner = Arc::clone(self);
            tokio::spawn(async move {
                inner.load(false).await;
                inner.refreshing.store(false, Ordering::SeqCst);
            });
        }
        registry.workflows.get(path).cloned()
    }

    /// A file that failed under an earlier context (no models yet, say) may load under this one.
    pub(super) fn may_load_now(&self, path: &str, context: u64) -> bool {
        let registry = self.registry();
        registry.failed.contains_key(path) && registry.context != context
    }

    pub(super) fn unknown(&self, path: &str) -> Failure {
        let broken = self.registry().failed.contains_key(path);
        let reason = if broken {
            "its file cannot be loaded, the log says why"
        } else {
            "see /docs for those that exist"
        };
        Failure::new(
            Code::NotFound,
            format!("there is no workflow \"{path}\": {reason}"),
        )
    }

    /// A failure that may come of it that nobody has said yet which models and samplers there are.
    pub(super) fn blamed_on_context(&self, number: u64, failure: Failure) -> Failure {
        let of_a_type =
            |issue: &Value| issue.get("code").is_some_and(|code| code == "invalid_type");
        let issues = failure.details.as_ref().and_then(Value::as_array);
        let of_types = issues.is_some_and(|issues| issues.iter().all(of_a_type));
        if !self.source.is_unknown(number) || of_types {
            return failure;
        }
        Failure::new(
            Code::ComfyuiUnavailable,
            "which models and samplers there are is not known yet (ComfyUI is starting, or no \
             instance of the fleet has said so yet), and the workflow may need it; send it again",
        )
    }

    /// Whether there is a file for it, whether or not it could be loaded.
    pub(super) fn exists(&self, path: &str) -> bool {
        let registry = self.registry();
        registry.workflows.contains_key(path) || registry.failed.contains_key(path)
    }
}
