//! A file is read.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Graph, PlainWorkflow, Target, editor, known, schema};
use crate::graph::catalogue::NodeClasses;
use crate::graph::recognise;
use crate::json;
use crate::json::JsonError;
use crate::workflow::source::Fault;

/// Reads the text of a `.json` file. `None` when it is JSON of another kind, such as data that a
/// script imports.
///
/// # Errors
/// When it is not JSON, or it has a header without a graph, or its header does not fit its graph.
pub fn read(
    path: &Path,
    text: &str,
    classes: Option<&NodeClasses>,
) -> Result<Option<PlainWorkflow>, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = json::parse(text.as_bytes().to_vec()).map_err(|error| {
        let (line, column) = match &error {
            JsonError::Syntax(error) => (error.line(), error.column()),
            _ => (0, 0),
        };
        Fault {
            message: format!("the file {error}"),
            file: path.display().to_string(),
            line: u32::try_from(line).unwrap_or(0),
            column: u32::try_from(column).unwrap_or(0),
        }
    })?;
    let at = |word: &str, message: String| fault_at(path, text, word, message);
    let Some(prompt) = graph_of(&document).map_err(|(place, message)| at(place, message))? else {
        return Ok(editor::bare(document, path, classes));
    };
    let saved = recognise::is_ui(prompt).then(|| editor::Saved::new(prompt.clone()));
    // What it becomes, as far as that can be known now.
    let converted = saved
        .as_ref()
        .and_then(|saved| saved.at_load(path, classes));
    let prompt = match (&saved, &converted) {
        (None, _) => Some(prompt),
        (Some(_), converted) => converted.as_ref(),
    };
    check_nodes(prompt).map_err(|(id, message)| at(id, message))?;
    let mut input = match document.get("input") {
        None => json!({"type": "object", "properties": {}}),
        Some(schema) if schema.is_object() => schema.clone(),
        Some(_) => {
            return Err(at(
                "input",
                "\"input\" must be a JSON Schema object".to_owned(),
            ));
        }
    };
    if let Err(message) = schema::check(&input) {
        return Err(at("input", format!("\"input\": {message}")));
    }
    let bindings = bindings(&document, prompt, &mut input);
    let (bind, bound_to) = bindings.map_err(|(word, message)| at(&word, message))?;
    let word = |name: &str| {
        document
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let graph = match saved {
        Some(saved) => Graph::Editor(saved),
        None => Graph::Api(prompt.cloned().unwrap_or_default()),
    };
    Ok(Some(PlainWorkflow {
        summary: word("summary"),
        description: word("description"),
        input,
        bind,
        bound_to,
        graph,
    }))
}

/// A fault at the first place where a word stands between quotes.
fn fault_at(path: &Path, text: &str, word: &str, message: String) -> Fault {
    let offset = text.find(&format!("\"{word}\"")).unwrap_or(0);
    let before = text.get(..offset).unwrap_or_default();
    let line = u32::try_from(before.matches('\n').count() + 1).unwrap_or(0);
    let column = u32::try_from(
        before
            .rsplit('\n')
            .next()
            .map_or(0, |last| last.chars().count())
            + 1,
    )
    .unwrap_or(0);
    Fault {
        message,
        file: path.display().to_string(),
        line,
        column,
    }
}

/// Every node has what ComfyUI needs of one; else its id, and a sentence.
fn check_nodes(prompt: Option<&Map<String, Value>>) -> Result<(), (&str, String)> {
    for (id, node) in prompt.into_iter().flatten() {
        if !node.get("class_type").is_some_and(Value::is_string)
            || !node.get("inputs").is_some_and(Value::is_object)
        {
            return Err((
                id,
                format!(
                    "node \"{id}\" of the prompt needs a class_type and inputs: export the graph \
                     in API format"
                ),
            ));
        }
    }
    Ok(())
}

/// Names of inputs with what they set; and with the class and input of the first of those.
type Bindings = (Vec<(String, Vec<Target>)>, Vec<(String, String, String)>);

