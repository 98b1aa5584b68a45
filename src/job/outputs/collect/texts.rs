//! Texts among the outputs.

use serde_json::{Map, Value};

/// The texts of a node that returned text instead of files.
pub(super) fn take_texts(texts: &mut Map<String, Value>, node: &str, output: &Value) {
    let strings: Vec<Value> = output
        .as_object()
        .into_iter()
        .flat_map(|output| output.values())
        .filter_map(Value::as_array)
        .filter(|list| !list.is_empty() && list.iter().all(Value::is_string))
        .flatten()
        .cloned()
        .collect();
    if !strings.is_empty()
        && let Some(known) = texts
            .entry(node)
            .or_insert_with(|| Value::Array(Vec::new()))
            .as_array_mut()
    {
        known.extend(strings);
    }
}
