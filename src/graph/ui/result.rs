//! From the workflow to the graph that ComfyUI's API takes.

use serde_json::{Map, Value, json};

use super::error::{self, ConversionError, Offender};
use super::expand::Frames;
use super::model::{Mode, Node, Role, Warnings, Widget, Workflow, shown};
use super::names::{Names, saves};
use super::resolve::{Arrival, Resolver};
use super::text;

/// What a graph is made with.
pub struct Surroundings<'c> {
    pub names: &'c Names,
    pub chance: &'c mut dyn FnMut(usize) -> usize,
    /// A number from the first to below the second.
    pub between: &'c mut dyn FnMut(i64, i64) -> i64,
}

/// The graph, and the titles of instances by execution id.
pub fn graph(
    workflow: &Workflow<'_>,
    frames: &Frames,
    around: &mut Surroundings<'_>,
    warnings: &mut Warnings,
) -> Result<Map<String, Value>, ConversionError> {
    offenders(workflow, frames)?;
    let mut resolver = Resolver::new(workflow, frames);
    let mut graph = Map::new();
    for frame in 0..frames.len() {
        let nodes = &workflow.graphs[frames.graph(frame)].nodes;
        for (place, node) in nodes.iter().enumerate() {
            let Role::Class(class) = node.role else {
                continue;
            };
            if node.mode != Mode::Active {
                continue;
            }
            let mut inputs = widgets(workflow, node, around);
            for (slot, socket) in node.inputs.iter().enumerate() {
                if socket.link.is_none() {
                    continue;
                }
                match resolver.input(frame, place, slot)? {
                    Arrival::Output(id, slot) => {
                        inputs.insert(socket.name.to_string(), json!([id, slot]));
                    }
                    Arrival::Value(value) => {
                        inputs.insert(socket.name.to_string(), wrapped(None, value));
                    }
                    Arrival::Nothing => {}
                }
            }
            browser_values(workflow, frames, (frame, place), &inputs, warnings);
            disagreeing(workflow, frames, (frame, place), warnings);
            let mut sent = Map::new();
            sent.insert("class_type".into(), node.class.into());
            sent.insert("inputs".into(), Value::Object(inputs));
            let title = node.own_title().unwrap_or(&class.display_name);
            sent.insert("_meta".into(), meta(node, title));
            graph.insert(frames.id(workflow, frame, place), Value::Object(sent));
        }
    }
    for text in resolver.warnings.into_texts() {
        warnings.say(text);
    }
    Ok(graph)
}

fn meta(node: &Node<'_>, title: &str) -> Value {
    let mut meta = Map::new();
    meta.insert("title".into(), title.into());
    for name in ["cnr_id", "aux_id", "ver"] {
        if let Some(Value::String(text)) = node.raw.property(name) {
            meta.insert(name.into(), text.clone().into());
        }
    }
    Value::Object(meta)
}

/// The values of the widgets, as they are sent.
fn widgets(
    workflow: &Workflow<'_>,
    node: &Node<'_>,
    around: &mut Surroundings<'_>,
) -> Map<String, Value> {
    let mut inputs = Map::new();
    for widget in node.widgets.iter().filter(|widget| widget.sent) {
        let Some(value) = &widget.value else { continue };
        let value = match value {
            Value::String(text) if widget.input.is_some_and(|input| input.dynamic_prompts) => {
                Value::String(text::dynamic_prompt(text, around.chance))
            }
            Value::String(text) if widget.name == "filename_prefix" && saves(node.class) => {
                Value::String(around.names.replace(workflow, text))
            }
            Value::Number(number) if node.class == "Seed (rgthree)" && widget.name == "seed" => {
                match number.as_i64() {
                    Some(-3..=-1) => random_seed(node, around),
                    _ => value.clone(),
                }
            }
            value => value.clone(),
        };
        inputs.insert(widget.name.to_string(), wrapped(Some(widget), value));
    }
    inputs
}

/// rgthree's seed: -1, -2, -3 are a random number.
fn random_seed(node: &Node<'_>, around: &mut Surroundings<'_>) -> Value {
    let bound = |name: &str, otherwise: i64| {
        let value = node.raw.property(name);
        value
            .and_then(|v| v.as_i64().or_else(|| v.as_f64().map(|f| f as i64)))
            .unwrap_or(otherwise)
    };
    let (min, max) = (bound("randomMin", 0), bound("randomMax", 1 << 50));
    json!((around.between)(min, max.max(min.saturating_add(1))))
}

