//! Widgets that only the JavaScript of packs makes, and values of older versions of packs.

mod rgthree;
mod vhs;

use serde_json::Value;

use super::Saved;
use crate::graph::ui::model::{Node, Widget};
pub use vhs::{list as vhs_list, values as vhs_values};

/// Adds what the class does not list. `saved` are the values that the class's widgets have not
/// taken.
pub fn finish(node: &mut Node<'_>, saved: &mut Saved<'_>) {
    if node.class.ends_with(" (rgthree)") {
        rgthree::finish(node);
    } else if node.class == "TriggerWord Toggle (LoraManager)" {
        for name in ["toggle_trigger_words", "orinalMessage"] {
            if let Some(value) = saved.take(name) {
                add(node, name.to_owned(), value);
            }
        }
    }
}

/// A widget that is sent.
fn add(node: &mut Node<'_>, name: String, value: Value) {
    match node.widget(&name) {
        Some(place) => node.widgets[place].value = Some(value),
        None => node.widgets.push(Widget {
            name: name.into(),
            input: None,
            value: Some(value),
            sent: true,
        }),
    }
}

/// What `widgets_values_named` has beyond the class is sent, unless it is null or empty.
pub fn named(node: &mut Node<'_>) {
    let Some(Value::Object(named)) = node.raw.get("widgets_values_named") else {
        return;
    };
    for (name, value) in named {
        let is_empty = match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        let is_known = node.widget(name).is_some() || node.socket(name).is_some();
        if !is_empty && !is_known && !is_unsent(name) {
            add(node, name.clone(), value.clone());
        }
    }
}

/// Widgets that the editor itself adds and never sends.
fn is_unsent(name: &str) -> bool {
    let name = name.split_once('#').map_or(name, |(name, _)| name);
    matches!(
        name,
        "control_after_generate"
            | "control_filter_list"
            | "control_before_generate"
            | "upload"
            | "audioUI"
            | "refresh"
            | "Auto-refresh after generation"
    ) || name.starts_with("$$")
        || name.starts_with("__lm_")
}
