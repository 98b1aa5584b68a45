//! The prompt that runs.

use std::cell::OnceCell;
use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::simulator::instance::Instance;
use crate::simulator::python;
use crate::simulator::queue::Item;

/// The prompt that runs.
#[derive(Debug)]
pub struct Current<'a> {
    /// Its id.
    pub prompt_id: &'a str,
    /// Whose it is. `None`: some messages go to everybody, the others to nobody.
    pub client_id: Option<String>,
    /// `extra_data`.
    pub extra: &'a Value,
    /// Output nodes that run.
    pub outputs: &'a [String],
    pub(super) graph: &'a Map<String, Value>,
    pub(super) tokens: HashMap<String, String>,
    pub(super) metadata: OnceCell<String>,
    pub(super) progress: parking_lot::Mutex<Value>,
    pub(super) executed: parking_lot::Mutex<Vec<String>>,
}

impl<'a> Current<'a> {
    pub(super) fn new(
        item: &'a Item,
        client_id: Option<String>,
        graph: &'a Map<String, Value>,
        tokens: HashMap<String, String>,
    ) -> Self {
        Self {
            prompt_id: &item.prompt_id,
            client_id,
            extra: &item.extra,
            outputs: &item.outputs,
            graph,
            tokens,
            metadata: OnceCell::new(),
            progress: json!({"prompt_id": item.prompt_id, "nodes": {}}).into(),
            executed: Vec::new().into(),
        }
    }
}

impl Current<'_> {
    /// The client's graph.
    pub fn graph(&self) -> &Map<String, Value> {
        self.graph
    }

    /// The graph as it is written into files.
    pub fn metadata(&self) -> &str {
        self.metadata.get_or_init(|| {
            let mut graph = self.graph.clone();
            for (id, token) in &self.tokens {
                if let Some(node) = graph.get_mut(id).and_then(Value::as_object_mut) {
                    node.insert("is_changed".into(), json!([token]));
                }
            }
            python::dumps(&Value::Object(graph))
        })
    }

    /// The nodes that ran so far.
    pub fn executed(&self) -> Vec<String> {
        self.executed.lock().clone()
    }

    /// The data of `execution_error`.
    pub(super) fn error(
        &self,
        id: &str,
        class: &str,
        (kind, message): (String, String),
        inputs: Value,
    ) -> Value {
        let traceback: Vec<String> = [
            "execute",
            "get_output_data",
            "_async_map_node_over_list",
            "process_inputs",
            class,
        ]
        .iter()
        .map(|function| {
            format!("  File \"/ComfyUI/execution.py\", line 1, in {function}\n    ...\n")
        })
        .collect();
        json!({
            "prompt_id": self.prompt_id,
            "node_id": id,
            "node_type": class,
            "executed": self.executed(),
            "exception_message": format!("{message}\n"),
            "exception_type": kind,
            "traceback": traceback,
            "current_inputs": inputs,
            "current_outputs": self.graph.keys().collect::<Vec<_>>()
        })
    }

    /// Tells that a node has its output already.
    pub(super) fn executed_as_cached(&self, instance: &Instance, id: &str, output: &Value) {
        self.tell(
            instance,
            "executed",
            &json!({
                "node": id,
                "display_node": id,
                "output": output,
                "prompt_id": self.prompt_id
            }),
        );
        self.finish(instance, (id, id));
    }

    /// Notes where a node is, and tells all that is known about this run.
    pub fn progress(
        &self,
        instance: &Instance,
        (node, display): (&str, &str),
        value: Value,
        max: Value,
        state: &str,
    ) {
        let mut progress = self.progress.lock();
        progress["nodes"][node] = json!({"value": value, "max": max, "state": state,
        "node_id": node, "prompt_id": self.prompt_id,
            "display_node_id": display,
            "parent_node_id": if node == display { Value::Null } else { display.into() },
            "real_node_id": display});
        instance
            .hub
            .send("progress_state", &progress, self.client_id.as_deref());
    }

    pub(super) fn finish(&self, instance: &Instance, (node, display): (&str, &str)) {
        let max = self.progress.lock()["nodes"][node]["max"].clone();
        let max = if max.is_null() { json!(1.0) } else { max };
        self.progress(instance, (node, display), max.clone(), max, "finished");
    }

    /// To the prompt's client; without one, to nobody.
    pub(super) fn tell(&self, instance: &Instance, kind: &str, data: &Value) {
        if self.client_id.is_some() {
            instance.hub.send(kind, data, self.client_id.as_deref());
        }
    }
}