/// Lists are told from links.
fn wrapped(widget: Option<&Widget<'_>>, value: Value) -> Value {
    let kind = widget
        .and_then(|widget| widget.input)
        .map(|input| input.widget_kind());
    match value {
        Value::Array(list) => json!({"__value__": list}),
        Value::Object(map) if kind == Some("CURVE") => {
            json!({"__type__": "CURVE", "__value__": map})
        }
        value => value,
    }
}

/// Says which values only a browser can make.
fn browser_values(
    workflow: &Workflow<'_>,
    frames: &Frames,
    at: (usize, usize),
    inputs: &Map<String, Value>,
    warnings: &mut Warnings,
) {
    let node = &workflow.graphs[frames.graph(at.0)].nodes[at.1];
    for widget in &node.widgets {
        let what = match widget.input.map(|input| input.widget_kind()) {
            Some("LOAD_3D") => "a 3D scene",
            Some("WEBCAM") => "a picture of a webcam",
            Some("AUDIO_RECORD") => "a recording",
            _ => continue,
        };
        if inputs
            .get(widget.name.as_ref())
            .is_some_and(Value::is_array)
        {
            continue;
        }
        warnings.say(format!(
            "\"{}\" of {} is {what}, which only a browser can make; it is sent as it was saved",
            shown(&widget.name),
            frames.named(workflow, at.0, at.1),
        ));
    }
}

/// Says where the values by name are others than those by place, which count.
fn disagreeing(
    workflow: &Workflow<'_>,
    frames: &Frames,
    at: (usize, usize),
    warnings: &mut Warnings,
) {
    let node = &workflow.graphs[frames.graph(at.0)].nodes[at.1];
    let Some(Value::Object(named)) = node.raw.get("widgets_values_named") else {
        return;
    };
    if node.class.starts_with("VHS_") || node.class.ends_with(" (rgthree)") {
        return;
    }
    for (slot, socket) in node.inputs.iter().enumerate() {
        let Some(widget) = socket.widget.and_then(|widget| node.widgets.get(widget)) else {
            continue;
        };
        let written = node.link_at(slot).is_some() || widget.name.starts_with("Select to add");
        let (Some(input), Some(other)) = (widget.input, named.get(widget.name.as_ref())) else {
            continue;
        };
        let agrees = match &widget.value {
            _ if written || other.is_null() => true,
            Some(value) => {
                agree(value, other) || other.get("content").is_some_and(|c| agree(value, c))
            }
            None => false,
        };
        let as_text = input.multiline
            && widget.value.as_ref().and_then(Value::as_str) == Some(&text::javascript(other));
        if !agrees && !as_text {
            warnings.say(format!(
                "\"{}\" of {} has another value by name (widgets_values_named) than by place; \
                 that by place is sent, as the editor does",
                shown(&widget.name),
                frames.named(workflow, at.0, at.1),
            ));
        }
    }
}

/// Equal, with 1 and 1.0 the same.
fn agree(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// Nodes that ComfyUI cannot run.
fn offenders(workflow: &Workflow<'_>, frames: &Frames) -> Result<(), ConversionError> {
    let (mut unknown, mut undefined) = (Vec::new(), Vec::new());
    for frame in 0..frames.len() {
        let graph = frames.graph(frame);
        for (place, node) in workflow.graphs[graph].nodes.iter().enumerate() {
            if node.mode != Mode::Active || !matches!(node.role, Role::Unknown | Role::Undefined) {
                continue;
            }
            let package = ["cnr_id", "aux_id"]
                .iter()
                .find_map(|name| node.raw.property(name)?.as_str());
            let offender = Offender {
                id: frames.id(workflow, frame, place),
                class: node.class.to_owned(),
                title: frames.title(workflow, frame, place),
                package: package.map(str::to_owned),
                location: if graph == 0 {
                    format!("nodes.{place}")
                } else {
                    "definitions".into()
                },
            };
            match node.role {
                Role::Unknown => unknown.push(offender),
                _ => undefined.push(offender),
            }
        }
    }
    if !unknown.is_empty() {
        return Err(error::unknown_classes(&unknown));
    }
    if !undefined.is_empty() {
        return Err(error::undefined(&undefined));
    }
    Ok(())
}
