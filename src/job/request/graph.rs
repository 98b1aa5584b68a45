//! Which graph a body holds, wherever it stands in it (faults.md, F19), and whether it has the form
//! of one.

use serde_json::{Map, Value, json};

use super::wrong_type;
use crate::error::Failure;
use crate::graph::recognise::{Recognised, recognise};
use crate::json;
use crate::limits::{MAX_NAME, text};

/// What a body asks to be run.
#[derive(Debug, Clone, PartialEq)]
pub enum Workflow {
    /// API format: node id to node.
    Api(Map<String, Value>),
    /// As the editor saves it: `nodes`, `links`, ...
    Editor(Map<String, Value>),
}

/// ComfyUI's own fields beside the nodes of a graph.
const BESIDE_NODES: [&str; 2] = ["client_id", "prompt_id"];

/// Members that may have to be built when the body itself is the workflow: those of the editor's
/// files, in full; of the others only objects can be nodes.
pub fn keep_of_bare(name: &str) -> json::Keep {
    const EDITOR: &[&str] = &[
        "id",
        "revision",
        "version",
        "state",
        "config",
        "extra",
        "nodes",
        "links",
        "floatingLinks",
        "groups",
        "reroutes",
        "definitions",
        "models",
        "last_node_id",
        "last_link_id",
    ];
    if EDITOR.contains(&name) {
        json::Keep::All
    } else {
        json::Keep::Objects
    }
}

/// Whether a body names what is to be run; if not, the body itself may be it.
pub fn has_envelope(body: &Map<String, Value>) -> bool {
    ["prompt", "workflow"]
        .iter()
        .any(|name| body.get(*name).is_some_and(|value| !value.is_null()))
}

/// Takes the graph out of a body: from `prompt`, else from `workflow`, else the body itself, of
/// which then nothing is left.
///
/// # Errors
/// A 400 at `prompt`.
pub fn take(body: &mut Map<String, Value>) -> Result<Workflow, Failure> {
    for name in ["prompt", "workflow"] {
        match body.shift_remove(name) {
            None | Some(Value::Null) => {}
            Some(value) => return read(value),
        }
    }
    if is_workflow(body) {
        let mut whole = std::mem::take(body);
        for name in BESIDE_NODES {
            whole.shift_remove(name);
        }
        return read(Value::Object(whole));
    }
    Err(match elsewhere(body) {
        Some(path) => Failure::invalid(
            "prompt",
            format!(
                "the graph was found at \"{path}\", which is another product's form: send it as \
                 {{\"prompt\": {{\"<node id>\": {{\"class_type\": ..., \"inputs\": ...}}}}}}"
            ),
        ),
        None => Failure::invalid(
            "prompt",
            "the field \"prompt\" is missing: it must be a ComfyUI graph in API format",
        ),
    })
}

/// A graph, a saved workflow, or either as text.
fn read(value: Value) -> Result<Workflow, Failure> {
    let value = match value {
        Value::String(text) => json::parse(text.into_bytes())
            .map_err(|error| error.failure("prompt", "\"prompt\" is a text that"))?,
        value => value,
    };
    match value {
        Value::Object(document) if is_saved(&document) => Ok(Workflow::Editor(document)),
        // Around one of both, as ComfyUI's own tools write it.
        Value::Object(document) if !document.is_empty() && !is_workflow(&document) => {
            match recognise(Value::Object(document.clone())) {
                Ok(Recognised::Ui(workflow)) => Ok(Workflow::Editor(workflow)),
                Ok(Recognised::Api(graph)) => Ok(Workflow::Api(graph)),
                // Its members say best what is wrong with it.
                Err(_) => Ok(Workflow::Api(document)),
            }
        }
        Value::Object(graph) => Ok(Workflow::Api(graph)),
        _ => Err(wrong_type(
            "prompt",
            "an object: a ComfyUI graph in API format",
        )),
    }
}

/// A workflow as the editor saves it (ui-format.md, section 1).
fn is_saved(document: &Map<String, Value>) -> bool {
    document.get("nodes").is_some_and(Value::is_array)
}

fn is_node(value: &Value) -> bool {
    value.get("class_type").is_some_and(Value::is_string)
}

/// Whether an object is a workflow of either kind rather than something around one.
fn is_workflow(object: &Map<String, Value>) -> bool {
    is_saved(object) || object.values().any(is_node)
}

/// Where in another product's envelope the graph is: one or two levels down.
fn elsewhere(body: &Map<String, Value>) -> Option<String> {
    let within = |object: &Map<String, Value>| {
        object.iter().find_map(|(name, value)| {
            let found = value.as_object().is_some_and(is_workflow);
            found.then(|| text::shorten(name, 40).into_owned())
        })
    };
    within(body).or_else(|| {
        body.iter().find_map(|(name, value)| {
            let inner = within(value.as_object()?)?;
            Some(format!("{}.{inner}", text::shorten(name, 40)))
        })
    })
}

