//! Plain workflows: a graph with a header that names its inputs, or a file as the editor saves it. No JavaScript.

mod editor;
mod known;
mod schema;

use std::path::Path;

use rand::Rng;
use serde_json::{Map, Value, json};

use super::Generated;
use super::source::Fault;
use crate::graph::catalogue::NodeClasses;
use crate::graph::form;
use crate::graph::recognise;
use crate::graph::ui::ConversionError;
use crate::json::{self, JsonError};
pub use editor::read_media;
pub use schema::{Issue, validate};

/// Random seeds stay where every program counts exactly.
const LARGEST_SEED: u64 = (1 << 53) - 1;

/// A JSON file that is a workflow.
#[derive(Debug, Clone)]
pub struct PlainWorkflow {
    /// `summary`
    pub summary: Option<String>,
    /// `description`
    pub description: Option<String>,
    /// JSON Schema of the input.
    pub input: Value,
    bind: Vec<(String, Vec<Target>)>,
    /// Of names that are bound: class and input of the first place.
    bound_to: Vec<(String, String, String)>,
    graph: Graph,
}

/// What a workflow runs.
#[derive(Debug, Clone)]
enum Graph {
    /// In API format.
    Api(Map<String, Value>),
    /// As the editor saves it; converted at each call.
    Editor(editor::Saved),
}

/// Why a call cannot be answered.
#[derive(Debug)]
pub enum Refusal {
    /// The input breaks the schema.
    Input(Vec<Issue>),
    /// ComfyUI's nodes are not known yet.
    Unknown,
    /// The workflow cannot be converted.
    Workflow(ConversionError),
}

/// `<node>.inputs.<name>`
#[derive(Debug, Clone)]
struct Target {
    node: String,
    name: String,
}

