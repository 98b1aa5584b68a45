//! ComfyUI's validation errors in words: its own `details` is often empty, so the sentence is built
//! from `node_errors`.

use serde_json::{Map, Value, json};

use super::links::{BrokenLink, broken};
use crate::comfy::catalogue::Catalogue;
use crate::config::{public_text, public_value};
use crate::error::{Code, Failure};
use crate::limits::{MAX_DETAILS, text};

/// The text that existing clients know for a graph without outputs.
const NO_OUTPUT: &str =
    r#"Prompt must contain a node with a "filename_prefix" input, such as "SaveImage""#;

/// Names of models shown in a sentence at most.
const NAMES_SHOWN: usize = 20;

/// Types of errors that ComfyUI makes of a broken link, wherever it stumbles over it.
const LINK_ERRORS: [&str; 4] = [
    "exception_during_validation",
    "exception_during_inner_validation",
    "bad_linked_input",
    "dependency_cycle",
];

/// The failure for a graph that ComfyUI refused.
pub fn rejected(
    error: &Value,
    node_errors: Value,
    graph: &Map<String, Value>,
    catalogue: &Catalogue,
) -> Failure {
    // ComfyUI repeats the values that it refuses, which may be megabytes of base64.
    let node_errors = text::bounded(node_errors, MAX_DETAILS);
    if error.get("type").and_then(Value::as_str) == Some("prompt_no_outputs") {
        let mut failure = Failure::new(Code::InvalidPrompt, NO_OUTPUT).at("prompt");
        failure.node_errors = Some(json!({}));
        return failure.with_details(public_value(error.clone()));
    }
    let empty = Map::new();
    let errors = node_errors.as_object().unwrap_or(&empty);
    let broken = broken_links(errors, error, graph, catalogue);
    let nodes = sentences(errors, &broken);
    let own = {
        let text = |name: &str| {
            error
                .get(name)
                .and_then(Value::as_str)
                .map(str::trim)
                .filter(|text| !text.is_empty())
        };
        let parts: Vec<&str> = [text("message"), text("details")]
            .into_iter()
            .flatten()
            .collect();
        if parts.is_empty() {
            "ComfyUI did not say why".to_owned()
        } else {
            parts
                .iter()
                .map(|part| part.trim_end_matches('.'))
                .collect::<Vec<_>>()
                .join(": ")
        }
    };
    let reason = if nodes.is_empty() {
        own
    } else {
        nodes.join("; ")
    };
    let location = broken
        .first()
        .map(|link| format!("prompt.{}.inputs.{}", link.node, link.input))
        .or_else(|| first_location(errors))
        .or_else(|| node_in_details(error, graph))
        .unwrap_or_else(|| "prompt".to_owned());
    let mut failure = Failure::new(
        Code::InvalidPrompt,
        format!("Failed to queue prompt: {reason}"),
    )
    .at(location)
    .with_details(public_value(error.clone()));
    // ComfyUI repeats the values that it refuses. One that should have been a URL to download may
    // have credentials in it.
    failure.node_errors = Some(if node_errors.is_null() {
        json!({})
    } else {
        public_value(node_errors)
    });
    failure
}

/// One sentence for each reason why outputs were left out of a graph that ComfyUI accepted.
pub fn skipped(
    node_errors: &Map<String, Value>,
    graph: &Map<String, Value>,
    catalogue: &Catalogue,
) -> Vec<String> {
    let broken = broken_links(node_errors, &Value::Null, graph, catalogue);
    sentences(node_errors, &broken)
        .into_iter()
        .map(|sentence| format!("an output was skipped: {sentence}"))
        .collect()
}

/// The broken links that ComfyUI has stumbled over; none where it complains of other things.
fn broken_links(
    node_errors: &Map<String, Value>,
    error: &Value,
    graph: &Map<String, Value>,
    catalogue: &Catalogue,
) -> Vec<BrokenLink> {
    let kind = error.get("type").and_then(Value::as_str);
    if node_errors.is_empty() {
        // A cycle in older versions, or an exception that nobody caught.
        let unexplained = matches!(kind, Some("prompt_outputs_failed_validation" | "rejected"));
        return if unexplained {
            broken(graph, catalogue, &[])
        } else {
            Vec::new()
        };
    }
    let roots: Vec<&str> = node_errors
        .iter()
        .filter(|(_, node)| errors_of(node).any(is_of_link))
        .flat_map(|(id, node)| {
            let dependent = node.get("dependent_outputs").and_then(Value::as_array);
            let dependent = dependent.into_iter().flatten().filter_map(Value::as_str);
            dependent.chain([id.as_str()])
        })
        .collect();
    if roots.is_empty() {
        Vec::new()
    } else {
        broken(graph, catalogue, &roots)
    }
}

