//! A run: its result, waiting for it, progress, tasks, cancelling by leaving.

mod leaving;
mod results;
mod waiting;

use serde_json::{Value, json};

fn run(graph: &Value, more: Value) -> Value {
    let mut arguments = json!({"graph": graph});
    arguments
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"name": "run_graph", "arguments": arguments})
}
