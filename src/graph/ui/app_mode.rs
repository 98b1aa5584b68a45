//! App mode: the inputs that a workflow's author exposed (`extra.linearData`), with a schema for
//! each.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::model::{ROOT, Role, Workflow, id_text, shown};
use super::{ConversionError, Moment, assemble, convert_with, file, promote};
use crate::graph::catalogue::{InputDefinition, NodeClasses, Upload};

/// One exposed input.
#[derive(Debug, Clone)]
pub struct AppInput {
    /// What callers call it.
    pub name: String,
    /// JSON Schema.
    pub schema: Value,
    /// A node of the root graph, by its id in the file.
    pub node: String,
    /// The node's widget.
    pub widget: String,
    /// The media type of the files that it takes.
    pub media_type: Option<&'static str>,
    /// Which other inputs there are depends on its value.
    decides: bool,
}

/// Where the exposed inputs are in the graph that the workflow becomes, in their order, as
/// `<node>.inputs.<name>`; and what is said of those that no longer exist.
///
/// # Errors
/// When the workflow cannot be converted.
pub fn paths(
    workflow: &Map<String, Value>,
    classes: &NodeClasses,
) -> Result<(Vec<String>, Vec<String>), ConversionError> {
    let (inputs, warnings) = inputs(workflow, classes)?;
    if inputs.is_empty() {
        return Ok((Vec::new(), warnings));
    }
    // Where a value comes out is found by following one that is nowhere else.
    let mark = |place: usize| format!("\u{1}exposed {place}\u{1}");
    let settings: Vec<Setting> = inputs
        .iter()
        .enumerate()
        .filter(|(_, input)| !input.decides)
        .map(|(place, input)| Setting {
            node: input.node.clone(),
            widget: input.widget.clone(),
            value: mark(place).into(),
        })
        .collect();
    let marked = convert_with(workflow, classes, Moment::now(), &settings)?.prompt;
    let mut places: HashMap<&str, Vec<String>> = HashMap::new();
    for (id, node) in &marked {
        let values = node.get("inputs").and_then(Value::as_object);
        for (name, value) in values.into_iter().flatten() {
            if let Some(text) = value.as_str().filter(|text| text.starts_with('\u{1}')) {
                places
                    .entry(text)
                    .or_default()
                    .push(format!("{id}.inputs.{name}"));
            }
        }
    }
    let paths = inputs.iter().enumerate().flat_map(|(place, input)| {
        let direct = || vec![format!("{}.inputs.{}", input.node, input.widget)];
        places.remove(mark(place).as_str()).unwrap_or_else(direct)
    });
    Ok((paths.collect(), warnings))
}

/// The exposed inputs in their order, and what is said of those that no longer exist.
///
/// # Errors
/// When the workflow cannot be read.
pub fn inputs(
    workflow: &Map<String, Value>,
    classes: &NodeClasses,
) -> Result<(Vec<AppInput>, Vec<String>), ConversionError> {
    let listed = listed(workflow);
    if listed.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let (workflow, _) = assemble::assemble(file::read(workflow, classes)?, classes)?;
    let mut warnings = Vec::new();
    let mut found = Vec::new();
    for (node, widget) in listed {
        match exposed(&workflow, &node, &widget) {
            Some((title, schema, input)) => found.push((
                title,
                AppInput {
                    name: widget.clone(),
                    schema,
                    node,
                    widget,
                    media_type: input.and_then(InputDefinition::media_type),
                    decides: input.is_some_and(|input| {
                        input.widget_kind() == "COMFY_DYNAMICCOMBO_V3" || input.has_formats()
                    }),
                },
            )),
            None => warnings.push(format!(
                "the workflow exposes \"{}\" of node {}, which does not exist any more",
                shown(&widget),
                shown(&node)
            )),
        }
    }
    let mut times: HashMap<String, usize> = HashMap::new();
    for (_, input) in &found {
        *times.entry(input.widget.clone()).or_insert(0) += 1;
    }
    let mut taken: HashMap<String, usize> = HashMap::new();
    let named = found.into_iter().map(|(title, mut input)| {
        if times.get(&input.widget).is_some_and(|times| *times > 1) {
            input.name = format!("{title}.{}", input.widget);
        }
        let again = taken.entry(input.name.clone()).or_insert(0);
        *again += 1;
        if *again > 1 {
            // Nodes with one title: their ids tell them apart.
            input.name = format!("{}.{}", input.node, input.widget);
        }
        input
    });
    Ok((named.collect(), warnings))
}