fn errors_of(node: &Value) -> impl Iterator<Item = &Value> {
    node.get("errors")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn is_of_link(error: &Value) -> bool {
    error
        .get("type")
        .and_then(Value::as_str)
        .is_some_and(|kind| LINK_ERRORS.contains(&kind))
}

/// Ours for broken links, and ComfyUI's for everything else.
fn sentences(node_errors: &Map<String, Value>, broken: &[BrokenLink]) -> Vec<String> {
    let mut sentences: Vec<String> = broken
        .iter()
        .map(|link| public_text(&link.sentence))
        .collect();
    for (id, node) in node_errors {
        let class = node
            .get("class_type")
            .and_then(Value::as_str)
            .unwrap_or("unknown class");
        for error in errors_of(node).filter(|error| broken.is_empty() || !is_of_link(error)) {
            let sentence = format!("node {id} ({class}){}", reason(error));
            sentences.push(public_text(&text::sentence(&sentence)));
        }
    }
    sentences
}

fn reason(error: &Value) -> String {
    let text = |pointer: &str| {
        error
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::trim)
            .unwrap_or_default()
    };
    let input = text("/extra_info/input_name");
    let (message, details) = (text("/message"), text("/details"));
    let place = if input.is_empty() {
        String::new()
    } else {
        format!(", input \"{input}\"")
    };
    let why = match text("/type") {
        "value_not_in_list" => not_in_list(error, details),
        "required_input_missing" => "is required but missing".to_owned(),
        _ if details.is_empty() || details == input => message.to_owned(),
        _ => format!("{message}: {}", details.lines().next().unwrap_or_default()),
    };
    format!("{place}: {why}")
}

/// Names the values that exist. `input_config` is null when there are many; then ComfyUI's own
/// sentence has to do.
fn not_in_list(error: &Value, details: &str) -> String {
    let received = match error.pointer("/extra_info/received_value") {
        Some(Value::String(text)) => format!("\"{}\"", text::quoted(text)),
        Some(value) => text::quoted(&value.to_string()).into_owned(),
        None => return details.to_owned(),
    };
    let config = error.pointer("/extra_info/input_config");
    let options = config.and_then(|config| {
        config
            .get(0)
            .and_then(Value::as_array)
            .or_else(|| config.pointer("/1/options").and_then(Value::as_array))
    });
    match options {
        Some(options) if options.is_empty() => {
            format!("{received} does not exist; there are none yet")
        }
        Some(options) => {
            let names: Vec<String> = options
                .iter()
                .take(NAMES_SHOWN)
                .map(|option| {
                    option
                        .as_str()
                        .map_or_else(|| option.to_string(), str::to_owned)
                })
                .collect();
            let more = options.len().saturating_sub(NAMES_SHOWN);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!(
                "{received} does not exist; there are: {}{more}",
                names.join(", ")
            )
        }
        None => format!(
            "{received} does not exist{}",
            if details.is_empty() {
                String::new()
            } else {
                format!(" ({details})")
            }
        ),
    }
}

fn first_location(node_errors: &Map<String, Value>) -> Option<String> {
    let (id, node) = node_errors.iter().next()?;
    let input = node
        .pointer("/errors/0/extra_info/input_name")
        .and_then(Value::as_str);
    Some(input.map_or_else(
        || format!("prompt.{id}"),
        |input| format!("prompt.{id}.inputs.{input}"),
    ))
}

/// A missing class is only named as `Node ID '#12'`.
fn node_in_details(error: &Value, graph: &Map<String, Value>) -> Option<String> {
    let id = error
        .get("details")?
        .as_str()?
        .strip_prefix("Node ID '#")?
        .strip_suffix('\'')?;
    graph
        .contains_key(id)
        .then(|| format!("prompt.{id}.class_type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_name_node_input_and_what_exists() {
        let node_errors = json!({"1": {"errors": [{"type": "value_not_in_list",
        "message": "Value not in list", "details": "ckpt_name: 'nope' not in []",
            "extra_info": {
                "input_name": "ckpt_name",
                "input_config": [["a.safetensors", "b.ckpt"], {}],
                "received_value": "nope"
            }}], "class_type": "CheckpointLoaderSimple"}});
        let failure = rejected(
            &json!({"message": "Prompt outputs failed validation", "details": ""}),
            node_errors,
            &Map::new(),
            &Catalogue::default(),
        );
        assert_eq!(
            failure.message,
            "Failed to queue prompt: node 1 (CheckpointLoaderSimple), input \"ckpt_name\": \
             \"nope\" does not exist; there are: a.safetensors, b.ckpt"
        );
        assert_eq!(
            failure.location.as_deref(),
            Some("prompt.1.inputs.ckpt_name")
        );
    }

    #[test]
    fn a_missing_class_is_located() {
        let graph = json!({"1": {}});
        let failure = rejected(
            &json!({
                "message": "Cannot execute because node X does not exist.",
                "details": "Node ID '#1'"
            }),
            json!({}),
            graph.as_object().unwrap(),
            &Catalogue::default(),
        );
        assert_eq!(
            failure.message,
            "Failed to queue prompt: Cannot execute because node X does not exist: Node ID '#1'"
        );
        assert_eq!(failure.location.as_deref(), Some("prompt.1.class_type"));
    }
}
