//! `stats`: when each node ran, and how long each stage took (prompt.md, section 5).

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::nodes::ClientNodes;
use super::preprocess::DownloadReport;
use super::registry::Progress;
use super::request::Graph;
use crate::telemetry::logging::epoch_ms;
use crate::telemetry::trace::NodeRun;

/// One node's part. Times are epoch milliseconds.
#[derive(Debug, Clone, Default)]
struct NodeTime {
    start: u64,
    end: Option<u64>,
    cached: bool,
}

/// ComfyUI's part of a prompt, put together from its messages.
#[derive(Debug, Default)]
pub struct Timeline {
    accepted: u64,
    instance: Option<usize>,
    start: Option<u64>,
    end: Option<u64>,
    nodes: Vec<(String, NodeTime)>,
    index: HashMap<String, usize>,
    /// The one that began last.
    working: Option<usize>,
    /// The client's nodes, by which everything is told.
    pub client: ClientNodes,
    /// Those whose results ComfyUI took from its cache, of the part that runs.
    cached: HashSet<String>,
    progress: Progress,
}

impl Timeline {
    /// ComfyUI has queued a graph.
    pub fn accepted(graph: Graph) -> Self {
        Self {
            accepted: epoch_ms(),
            client: ClientNodes::new(graph),
            ..Self::default()
        }
    }

    /// It runs in this one of several ComfyUI.
    pub fn in_instance(&mut self, label: Option<usize>) {
        self.instance = label;
    }

    /// It waits since then: before it came to this ComfyUI it was in another.
    pub fn waits_since(&mut self, accepted: u64) {
        self.accepted = accepted;
    }

    /// When ComfyUI had queued it, epoch milliseconds.
    pub const fn accepted_at(&self) -> u64 {
        self.accepted
    }

    /// Whether ComfyUI has said that it works on it.
    pub const fn has_begun(&self) -> bool {
        self.start.is_some()
    }

    /// The run goes on under another id (F27).
    pub fn goes_on(&mut self) {
        self.end = None;
        self.cached.clear();
    }

    /// The node that works, if one does.
    pub fn working(&self) -> Option<&str> {
        self.progress.node.as_deref()
    }

    /// Takes in one message; returns the progress when it has changed.
    pub fn message(&mut self, kind: &str, data: &Value) -> Option<Progress> {
        let timestamp = || {
            data.get("timestamp")
                .and_then(Value::as_u64)
                .unwrap_or_else(epoch_ms)
        };
        match kind {
            "execution_start" => {
                self.start.get_or_insert_with(timestamp);
            }
            "execution_cached" => {
                self.note_cached(data, timestamp());
            }
            "executing" => {
                self.executing(data)?;
            }
            "progress" => {
                let number = |name: &str| data.get(name).and_then(Value::as_f64).unwrap_or(0.0);
                self.progress.value = number("value");
                self.progress.max = number("max");
                if let Some(node) = data.get("node").and_then(Value::as_str) {
                    self.progress.node = Some(self.client.of(node).to_owned());
                }
            }
            "execution_success" | "execution_error" | "execution_interrupted" => {
                self.end = Some(timestamp());
                return None;
            }
            _ => return None,
        }
        self.progress.percent = self.percent();
        Some(self.progress.clone())
    }