/// Checks the form of a graph; a node without `inputs` gets empty ones (drop-in.md, D21).
///
/// # Errors
/// A 400 that names the node.
pub(super) fn check(graph: &mut Map<String, Value>) -> Result<(), Failure> {
    if let Some(id) = graph.keys().find(|id| too_long(id)) {
        let message = format!(
            "the id of a node has {} characters: at most {MAX_NAME}; it begins with \"{}\"",
            id.chars().count(),
            text::shorten(id, 40)
        );
        return Err(Failure::invalid("prompt", message));
    }
    for (id, node) in graph {
        let Some(node) = node.as_object_mut() else {
            return Err(wrong_type(
                format!("prompt.{id}"),
                "an object with \"class_type\" and \"inputs\"",
            ));
        };
        match node.get("class_type") {
            Some(Value::String(class)) if !too_long(class) => {}
            Some(Value::String(class)) => {
                let message = format!(
                    "the class of node {id} has {} characters: at most {MAX_NAME}",
                    class.chars().count()
                );
                return Err(Failure::invalid(format!("prompt.{id}.class_type"), message));
            }
            _ => {
                return Err(wrong_type(
                    format!("prompt.{id}.class_type"),
                    "a string: the node's class",
                ));
            }
        }
        match node.get("inputs") {
            Some(Value::Object(_)) => {}
            None | Some(Value::Null) => {
                node.insert("inputs".to_owned(), json!({}));
            }
            Some(_) => {
                return Err(wrong_type(
                    format!("prompt.{id}.inputs"),
                    "an object: the node's inputs",
                ));
            }
        }
    }
    Ok(())
}

fn too_long(name: &str) -> bool {
    name.len() > MAX_NAME && name.chars().nth(MAX_NAME).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(body: Value) -> Result<Workflow, Failure> {
        let Value::Object(mut body) = body else {
            panic!()
        };
        take(&mut body)
    }

    /// F19
    #[test]
    fn the_graph_is_found_where_clients_put_it() {
        let graph = json!({"9": {"class_type": "SaveImage", "inputs": {}}});
        let saved = json!({"nodes": [], "links": [], "version": 0.4});
        let beside = json!({"9": graph["9"], "client_id": "c", "prompt_id": "p"});
        for (body, is_api) in [
            (json!({"prompt": graph}), true),
            (json!({"workflow": graph}), true),
            (json!({"prompt": null, "workflow": graph}), true),
            (json!({"prompt": graph.to_string()}), true),
            (
                json!({"prompt": format!("\u{feff}{graph}"), "id": "x"}),
                true,
            ),
            (graph.clone(), true),
            (beside, true),
            (json!({"prompt": saved}), false),
            (json!({"workflow": saved}), false),
            (json!({"workflow": saved.to_string()}), false),
            (saved.clone(), false),
        ] {
            let expected = if is_api {
                Workflow::Api(graph.as_object().unwrap().clone())
            } else {
                Workflow::Editor(saved.as_object().unwrap().clone())
            };
            assert_eq!(taken(body.clone()).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn what_is_no_graph_is_said() {
        let graph = json!({"9": {"class_type": "SaveImage"}});
        for (body, word) in [
            (json!({}), "missing"),
            (json!({"id": "x"}), "missing"),
            (json!({"input": {"workflow": graph}}), "\"input.workflow\""),
            (
                json!({"input": {"prompt": graph}, "webhook": "http://x/"}),
                "\"input.prompt\"",
            ),
            (json!({"input": graph}), "\"input\""),
            (
                json!({"data": {"graph": {"nodes": [], "links": []}}}),
                "\"data.graph\"",
            ),
            (json!({"prompt": "a cat"}), "is not JSON"),
            (json!({"prompt": "[1]"}), "must be an object"),
            (json!({"prompt": "\"{}\""}), "must be an object"),
            (json!({"prompt": [graph]}), "must be an object"),
            (json!({"workflow": 5}), "must be an object"),
        ] {
            let failure = taken(body.clone()).unwrap_err();
            assert_eq!(failure.location.as_deref(), Some("prompt"), "{body}");
            assert!(failure.message.contains(word), "{body}: {failure}");
        }
    }

    /// A11, D21
    #[test]
    fn nodes_are_checked() {
        let mut graph = json!({"1": {"class_type": "X"}, "2": {"class_type": "Y", "inputs": null}});
        check(graph.as_object_mut().unwrap()).unwrap();
        assert_eq!(
            graph,
            json!({"1": {"class_type": "X", "inputs": {}}, "2": {"class_type": "Y", "inputs": {}}})
        );
        for (mut graph, location) in [
            (json!({"7": null}), "prompt.7"),
            (json!({"7": {"inputs": {}}}), "prompt.7.class_type"),
            (
                json!({"7": {"class_type": "x".repeat(257)}}),
                "prompt.7.class_type",
            ),
            (
                json!({"7": {"class_type": "X", "inputs": []}}),
                "prompt.7.inputs",
            ),
            (json!({"7".repeat(257): {"class_type": "X"}}), "prompt"),
        ] {
            let failure = check(graph.as_object_mut().unwrap()).unwrap_err();
            assert_eq!(failure.location.as_deref(), Some(location));
            assert!(failure.message.len() < 300);
        }
        let mut longest = json!({"ü".repeat(256): {"class_type": "ü".repeat(256)}});
        assert!(check(longest.as_object_mut().unwrap()).is_ok());
    }
}
