//! Of a gateway (fleet.md): which queue a run goes to, and what comes first there. Every tool that
//! runs something takes both; an input of a workflow that has one of these names stays the
//! workflow's.

use serde_json::{Map, Value, json};

use super::context::Context;
use super::result::ToolFailure;
use crate::error::Failure;

/// The arguments.
pub const NAMES: [&str; 2] = ["queue", "priority"];
/// The highest priority.
const HIGHEST: u64 = 9;

/// The queues that may be named; `None` where there is no fleet.
fn queues(context: &Context) -> Option<&[String]> {
    let config = &context.state.rest.config;
    config
        .is_gateway
        .then_some(config.gateway.queues.as_slice())
}

/// Adds both to what a tool takes.
pub fn describe(context: &Context, schema: &mut Value) {
    let (Some(queues), Some(schema)) = (queues(context), schema.as_object_mut()) else {
        return;
    };
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    let Some(properties) = properties.as_object_mut() else {
        return;
    };
    let added = [
        json!({
            "type": "string",
            "enum": queues,
            "default": queues.first(),
            "description": "The queue of the fleet that it goes to: which machines may take it.",
        }),
        json!({
            "type": "integer",
            "minimum": 0,
            "maximum": HIGHEST,
            "default": 0,
            "description": "What waits in the same queue with a higher one is taken first.",
        }),
    ];
    for (name, property) in NAMES.into_iter().zip(added) {
        properties.entry(name).or_insert(property);
    }
}

/// Takes them out of the arguments of a workflow's tool, if it does not have them itself.
pub fn take(
    context: &Context,
    schema: &Value,
    arguments: &mut Map<String, Value>,
) -> Map<String, Value> {
    if queues(context).is_none() {
        return Map::new();
    }
    let own = schema.get("properties").and_then(Value::as_object);
    let taken = NAMES
        .into_iter()
        .filter(|name| own.is_none_or(|own| !own.contains_key(*name)));
    taken
        .filter_map(|name| Some((name.to_owned(), arguments.shift_remove(name)?)))
        .filter(|(_, value)| !value.is_null())
        .collect()
}

/// Refuses what no fleet could do. Without one they are ignored, with a warning that the pipeline
/// gives.
///
/// # Errors
/// Names the argument.
pub fn check(context: &Context, chosen: &Map<String, Value>) -> Result<(), ToolFailure> {
    let Some(queues) = queues(context) else {
        return Ok(());
    };
    if let Some(queue) = chosen.get("queue")
        && !queues.iter().any(|known| queue == known)
    {
        let message = format!("it must be one of: {}", queues.join(", "));
        return Err(Failure::invalid("input.queue", message).into());
    }
    let fits = |value: &Value| value.as_u64().is_some_and(|number| number <= HIGHEST);
    if chosen.get("priority").is_some_and(|value| !fits(value)) {
        let message = format!("it must be a whole number from 0 to {HIGHEST}");
        return Err(Failure::invalid("input.priority", message).into());
    }
    Ok(())
}