    fn note_cached(&mut self, data: &Value, at: u64) {
        for node in data
            .get("nodes")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            let node = self.client.of(node).to_owned();
            self.cached.insert(node.clone());
            self.node(
                &node,
                NodeTime {
                    start: at,
                    end: Some(at),
                    cached: true,
                },
            );
        }
    }

    /// `None` when it says that no node works any more.
    fn executing(&mut self, data: &Value) -> Option<()> {
        let now = epoch_ms();
        self.start.get_or_insert(now);
        self.end_running(now);
        self.progress.node = None;
        let node = data.get("node").and_then(Value::as_str)?;
        self.client.note_from(data, "node");
        let node = self.client.of(node).to_owned();
        self.node(
            &node,
            NodeTime {
                start: now,
                ..NodeTime::default()
            },
        );
        self.progress = Progress {
            node: Some(node),
            ..Progress::default()
        };
        Some(())
    }

    /// The end, if no message told it.
    pub fn ended(&mut self) {
        let now = epoch_ms();
        let end = *self.end.get_or_insert(now);
        self.end_running(end);
    }

    /// Start and end from a history entry, for what the socket missed.
    pub fn fill_from_history(&mut self, entry: &Value) {
        let messages = entry
            .pointer("/status/messages")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        for message in messages {
            let (Some(kind), Some(data)) = (message.get(0).and_then(Value::as_str), message.get(1))
            else {
                continue;
            };
            let missed = match kind {
                "execution_start" => self.start.is_none(),
                "execution_cached" => self.cached.is_empty(),
                _ => self.end.is_none(),
            };
            if missed {
                self.message(kind, data);
            }
        }
    }

    /// The node that works now, as far as is known.
    pub fn running_node(&self) -> Option<&str> {
        self.progress.node.as_deref()
    }

    /// When it began, as far as is known.
    pub const fn began(&self) -> Option<u64> {
        self.start
    }

    /// Each node's part, for its span.
    pub fn node_runs(&self) -> impl Iterator<Item = NodeRun> + '_ {
        let end = self.end.unwrap_or_else(epoch_ms);
        self.nodes.iter().map(move |(id, time)| NodeRun {
            took: time.end.unwrap_or(end).saturating_sub(time.start),
            start: time.start,
            id: id.clone(),
            class: self.client.class(id).unwrap_or_default().to_owned(),
            cached: time.cached,
        })
    }

    /// Whether ComfyUI took any node's result from its cache.
    pub fn any_cached(&self) -> bool {
        self.nodes.iter().any(|(_, time)| time.cached)
    }

    /// The nodes whose results ComfyUI took from its cache, in the part that ran last.
    pub fn cached(&self) -> &HashSet<String> {
        &self.cached
    }

    /// A node may come again: as one of those that it was replaced by, or in the next part. Its
    /// first beginning counts.
    fn node(&mut self, node: &str, time: NodeTime) {
        match self.index.get(node) {
            Some(_) if time.cached => {}
            Some(index) => {
                let known = &mut self.nodes[*index].1;
                (known.end, known.cached) = (time.end, false);
                self.working = Some(*index);
            }
            None => {
                self.index.insert(node.to_owned(), self.nodes.len());
                self.working = Some(self.nodes.len());
                self.nodes.push((node.to_owned(), time));
            }
        }
    }

    fn end_running(&mut self, now: u64) {
        if let Some((_, last)) = self.working.and_then(|at| self.nodes.get_mut(at)) {
            last.end.get_or_insert(now);
        }
    }

    fn percent(&self) -> f64 {
        let done = self
            .nodes
            .iter()
            .filter(|(_, time)| time.end.is_some())
            .count() as f64;
        let part = if self.progress.max > 0.0 {
            (self.progress.value / self.progress.max).clamp(0.0, 1.0)
        } else {
            0.0
        };
        ((done + part) / self.client.count().max(1) as f64 * 1000.0)
            .round()
            .min(1000.0)
            / 10.0
    }

    fn report(&self, graph: &Map<String, Value>) -> Value {
        let start = self.start.unwrap_or(self.accepted);
        let end = self.end.unwrap_or(start).max(start);
        let mut nodes = Map::with_capacity(self.nodes.len());
        for (id, time) in &self.nodes {
            let node_end = time.end.unwrap_or(end).max(time.start);
            let class = graph
                .get(id)
                .and_then(|node| node.get("class_type"))
                .cloned()
                .unwrap_or_default();
            // Not by `json!`, which would make room for each member by itself.
            let node = Map::from_iter([
                ("start".to_owned(), time.start.into()),
                ("end".to_owned(), node_end.into()),
                ("duration".to_owned(), (node_end - time.start).into()),
                ("cached".to_owned(), time.cached.into()),
                ("class_type".to_owned(), class),
            ]);
            nodes.insert(id.clone(), Value::Object(node));
        }
        let mut report = json!({
            "start": start,
            "end": end,
            "duration": end - start,
            "queued": start.saturating_sub(self.accepted),
            "nodes": nodes
        });
        if let Some(instance) = self.instance {
            report["instance"] = instance.into();
        }
        report
    }
}

/// How long each stage of a prompt took, in milliseconds.
#[derive(Debug)]
pub struct Stages {
    began: Instant,
    last: Instant,
    times: Vec<(&'static str, u64)>,
}

impl Default for Stages {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            last: now,
            times: Vec::new(),
        }
    }
}

impl Stages {
    /// A stage is over: the time since the one before is its own.
    pub fn over(&mut self, name: &'static str) {
        let now = Instant::now();
        let took = now - self.last;
        crate::telemetry::metrics::stage(name, took);
        self.times
            .push((name, u64::try_from(took.as_millis()).unwrap_or(u64::MAX)));
        self.last = now;
    }

    /// Milliseconds since the beginning.
    pub fn total(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The whole `stats` object.
    pub fn report(
        &self,
        timeline: &Timeline,
        graph: &Map<String, Value>,
        downloads: &[DownloadReport],
    ) -> Value {
        let time = |name: &str| {
            self.times
                .iter()
                .find(|(stage, _)| *stage == name)
                .map_or(0, |(_, took)| *took)
        };
        json!({
            "comfy_execution": timeline.report(graph),
            "preprocess_time": time("preprocess"),
            "comfy_round_trip_time": time("comfy_round_trip"),
            "postprocess_time": time("postprocess"),
            "upload_time": time("upload"),
            "total_time": self.total(),
            "downloads": downloads,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_timed_and_counted() {
        let graph = json!({"1": {}, "2": {"class_type": "KSampler"}, "3": {}, "4": {}});
        let mut timeline =
            Timeline::accepted(std::sync::Arc::new(graph.as_object().unwrap().clone()));
        timeline.message("execution_start", &json!({"timestamp": 1000}));
        assert_eq!(
            timeline
                .message(
                    "execution_cached",
                    &json!({"nodes": ["1"], "timestamp": 1001})
                )
                .unwrap()
                .percent,
            25.0
        );
        timeline.message("executing", &json!({"node": "2"}));
        assert_eq!(
            timeline
                .message("progress", &json!({"node": "2", "value": 1, "max": 2}))
                .unwrap()
                .percent,
            37.5
        );
        timeline.message("executing", &json!({"node": "3"}));
        timeline.message(
            "execution_success",
            &json!({"timestamp": 99_999_999_999_999_u64}),
        );
        timeline.ended();
        let report = timeline.report(graph.as_object().unwrap());
        assert_eq!(report["start"], 1000);
        assert_eq!(report["nodes"]["1"]["cached"], true);
        assert_eq!(report["nodes"]["2"]["class_type"], "KSampler");
        assert_eq!(
            report["nodes"]
                .as_object()
                .unwrap()
                .keys()
                .collect::<Vec<_>>(),
            ["1", "2", "3"]
        );
        assert!(report["nodes"]["3"]["end"].is_u64());
    }
}