fn listed(workflow: &Map<String, Value>) -> Vec<(String, String)> {
    let inputs = workflow
        .get("extra")
        .and_then(|extra| extra.pointer("/linearData/inputs"))
        .and_then(Value::as_array);
    inputs
        .into_iter()
        .flatten()
        .filter_map(|entry| Some((id_text(entry.get(0)?)?, entry.get(1)?.as_str()?.to_owned())))
        .take(1000)
        .collect()
}

/// The title of a node, and the schema of its widget.
fn exposed<'a>(
    workflow: &Workflow<'a>,
    node: &str,
    widget: &str,
) -> Option<(String, Value, Option<&'a InputDefinition>)> {
    let place = workflow.graphs.get(ROOT)?.by_file_id.get(node).copied()?;
    let at = &workflow.graphs[ROOT].nodes[place];
    let (input, value) = match at.role {
        Role::Instance(_) => {
            let (slot, place_of_instance) = (at.socket(widget)?, place);
            let (graph, inner, place) = promote::widget_at(workflow, ROOT, place, slot)?;
            let input = workflow.graphs[graph].nodes[inner].widgets[place].input;
            (
                input,
                promote::value(workflow, ROOT, place_of_instance, slot),
            )
        }
        Role::Primitive if widget == "value" => {
            (None, at.raw.list("widgets_values").first().cloned())
        }
        _ => {
            let widget = &at.widgets[at.widget(widget)?];
            (widget.input, widget.value.clone())
        }
    };
    Some((
        workflow.title(ROOT, place).to_owned(),
        schema(input, value),
        input,
    ))
}

fn schema(input: Option<&InputDefinition>, value: Option<Value>) -> Value {
    let mut schema = Map::new();
    let kind = match input.map(|input| input.widget_kind()) {
        Some("INT") => Some("integer"),
        Some("FLOAT") => Some("number"),
        Some("BOOLEAN") => Some("boolean"),
        Some("STRING" | "TEXTAREA" | "MARKDOWN" | "COLOR") => Some("string"),
        // Files can be sent as URLs or base64.
        Some("COMBO") if input.is_some_and(|input| input.upload() != Upload::None) => {
            Some("string")
        }
        _ => None,
    };
    if let Some(kind) = kind {
        schema.insert("type".into(), kind.into());
    }
    if let Some(input) = input {
        if matches!(kind, Some("integer" | "number")) {
            for (name, limit) in [("minimum", &input.min), ("maximum", &input.max)] {
                if let Some(limit) = limit {
                    schema.insert(name.into(), limit.clone());
                }
            }
        }
        let choices: Vec<Value> = match input.widget_kind() {
            "COMBO" if kind.is_none() => input
                .choices
                .as_ref()
                .map(|c| c.to_vec())
                .unwrap_or_default(),
            "COMFY_DYNAMICCOMBO_V3" => input.options().iter().map(|o| o.key.clone()).collect(),
            _ => Vec::new(),
        };
        if !choices.is_empty() {
            schema.insert("enum".into(), choices.into());
        }
    }
    if let Some(value) = value.filter(|value| !value.is_null()) {
        schema.insert("default".into(), value);
    }
    Value::Object(schema)
}

/// A value for a widget of the root graph.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The node's id in the file.
    pub node: String,
    /// The widget.
    pub widget: String,
    /// What it is set to.
    pub value: Value,
}

/// Sets widgets as a person does in the editor.
pub(super) fn set(workflow: &mut Workflow<'_>, settings: &[Setting]) {
    for setting in settings {
        let graph = &mut workflow.graphs[ROOT];
        let Some(place) = graph.by_file_id.get(&setting.node).copied() else {
            continue;
        };
        let node = &mut graph.nodes[place];
        if matches!(node.role, Role::Instance(_)) {
            if let Some(slot) = node.socket(&setting.widget) {
                node.host_values.insert(slot, setting.value.clone());
            }
        } else if matches!(node.role, Role::Primitive) {
            node.host_values.insert(0, setting.value.clone());
        } else if let Some(widget) = node.widget(&setting.widget) {
            node.widgets[widget].value = Some(setting.value.clone());
        }
    }
}
