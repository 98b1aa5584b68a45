//! What a job's messages say of its outputs and its progress.

use serde_json::{Map, Value};

use crate::comfy::message::TextMessage;
use crate::job::event::JobEvent;
use crate::job::progress::Tracker;
use crate::job::registry::Job;

impl Job {
    /// A message of ComfyUI about this job, for progress and outputs.
    pub(in crate::job) fn observe(&self, message: &TextMessage) {
        let kind = message.kind.as_str();
        if !matches!(
            kind,
            "execution_cached" | "executing" | "progress" | "executed"
        ) || !(self.listeners.any() || self.keeping.is_some())
        {
            return;
        }
        let mut value = message.value();
        let Some(data) = value.get_mut("data") else {
            return;
        };
        let mut tracker = self.tracker.lock();
        let progress = tracker
            .as_mut()
            .and_then(|tracker| tracker.message(kind, data));
        if kind == "executed"
            && let Some(keeping) = &self.keeping
            && let Some(output) = data.get_mut("output").map(Value::take)
        {
            let text = |name: &str| data.get(name).and_then(Value::as_str);
            let node = text("node").unwrap_or_default();
            let node = tracker
                .as_ref()
                .map_or(node, |tracker| tracker.node_of(node, text("display_node")));
            keeping.node_finished(node, output);
        }
        drop(tracker);
        if let Some(progress) = progress {
            self.tell(&JobEvent::Progress(progress));
        }
    }

    /// ComfyUI has it.
    pub(in crate::job) fn track(
        &self,
        graph: &Map<String, Value>,
        is_output: impl Fn(&str) -> bool,
    ) {
        if self.listeners.any() {
            let tracker = Tracker::new(graph, is_output);
            let first = tracker.now().clone();
            *self.tracker.lock() = Some(Box::new(tracker));
            self.tell(&JobEvent::Progress(first));
        }
    }
}
