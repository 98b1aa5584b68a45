//! Which list of saved values a node has (`widgets_values`), whatever version of the editor wrote
//! it.

use serde_json::Value;

use super::model::Node;
use super::sockets::{Saved, controls_of, is_implicit, is_widget, vhs_values};
use crate::graph::catalogue::{Control, NodeClass};

/// The saved values of a node of a class.
pub fn of<'a>(node: &Node<'a>, class: &'a NodeClass) -> Saved<'a> {
    let is_vhs = node.class.starts_with("VHS_");
    match node.raw.get("widgets_values") {
        Some(Value::Object(map)) if is_vhs => Saved::Names(vhs_values(node.class, map)),
        Some(Value::Array(list)) if is_vhs => match super::sockets::vhs_list(node.class, list) {
            Some(map) => Saved::Names(map),
            None => Saved::list(list.iter()),
        },
        Some(Value::Object(map)) => {
            if map.len() == places(class, false) {
                Saved::list(map.values())
            } else {
                Saved::nothing()
            }
        }
        Some(Value::Array(list)) => of_list(node, class, list),
        _ => Saved::nothing(),
    }
}

fn of_list<'a>(node: &Node<'a>, class: &'a NodeClass, list: &'a [Value]) -> Saved<'a> {
    if node.class.ends_with("(LoraManager)") {
        // The pack saves values of its own between those of its widgets.
        return Saved::list(
            list.iter()
                .filter(|value| value.get("textWidgetName").is_none()),
        );
    }
    let forced = forced(class);
    // As many as today's editor saves: they are in place.
    let as_today = list.len() == places(class, true);
    if forced.len() == list.len() && forced.contains(&true) && !as_today {
        let kept = list.iter().zip(forced).filter(|(_, forced)| !forced);
        return Saved::list(kept.map(|(value, _)| value));
    }
    Saved::list(list.iter())
}

/// Older editors saved a value for sockets that are forced, too: whether each place belongs to one.
fn forced(class: &NodeClass) -> Vec<bool> {
    let mut forced = Vec::new();
    for input in &class.inputs {
        if is_widget(input) || input.force_input {
            forced.push(input.force_input);
            if input.control == Control::On {
                forced.push(false);
            }
        }
    }
    forced
}

/// How many values a class's widgets save, with or without the controls of implicit seeds.
fn places(class: &NodeClass, implicit: bool) -> usize {
    let widgets = class.inputs.iter().filter(|input| is_widget(input));
    widgets
        .map(|input| match is_implicit(input, &input.name) {
            true => 1 + usize::from(implicit),
            false => 1 + controls_of(input, &input.name),
        })
        .sum()
}
