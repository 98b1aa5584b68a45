//! Plain workflows: a graph with a header that names its inputs, or a file as the editor saves it.
//! No JavaScript.

mod editor;
mod known;
mod read;
mod schema;

#[cfg(test)]
mod tests;

use rand::Rng;
use serde_json::{Map, Value};

use super::Generated;
use crate::graph::catalogue::NodeClasses;
use crate::graph::form;
use crate::graph::ui::ConversionError;

pub use editor::read_media;
pub use read::read;
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

    /// Adds to the schema of the input which of its members are media, where the input of the node
    /// that they go to says so.
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