/// What `bind` says; `input` gets the names that it does not describe. An error is where to look,
/// and a sentence.
fn bindings(
    document: &Value,
    prompt: Option<&Map<String, Value>>,
    input: &mut Value,
) -> Result<Bindings, (String, String)> {
    let (mut bind, mut bound_to) = (Vec::new(), Vec::new());
    if let Some(bound) = document.get("bind") {
        let Some(bound) = bound.as_object() else {
            return Err((
                "bind".to_owned(),
                "\"bind\" must be an object from input names to \"<node>.inputs.<name>\""
                    .to_owned(),
            ));
        };
        for (name, targets) in bound {
            let targets = targets_of(targets, prompt)
                .map_err(|(text, message)| (text, format!("bind of \"{name}\": {message}")))?;
            declare(
                input,
                name,
                targets
                    .first()
                    .zip(prompt)
                    .and_then(|(target, prompt)| target.value(prompt)),
            );
            let class = targets.first().zip(prompt).and_then(|(target, prompt)| {
                let class = prompt.get(&target.node)?.get("class_type")?.as_str()?;
                Some((name.clone(), class.to_owned(), target.name.clone()))
            });
            bound_to.extend(class);
            bind.push((name.clone(), targets));
        }
    }
    Ok((bind, bound_to))
}

/// The graph under `prompt`. A header without one is a mistake: where to look, and a sentence.
fn graph_of(document: &Value) -> Result<Option<&Map<String, Value>>, (&'static str, String)> {
    // A bare graph has nodes at its top level, objects with a class_type; a node could even be
    // called "prompt".
    let header = ["bind", "input"].into_iter().find(|name| {
        document
            .get(*name)
            .is_some_and(|part| part.is_object() && part.get("class_type").is_none())
    });
    match (document.get("prompt"), header) {
        (Some(Value::Object(prompt)), _) if !prompt.contains_key("class_type") => Ok(Some(prompt)),
        (_, None) => Ok(None),
        (Some(_), Some(_)) => Err((
            "prompt",
            "\"prompt\" must be an object of nodes: export the graph in API format".to_owned(),
        )),
        (None, Some(name)) => Err((
            name,
            format!(
                "there is \"{name}\" but no \"prompt\": put the graph there, exported in API \
                 format"
            ),
        )),
    }
}

fn targets_of(
    targets: &Value,
    prompt: Option<&Map<String, Value>>,
) -> Result<Vec<Target>, (String, String)> {
    let texts: Vec<&Value> = targets
        .as_array()
        .map_or_else(|| vec![targets], |list| list.iter().collect());
    texts
        .into_iter()
        .map(|text| {
            let Some(text) = text.as_str() else {
                return Err((
                    "bind".to_owned(),
                    format!("{text} is not a string \"<node>.inputs.<name>\""),
                ));
            };
            let Some((node, name)) = text.split_once(".inputs.") else {
                return Err((
                    text.to_owned(),
                    format!("\"{text}\" is not of the form \"<node>.inputs.<name>\""),
                ));
            };
            if prompt.is_some_and(|prompt| !prompt.contains_key(node)) {
                return Err((
                    text.to_owned(),
                    format!("the prompt has no node \"{node}\""),
                ));
            }
            Ok(Target {
                node: node.to_owned(),
                name: name.to_owned(),
            })
        })
        .collect()
}

/// A bound name that the schema does not describe gets the type of the value it replaces, which is
/// also its default.
fn declare(schema: &mut Value, name: &str, value: Option<&Value>) {
    if known::described(schema, name).is_some() {
        return;
    }
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    let Some(properties) = object
        .entry("properties")
        .or_insert_with(|| json!({}))
        .as_object_mut()
    else {
        return;
    };
    let mut field = match value {
        Some(Value::String(_)) => json!({"type": "string"}),
        Some(Value::Bool(_)) => json!({"type": "boolean"}),
        Some(Value::Number(number)) if number.is_f64() => json!({"type": "number"}),
        Some(Value::Number(_)) => {
            json!({"type": if name == "seed" { "integer" } else { "number" }})
        }
        _ => json!({}),
    };
    if let (Some(value), true) = (value, name != "seed") {
        field["default"] = value.clone();
    }
    properties.insert(name.to_owned(), field);
}
