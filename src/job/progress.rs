//! How far a graph is: nodes done of those that must run or come from ComfyUI's cache, and the
//! steps of the one that works (v2.md, "Progress").

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// A snapshot; each says all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GraphProgress {
    /// 0 to 1; never falls.
    pub value: f64,
    /// Nodes that are done.
    pub nodes_done: usize,
    /// Nodes that the outputs need.
    pub nodes_total: usize,
    /// The node of the client's graph that works.
    pub current_node: Option<String>,
    /// Its class.
    pub current_class: Option<String>,
    /// Its steps so far.
    pub step: Option<u64>,
    /// All its steps.
    pub steps: Option<u64>,
    /// At least one node came from ComfyUI's cache.
    pub reused: bool,
}

impl GraphProgress {
    /// `KSampler 21/50`, or the class.
    pub fn message(&self) -> Option<String> {
        let class = self.current_class.as_deref()?;
        Some(match (self.step, self.steps) {
            (Some(step), Some(steps)) => format!("{class} {step}/{steps}"),
            _ => class.to_owned(),
        })
    }

    /// The last one of a success.
    #[must_use]
    pub fn completed(&self) -> Self {
        Self {
            value: 1.0,
            nodes_done: self.nodes_total,
            current_node: None,
            current_class: None,
            step: None,
            steps: None,
            ..self.clone()
        }
    }
}

/// Follows the messages of one run.
#[derive(Debug)]
pub struct Tracker {
    /// Node of the graph to its class.
    classes: HashMap<String, String>,
    needed: HashSet<String>,
    done: HashSet<String>,
    now: GraphProgress,
}

impl Tracker {
    /// For a graph; `is_output` knows which classes are output nodes.
    pub fn new(graph: &Map<String, Value>, is_output: impl Fn(&str) -> bool) -> Self {
        let class = |node: &Value| {
            node.get("class_type")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let classes: HashMap<String, String> = graph
            .iter()
            .map(|(id, node)| (id.clone(), class(node)))
            .collect();
        let mut waiting: Vec<&str> = graph
            .iter()
            .filter(|(_, node)| is_output(&class(node)))
            .map(|(id, _)| id.as_str())
            .collect();
        if waiting.is_empty() {
            waiting = graph.keys().map(String::as_str).collect();
        }
        let mut needed = HashSet::new();
        while let Some(id) = waiting.pop() {
            if needed.insert(id.to_owned())
                && let Some(inputs) = graph
                    .get(id)
                    .and_then(|node| node.get("inputs"))
                    .and_then(Value::as_object)
            {
                waiting.extend(
                    inputs
                        .values()
                        .filter_map(link)
                        .filter(|id| graph.contains_key(*id)),
                );
            }
        }
        let now = GraphProgress {
            nodes_total: needed.len().max(1),
            ..GraphProgress::default()
        };
        Self {
            classes,
            needed,
            done: HashSet::new(),
            now,
        }
    }

    /// The newest snapshot.
    pub fn now(&self) -> &GraphProgress {
        &self.now
    }

    /// The node of the client's graph that an inner node stands for.
    pub fn node_of<'a>(&self, node: &'a str, shown: Option<&'a str>) -> &'a str {
        [shown, Some(node)]
            .into_iter()
            .flatten()
            .find_map(|id| {
                if self.classes.contains_key(id) {
                    return Some(id);
                }
                let outer = id.split('.').next()?;
                self.classes.contains_key(outer).then_some(outer)
            })
            .unwrap_or(node)
    }

    /// Takes in one message; returns the snapshot if it has changed.
    pub fn message(&mut self, kind: &str, data: &Value) -> Option<GraphProgress> {
        let before = self.now.clone();
        let text = |name: &str| data.get(name).and_then(Value::as_str);
        match kind {
            "execution_cached" => {
                let nodes = data
                    .get("nodes")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten();
                for node in nodes.filter_map(Value::as_str) {
                    self.now.reused = true;
                    self.finish(self.node_of(node, None));
                }
            }
            "executing" => {
                let node =
                    text("node").map(|node| self.node_of(node, text("display_node")).to_owned());
                if self.now.current_node != node {
                    if let Some(last) = self.now.current_node.take() {
                        self.finish(&last);
                    }
                    self.now.current_class = node
                        .as_ref()
                        .and_then(|node| self.classes.get(node))
                        .cloned();
                    self.now.current_node = node;
                    (self.now.step, self.now.steps) = (None, None);
                }
            }
            "progress" => {
                let number =
                    |name: &str| data.get(name).and_then(Value::as_f64).filter(|n| *n >= 0.0);
                let node =
                    text("node").map(|node| self.node_of(node, text("display_node")).to_owned());
                if node.is_none() || node == self.now.current_node {
                    let steps = number("max").filter(|max| *max >= 1.0);
                    self.now.steps = steps.map(|max| max as u64);
                    self.now.step = steps.and(number("value")).map(|value| value as u64);
                }
            }
            "executed" => {
                if let Some(node) = text("node") {
                    self.finish(self.node_of(node, text("display_node")));
                }
            }
            _ => return None,
        }
        let part = match (self.now.step, self.now.steps, &self.now.current_node) {
            (Some(step), Some(steps), Some(node)) if !self.done.contains(node) => {
                (step as f64 / steps as f64).clamp(0.0, 1.0)
            }
            _ => 0.0,
        };
        self.now.nodes_done = self.done.len();
        let value = (self.done.len() as f64 + part) / self.now.nodes_total as f64;
        // 1 is said at the end only.
        self.now.value = self.now.value.max(value.min(0.999));
        (self.now != before).then(|| self.now.clone())
    }

    fn finish(&mut self, node: &str) {
        if self.needed.contains(node) {
            self.done.insert(node.to_owned());
        }
    }
}

/// The node that a link comes from.
fn link(value: &Value) -> Option<&str> {
    match value.as_array()?.as_slice() {
        [Value::String(node), Value::Number(_)] => Some(node),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_counts_what_is_needed_and_never_falls() {
        let graph = json!({
            "1": {"class_type": "Load", "inputs": {}},
            "2": {"class_type": "KSampler", "inputs": {"model": ["1", 0]}},
            "3": {"class_type": "Save", "inputs": {"images": ["2", 0]}},
            "7": {"class_type": "Load", "inputs": {}},
        });
        let mut tracker = Tracker::new(graph.as_object().unwrap(), |class| class == "Save");
        assert_eq!(tracker.now().nodes_total, 3);
        let cached = tracker
            .message("execution_cached", &json!({"nodes": ["1", "7"]}))
            .unwrap();
        assert!(cached.reused && cached.nodes_done == 1);
        tracker.message(
            "executing",
            &json!({"node": "2.0.0.1", "display_node": "2"}),
        );
        let half = tracker
            .message("progress", &json!({"node": "2", "value": 1, "max": 2}))
            .unwrap();
        assert_eq!(
            (half.value, half.message().as_deref()),
            (0.5, Some("KSampler 1/2"))
        );
        // A second loop of the same node begins anew.
        let again = tracker
            .message("progress", &json!({"node": "2", "value": 0, "max": 2}))
            .unwrap();
        assert_eq!(again.value, 0.5);
        tracker.message("executing", &json!({"node": "3"}));
        let last = tracker
            .message("executing", &json!({"node": null}))
            .unwrap();
        assert!(last.value < 1.0 && last.nodes_done == 3);
        assert_eq!(last.completed().value, 1.0);
    }
}
