//! cg-use-everywhere: broadcasts to the inputs of a graph that have no link.

mod limits;
mod senders;

use std::collections::HashMap;

use serde_json::Value;

use super::file::is_broadcaster;
use super::model::{End, Link, Mode, ROOT, Role, Workflow, shown};
use super::promote;
use limits::{Taker, color, groups_around};
use senders::Sender;

/// Comparisons of senders and takers in one graph; nobody means so many.
const MOST_COMPARED: usize = 5_000_000;

/// Gives unlinked inputs their links.
pub fn connect(workflow: &mut Workflow<'_>, place: usize) {
    let mut warnings = std::mem::take(&mut workflow.warnings);
    let sent = senders::all(workflow, place, &mut warnings);
    if sent.is_empty() {
        workflow.warnings = warnings;
        return;
    }
    let mut by_kind: HashMap<&str, Vec<&Sender>> = HashMap::new();
    for sender in &sent {
        by_kind
            .entry(sender.kind.as_str())
            .or_default()
            .push(sender);
    }
    let to_any: Vec<&Sender> = sent.iter().filter(|sender| sender.to_any).collect();
    let mut compared = 0;
    let mut found = Vec::new();
    for (target, slot) in takers(workflow, place) {
        let taker = taker(workflow, place, target, slot);
        let candidates = match taker.kind {
            "*" => &to_any,
            kind => match by_kind.get(kind) {
                Some(senders) => senders,
                None => continue,
            },
        };
        compared += candidates.len();
        if compared > MOST_COMPARED {
            warnings.say("there are too many broadcasts to work out all of them".to_owned());
            break;
        }
        let matching = candidates.iter().filter(|sender| sender.reaches(&taker));
        let mut best: Option<(f64, &Sender, bool)> = None;
        for sender in matching {
            best = match best {
                Some((priority, _, _)) if sender.priority > priority => {
                    Some((sender.priority, sender, false))
                }
                Some((priority, first, _)) if sender.priority == priority => {
                    Some((priority, first, true))
                }
                Some(best) => Some(best),
                None => Some((sender.priority, sender, false)),
            };
        }
        match best {
            Some((_, sender, false)) => found.push((target, slot, sender.origin, sender.slot)),
            Some((_, _, true)) => warnings.say(format!(
                "several broadcasts of the type {} reach \"{}\" of \"{}\" with the same priority; \
                 it gets none",
                shown(taker.kind),
                shown(taker.name),
                shown(taker.title),
            )),
            None => {}
        }
    }
    workflow.warnings = warnings;
    for (target, slot, origin, origin_slot) in found {
        link(workflow, place, target, slot, origin, origin_slot);
    }
}

/// A node, or the output side; and which of its inputs.
type Target = Option<usize>;

fn takers(workflow: &Workflow<'_>, place: usize) -> Vec<(Target, usize)> {
    let graph = &workflow.graphs[place];
    let mut takers = Vec::new();
    for (node, at) in graph.nodes.iter().enumerate() {
        let takes = matches!(
            at.role,
            Role::Class(_) | Role::Instance(_) | Role::Reroute | Role::Set(_)
        );
        let rejects = at
            .raw
            .property("rejects_ue_links")
            .is_some_and(super::text::is_truthy);
        if !takes || rejects || at.mode == Mode::Muted || is_broadcaster(at.class) {
            continue;
        }
        let rules = at.raw.property("ue_properties");
        let unconnectable = rules.and_then(|rules| rules.get("input_ue_unconnectable"));
        let connectable = rules
            .and_then(|rules| rules.get("widget_ue_connectable"))
            .or_else(|| at.raw.property("widget_ue_connectable"))
            .filter(|connectable| !connectable.is_null());
        for (slot, socket) in at.inputs.iter().enumerate() {
            if socket.link.is_some() {
                continue;
            }
            let is_widget = promote::widget_at(workflow, place, node, slot).is_some();
            let takes = match (is_widget, connectable) {
                (false, _) => !unconnectable.is_some_and(|names| has(names, &socket.name)),
                (true, Some(names)) => has(names, &socket.name),
                (true, None) => socket.listed,
            };
            if takes {
                takers.push((Some(node), slot));
            }
        }
    }
    if place != ROOT {
        let outputs = graph.outputs.iter().enumerate();
        takers.extend(
            outputs
                .filter(|(_, port)| port.links.is_empty())
                .map(|(slot, _)| (None, slot)),
        );
    }
    takers
}

/// Whether a set of names, as an object or a list, has this one.
fn has(names: &Value, name: &str) -> bool {
    match names {
        Value::Object(map) => map.get(name).is_some_and(super::text::is_truthy),
        Value::Array(list) => list.iter().any(|entry| entry.as_str() == Some(name)),
        _ => false,
    }
}

fn taker<'w>(workflow: &'w Workflow<'_>, place: usize, node: Target, slot: usize) -> Taker<'w> {
    let graph = &workflow.graphs[place];
    match node {
        Some(node) => {
            let at = &graph.nodes[node];
            let socket = &at.inputs[slot];
            Taker {
                node: Some(node),
                kind: &socket.kind,
                name: &socket.name,
                label: socket.label,
                title: workflow.title(place, node),
                groups: groups_around(workflow, place, node),
                color: color(at.raw),
            }
        }
        None => {
            let port = &graph.outputs[slot];
            Taker {
                node: None,
                kind: &port.kind,
                name: &port.name,
                label: port.label,
                title: "",
                groups: Vec::new(),
                color: None,
            }
        }
    }
}

fn link(
    workflow: &mut Workflow<'_>,
    place: usize,
    target: Target,
    slot: usize,
    origin: Origin,
    origin_slot: usize,
) {
    let graph = &mut workflow.graphs[place];
    let link = graph.links.len();
    graph.links.push(Link {
        id: format!("broadcast {link}"),
        origin: origin.map_or(End::Side, End::Node),
        origin_slot,
        target: target.map_or(End::Side, End::Node),
        target_slot: slot,
    });
    match target {
        Some(node) => graph.nodes[node].inputs[slot].link = Some(link),
        None => graph.outputs[slot].links.push(link),
    }
}

/// A node, or the input side.
type Origin = Option<usize>;
