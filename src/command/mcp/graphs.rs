//! Where a graph may name files: the inputs of its nodes, in every form in which `run_graph` takes
//! a graph.

use serde_json::{Map, Value};

/// What is around a graph, at most: `{"prompt": {"workflow": ...}}`.
const MOST_AROUND: usize = 3;

/// A graph that is given as text becomes one; the text as it was. What cannot be read is the
/// server's business.
pub fn read(arguments: &mut Map<String, Value>) -> Option<Value> {
    let graph = arguments.get_mut("graph")?;
    let found: Value = serde_json::from_str(graph.as_str()?).ok()?;
    found.is_object().then(|| std::mem::replace(graph, found))
}

/// Every text that an input of a node is, or is set to.
pub fn inputs<'a>(arguments: &'a mut Map<String, Value>, found: &mut Vec<&'a mut Value>) {
    for (name, value) in arguments.iter_mut() {
        match (name.as_str(), value) {
            ("set", Value::Object(set)) => set.values_mut().for_each(|value| texts(value, found)),
            ("graph", graph) => of_graph(graph, found, MOST_AROUND),
            _ => {}
        }
    }
}

/// A text, or those of a list.
pub fn texts<'a>(value: &'a mut Value, found: &mut Vec<&'a mut Value>) {
    match value {
        Value::String(_) => found.push(value),
        Value::Array(items) => items.iter_mut().for_each(|item| texts(item, found)),
        _ => {}
    }
}

fn of_graph<'a>(graph: &'a mut Value, found: &mut Vec<&'a mut Value>, depth: usize) {
    let Value::Object(members) = graph else {
        return;
    };
    let saved = members.get("nodes").is_some_and(Value::is_array);
    for (name, member) in members {
        match name.as_str() {
            // As the editor saves it: the values of widgets, by place or by name; subgraphs have
            // nodes of their own.
            "nodes" if saved => of_nodes(member, found),
            "definitions" if saved => {
                let graphs = member.get_mut("subgraphs").and_then(Value::as_array_mut);
                for graph in graphs.into_iter().flatten() {
                    of_graph(graph, found, 0);
                }
            }
            _ if saved => {}
            _ if member.get("class_type").is_some() => {
                if let Some(Value::Object(inputs)) = member.get_mut("inputs") {
                    inputs.values_mut().for_each(|value| texts(value, found));
                }
            }
            "prompt" | "workflow" | "output" if depth > 0 => of_graph(member, found, depth - 1),
            _ => {}
        }
    }
}

fn of_nodes<'a>(nodes: &'a mut Value, found: &mut Vec<&'a mut Value>) {
    for node in nodes.as_array_mut().into_iter().flatten() {
        match node.get_mut("widgets_values") {
            Some(Value::Object(values)) => {
                values.values_mut().for_each(|value| texts(value, found));
            }
            Some(values) => texts(values, found),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(graph: Value) -> Vec<String> {
        let mut arguments = Map::from_iter([("graph".to_owned(), graph)]);
        read(&mut arguments);
        let mut found = Vec::new();
        inputs(&mut arguments, &mut found);
        let found = found.iter().filter_map(|text| text.as_str());
        found.map(str::to_owned).collect()
    }

    #[test]
    fn inputs_are_found_in_every_form() {
        let api = json!({"1": {"class_type": "LoadImage", "inputs": {"image": "a.png", "n": 1}},
                         "2": {"class_type": "X", "inputs": {"list": ["b.png", ["1", 0]]}}});
        let saved = json!({"nodes": [
            {"type": "LoadImage", "title": "no.png", "widgets_values": ["a.png", "image"]},
            {"type": "X", "widgets_values": {"video": "b.mp4"}}, {"type": "Y"},
        ], "definitions": {
            "subgraphs": [{"nodes": [{"widgets_values": ["c.png"]}]}]
        }, "extra": {"x": "no.png"}});
        let of_api = ["a.png", "b.png", "1"];
        for form in [
            api.clone(),
            json!(api.to_string()),
            json!({"prompt": api}),
            json!({"output": api, "workflow": null}),
        ] {
            assert_eq!(named(form), of_api);
        }
        let of_saved = ["a.png", "image", "b.mp4", "c.png"];
        for form in [
            saved.clone(),
            json!(saved.to_string()),
            json!({"workflow": saved}),
        ] {
            assert_eq!(named(form), of_saved);
        }
        assert!(named(json!("no JSON")).is_empty() && named(json!([1])).is_empty());
    }
}