/// Reads the text of a `.json` file. `None` when it is JSON of another kind, such as data that a script imports.
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
    let at = |text_to_find: &str, message: String| {
        let offset = text.find(&format!("\"{text_to_find}\"")).unwrap_or(0);
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
    };
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
    for (id, node) in prompt.into_iter().flatten() {
        if !node.get("class_type").is_some_and(Value::is_string)
            || !node.get("inputs").is_some_and(Value::is_object)
        {
            return Err(at(
                id,
                format!(
                    "node \"{id}\" of the prompt needs a class_type and inputs: export the graph in API format"
                ),
            ));
        }
    }
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
    let (mut bind, mut bound_to) = (Vec::new(), Vec::new());
    if let Some(bound) = document.get("bind") {
        let Some(bound) = bound.as_object() else {
            return Err(at(
                "bind",
                "\"bind\" must be an object from input names to \"<node>.inputs.<name>\""
                    .to_owned(),
            ));
        };
        for (name, targets) in bound {
            let targets = targets_of(targets, prompt)
                .map_err(|(text, message)| at(&text, format!("bind of \"{name}\": {message}")))?;
            declare(
                &mut input,
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

/// The graph under `prompt`. A header without one is a mistake: where to look, and a sentence.
fn graph_of(document: &Value) -> Result<Option<&Map<String, Value>>, (&'static str, String)> {
    // A bare graph has nodes at its top level, objects with a class_type; a node could even be called "prompt".
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
                "there is \"{name}\" but no \"prompt\": put the graph there, exported in API format"
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

/// A bound name that the schema does not describe gets the type of the value it replaces, which is also its default.
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

impl Target {
    fn value<'a>(&self, prompt: &'a Map<String, Value>) -> Option<&'a Value> {
        prompt
            .get(&self.node)?
            .get("inputs")?
            .get(&self.name)
            .filter(|value| !value.is_array())
    }
}

impl PlainWorkflow {
    /// The parsed input and the graph with it filled in.
    ///
    /// # Errors
    /// Every way in which the input breaks the schema; a workflow that cannot be converted.
    pub fn generate(
        &self,
        input: &Value,
        classes: Option<&NodeClasses>,
    ) -> Result<Generated, Refusal> {
        let mut input = validate(&self.input, input).map_err(Refusal::Input)?;
        self.choose_seed(&mut input);
        let (mut prompt, workflow, warnings) = match &self.graph {
            Graph::Api(graph) => (graph.clone(), None, Vec::new()),
            Graph::Editor(saved) => saved.convert(&input, classes)?,
        };
        for (name, targets) in &self.bind {
            let Some(value) = input.get(name) else {
                continue;
            };
            for target in targets {
                let inputs = prompt
                    .get_mut(&target.node)
                    .and_then(|node| node.get_mut("inputs"))
                    .and_then(Value::as_object_mut);
                if let Some(inputs) = inputs {
                    inputs.insert(target.name.clone(), value.clone());
                }
            }
        }
        Ok(Generated {
            input,
            prompt: Value::Object(prompt),
            workflow,
            warnings,
        })
    }

    /// Adds to the schema of the input which of its members are media, where the input of the node that they go to says so.
    pub fn name_media(&self, schema: &mut Value, classes: Option<&NodeClasses>) {
        let bound = self.bound_to.iter().filter_map(|(name, class, input)| {
            let definition = form::definition(classes, class, input);
            Some((name.as_str(), form::media_type(input, definition)?))
        });
        let exposed = match &self.graph {
            Graph::Api(_) => Vec::new(),
            Graph::Editor(saved) => saved.media(),
        };
        for (name, media_type) in bound.chain(exposed) {
            let member = schema
                .get_mut("properties")
                .and_then(|properties| properties.get_mut(name))
                .and_then(Value::as_object_mut);
            if let Some(member) = member {
                member
                    .entry("contentMediaType")
                    .or_insert_with(|| media_type.into());
            }
        }
    }

    fn choose_seed(&self, input: &mut Value) {
        let bound = self.bind.iter().any(|(name, _)| name == "seed");
        if let (true, Some(object)) = (
            bound && input.get("seed").is_none_or(Value::is_null),
            input.as_object_mut(),
        ) {
            let field = known::described(&self.input, "seed");
            let limit = |name: &str| {
                field
                    .and_then(|field| field.get(name))
                    .and_then(Value::as_u64)
            };
            let low = limit("minimum").unwrap_or(0).min(LARGEST_SEED);
            let high = limit("maximum")
                .unwrap_or(LARGEST_SEED)
                .clamp(low, LARGEST_SEED);
            object.insert(
                "seed".to_owned(),
                rand::rng().random_range(low..=high).into(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(document: &Value) -> Result<Option<PlainWorkflow>, Fault> {
        read(Path::new("w.json"), &document.to_string(), None)
    }

    #[test]
    fn a_header_without_a_graph_is_an_error_and_other_json_is_ignored() {
        let node = json!({"class_type": "X", "inputs": {}});
        for (document, expected) in [
            (json!({"bind": {}}), "there is \"bind\" but no \"prompt\""),
            (
                json!({"summary": "s", "input": {"type": "object"}}),
                "there is \"input\" but no \"prompt\"",
            ),
            (
                json!({"input": {}, "prompt": "a cat"}),
                "\"prompt\" must be an object of nodes",
            ),
            (
                json!({"input": {}, "prompt": null}),
                "\"prompt\" must be an object of nodes",
            ),
            (
                json!({"bind": {}, "prompt": node}),
                "\"prompt\" must be an object of nodes",
            ),
        ] {
            let fault = reading(&document).unwrap_err();
            assert!(
                fault.message.contains(expected) && fault.line == 1,
                "{document}: {fault:?}"
            );
        }
        for document in [json!({"name": "x"}), json!({"prompt": "a cat"}), json!([1])] {
            assert!(reading(&document).unwrap().is_none(), "{document}");
        }
        for document in [
            json!({"prompt": {"1": node}}),
            // Bare graphs, of which one has nodes called like the header's members.
            json!({"1": node}),
            json!({"prompt": node, "input": node, "bind": node}),
            json!({"nodes": [], "links": []}),
        ] {
            assert!(reading(&document).unwrap().is_some(), "{document}");
        }
    }

    #[test]
    fn bound_names_that_an_alternative_describes_are_left_to_it() {
        let workflow = reading(&json!({
            "input": {"allOf": [
                {"properties": {"text": {"type": "string"}}, "required": ["text"]},
                {"properties": {"seed": {"type": "integer", "minimum": 5, "maximum": 6}}},
            ]},
            "bind": {"text": "1.inputs.text", "seed": "1.inputs.seed"},
            "prompt": {"1": {"class_type": "X", "inputs": {"text": "old", "seed": 1}}},
        }));
        let workflow = workflow.unwrap().unwrap();
        let Err(Refusal::Input(issues)) = workflow.generate(&json!({}), None) else {
            panic!("accepted")
        };
        assert_eq!(issues[0].path, [json!("text")]);
        let Generated { input, prompt, .. } = workflow
            .generate(&json!({"text": "new", "junk": 1}), None)
            .unwrap();
        let seed = input["seed"].as_u64().unwrap();
        assert!((5..=6).contains(&seed));
        assert_eq!(input, json!({"text": "new", "seed": seed}));
        assert_eq!(prompt["1"]["inputs"], json!({"text": "new", "seed": seed}));
    }
}
