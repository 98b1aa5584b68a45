//! `search_nodes`, `describe_node`.

use serde_json::{Map, Value, json};

use super::super::context::Context;
use super::super::result::ToolFailure;
use super::arguments::{Arguments, invalid};
use crate::comfy::conversion;
use crate::comfy::input_kind::options;
use crate::error::Failure;
use crate::graph::catalogue::NodeClass;
use crate::limits::text::quoted;

/// Classes of one list.
const MOST: usize = 200;
/// Choices of one input.
const CHOICES: usize = 50;
/// Characters of a description in a list.
const BRIEF: usize = 300;

/// Finds classes whose name, title, category or description has all words.
pub async fn search(context: &Context, mut arguments: Arguments) -> Result<Value, ToolFailure> {
    let query = arguments.needed("query")?.to_lowercase();
    let limit = arguments.limit(20, MOST)?;
    let words: Vec<&str> = query.split_whitespace().collect();
    if words.is_empty() {
        return Err(invalid("query", "it holds no word"));
    }
    let comfy = &context.state.rest.comfy;
    let classes = comfy.node_classes().ok_or_else(conversion::unknown_yet)?;
    let mut found: Vec<(usize, &str, &NodeClass)> = classes
        .all()
        .filter_map(|(name, class)| Some((rank(&words, name, class)?, name, class)))
        .collect();
    found.sort_by(|a, b| (a.0, a.1.len(), a.1).cmp(&(b.0, b.1.len(), b.1)));
    found.truncate(limit);
    let nodes: Vec<Value> = found
        .into_iter()
        .map(|(_, name, class)| {
            let brief: String = class.description.chars().take(BRIEF).collect();
            json!({
                "class_type": name,
                "title": class.display_name,
                "category": class.category,
                "description": brief,
            })
        })
        .collect();
    Ok(json!({"nodes": nodes}))
}

/// Where the words were found: names come before descriptions.
fn rank(words: &[&str], name: &str, class: &NodeClass) -> Option<usize> {
    let places = [
        name,
        &class.display_name,
        &class.category,
        &class.description,
    ]
    .map(str::to_lowercase);
    words.iter().try_fold(0, |sum, word| {
        let at = places.iter().position(|place| place.contains(word))?;
        Some(sum + at)
    })
}

/// One class, as ComfyUI describes it at this moment.
pub async fn describe(context: &Context, mut arguments: Arguments) -> Result<Value, ToolFailure> {
    let class = arguments.needed("class_type")?;
    let about = described(context, &class).await?;
    let about = about.as_ref().and_then(Value::as_object).ok_or_else(|| {
        ToolFailure::unknown(format!(
            "there is no node class \"{}\": search_nodes finds those there are",
            quoted(&class)
        ))
    })?;
    let text = |name: &str| about.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut inputs = Vec::new();
    for (group, required) in [("required", true), ("optional", false)] {
        let members = about
            .get("input")
            .and_then(|input| input.get(group))
            .and_then(Value::as_object);
        for (name, spec) in members.into_iter().flatten() {
            inputs.push(input(name, spec, required));
        }
    }
    Ok(json!({
        "class_type": class,
        "title": about.get("display_name").and_then(Value::as_str).unwrap_or(&class),
        "category": text("category"),
        "description": text("description"),
        "output_node": about.get("output_node").and_then(Value::as_bool).unwrap_or(false),
        "inputs": inputs,
        "outputs": outputs(about),
    }))
}

/// What ComfyUI says of a class; behind a gateway, what its instances have said last.
async fn described(context: &Context, class: &str) -> Result<Option<Value>, ToolFailure> {
    let rest = &context.state.rest;
    if !rest.config.is_gateway {
        let client = &rest.comfy.any().client;
        let mut info = client.class_info(class).await.map_err(Failure::from)?;
        return Ok(info.get_mut(class).map(Value::take));
    }
    let described = rest.comfy.catalogue().described.clone();
    let described = described.ok_or_else(conversion::unknown_yet)?;
    let class = class.to_owned();
    let reading = tokio::task::spawn_blocking(move || described.class(&class));
    let read = reading.await;
    Ok(read.map_err(|_| crate::error::panicked("reading the catalogue of the instances"))?)
}

fn input(name: &str, spec: &Value, required: bool) -> Value {
    let mut described = Map::new();
    let kind = match spec.get(0) {
        Some(Value::String(kind)) => kind.clone(),
        _ => "COMBO".to_owned(),
    };
    described.insert("name".into(), name.into());
    described.insert("type".into(), kind.into());
    described.insert("required".into(), required.into());
    let more = spec.get(1).and_then(Value::as_object);
    for known in ["default", "min", "max", "step", "multiline", "tooltip"] {
        if let Some(value) = more.and_then(|more| more.get(known)) {
            described.insert(known.into(), value.clone());
        }
    }
    if let Some(mut choices) = options(spec) {
        let left_out = choices.len().saturating_sub(CHOICES);
        choices.truncate(CHOICES);
        described.insert("choices".into(), choices.into());
        if left_out > 0 {
            described.insert("choices_left_out".into(), left_out.into());
        }
    }
    described.into()
}

fn outputs(about: &Map<String, Value>) -> Vec<Value> {
    let list = |name: &str| {
        about
            .get(name)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let names = list("output_name");
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| "COMBO".to_owned(), str::to_owned)
    };
    list("output")
        .iter()
        .enumerate()
        .map(|(at, kind)| {
            let kind = text(kind);
            let name = names.get(at).map_or_else(|| kind.clone(), text);
            json!({"name": name, "type": kind})
        })
        .collect()
}
