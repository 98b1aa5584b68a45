//! A node's sockets and widgets, from its class, and which saved value belongs to which widget.

mod builder;
mod packs;
mod values;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::file::kind;
use super::model::{End, Graph, Link, Node, Outlet, Port, Role, Socket, index};
use crate::graph::catalogue::{NodeClass, NodeClasses};

pub use builder::{controls as controls_of, is_implicit_seed as is_implicit, is_widget};
pub use packs::{vhs_list, vhs_values};
pub use values::Saved;

/// Names of the sockets that links of the file end at.
pub type Linked<'n> = HashSet<&'n str>;

/// Gives a node its sockets and widgets. Answers how many saved values it has taken.
pub fn build<'a>(
    node: &mut Node<'a>,
    classes: &'a NodeClasses,
    linked: &Linked<'_>,
    saved: Saved<'a>,
) -> usize {
    let taken = match node.role {
        Role::Class(class) => of_class(node, class, classes, linked, saved),
        _ => {
            of_file(node);
            0
        }
    };
    if node.inputs.is_empty() && matches!(node.role, Role::Reroute | Role::Set(_)) {
        node.inputs.push(Socket {
            kind: "*".into(),
            ..Socket::default()
        });
    }
    taken
}

fn of_class<'a>(
    node: &mut Node<'a>,
    class: &'a NodeClass,
    classes: &'a NodeClasses,
    linked: &Linked<'_>,
    saved: Saved<'a>,
) -> usize {
    let outputs = class.outputs.iter().map(|output| Outlet {
        kind: Cow::Borrowed(output.kind.as_str()),
        match_group: output.match_group.as_deref(),
    });
    node.outputs = outputs.collect();
    node.outputs
        .extend(file_outputs(node).skip(class.outputs.len()));
    let built = builder::build(node, class, classes, linked, saved);
    node.inputs = built.sockets;
    node.widgets = built.widgets;
    let taken = built.saved.taken();
    packs::finish(node, &mut { built.saved });
    add_file_sockets(node, &built.dynamic, &built.growing);
    if class.custom && !node.class.ends_with(" (rgthree)") && !node.class.starts_with("VHS_") {
        packs::named(node);
    }
    taken
}

/// Nodes without a class have what the file says.
fn of_file(node: &mut Node<'_>) {
    node.outputs = file_outputs(node).collect();
    let raw = node.raw.list("inputs").iter();
    node.inputs = raw
        .map(|input| Socket {
            name: input
                .get("name")
                .and_then(|n| n.as_str())
                .unwrap_or_default()
                .into(),
            label: input.get("label").and_then(|l| l.as_str()),
            kind: kind(input.get("type")),
            listed: true,
            ..Socket::default()
        })
        .collect();
}

fn file_outputs<'a>(node: &Node<'a>) -> impl Iterator<Item = Outlet<'a>> + use<'a> {
    let outputs = node.raw.list("outputs").iter();
    outputs.map(|output| Outlet {
        kind: kind(output.get("type")),
        match_group: None,
    })
}

/// Sockets that only the file has stay, unless they belong to a widget or an option that is gone.
fn add_file_sockets(node: &mut Node<'_>, dynamic: &[String], growing: &[String]) {
    let child_of = |name: &str, groups: &[String]| {
        groups.iter().any(|g| {
            name.strip_prefix(g.as_str())
                .is_some_and(|rest| rest.starts_with('.'))
        })
    };
    let names: HashSet<&str> = node
        .inputs
        .iter()
        .map(|socket| socket.name.as_ref())
        .collect();
    let mut more = Vec::new();
    let mut seen = HashSet::new();
    let mut known = Vec::new();
    for input in node.raw.list("inputs") {
        let Some(name) = input.get("name").and_then(|name| name.as_str()) else {
            continue;
        };
        let label = input.get("label").and_then(|label| label.as_str());
        if names.contains(name) {
            known.push((name, label));
        } else if name == "batch_manager" && node.class.starts_with("VHS_") {
            // Today it is `meta_batch`.
        } else if child_of(name, dynamic) && !child_of(name, growing) {
            // Of an option that is not chosen.
        } else if input.get("widget").is_none_or(|w| w.is_null()) && seen.insert(name) {
            more.push(Socket {
                name: Cow::Borrowed(name),
                label,
                kind: kind(input.get("type")),
                listed: true,
                ..Socket::default()
            });
        }
    }
    let places: std::collections::HashMap<String, usize> = node
        .inputs
        .iter()
        .enumerate()
        .rev()
        .map(|(at, s)| (s.name.to_string(), at))
        .collect();
    for (name, label) in known {
        if let Some(place) = places.get(name) {
            node.inputs[*place].listed = true;
            node.inputs[*place].label = label;
        }
    }
    node.inputs.extend(more);
}

/// An instance has the inputs and outputs of its definition.
pub fn of_instance<'a>(node: &mut Node<'a>, inputs: &[Port<'a>], outputs: &[Port<'a>]) {
    for port in inputs.iter().skip(node.inputs.len()) {
        node.inputs.push(Socket {
            name: port.name.clone(),
            label: port.label,
            kind: port.kind.clone(),
            ..Socket::default()
        });
    }
    if node.outputs.is_empty() {
        let outputs = outputs.iter();
        node.outputs = outputs
            .map(|p| Outlet {
                kind: p.kind.clone(),
                match_group: None,
            })
            .collect();
    }
    let listed: HashSet<&str> = node
        .raw
        .list("inputs")
        .iter()
        .filter_map(|input| input.get("name").and_then(|name| name.as_str()))
        .collect();
    for socket in &mut node.inputs {
        socket.listed = listed.contains(socket.name.as_ref());
    }
}

/// What a group node shows of its inner nodes: inputs without a link, outputs that are not used
/// inside, and those that `external` names.
pub fn ports_of_group(graph: &mut Graph<'_>, external: &[serde_json::Value]) {
    inputs_of_group(graph);
    graph.declared = graph.inputs.len();
    outputs_of_group(graph, external);
}

fn inputs_of_group(graph: &mut Graph<'_>) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for node in 0..graph.nodes.len() {
        if matches!(graph.nodes[node].role, Role::Primitive | Role::Nothing) {
            continue;
        }
        for slot in 0..graph.nodes[node].inputs.len() {
            let socket = &graph.nodes[node].inputs[slot];
            if socket.link.is_some() {
                continue;
            }
            let title = graph.nodes[node]
                .own_title()
                .unwrap_or(graph.nodes[node].class);
            let mut name = socket.name.to_string();
            if let Some(times) = seen.get(&name).copied() {
                let longer = format!("{title} {name}");
                name = match seen.get(&longer) {
                    Some(again) => format!("{title} {again} {name}"),
                    None => longer,
                };
                let _ = times;
            }
            *seen.entry(name.clone()).or_insert(0) += 1;
            let place = graph.links.len();
            graph.links.push(Link {
                id: format!("group input {place}"),
                origin: End::Side,
                origin_slot: graph.inputs.len(),
                target: End::Node(node),
                target_slot: slot,
            });
            graph.inputs.push(Port {
                name: name.into(),
                label: None,
                kind: graph.nodes[node].inputs[slot].kind.clone(),
                links: vec![place],
                promoted: None,
            });
            graph.nodes[node].inputs[slot].link = Some(place);
        }
    }
}

fn outputs_of_group(graph: &mut Graph<'_>, external: &[serde_json::Value]) {
    let external: HashSet<(usize, usize)> = external
        .iter()
        .map(|entry| (index(entry.get(0)), index(entry.get(1))))
        .collect();
    let used: HashSet<(usize, usize)> = graph
        .links
        .iter()
        .filter_map(|link| match link.origin {
            End::Node(node) => Some((node, link.origin_slot)),
            _ => None,
        })
        .collect();
    for node in 0..graph.nodes.len() {
        for slot in 0..graph.nodes[node].outputs.len() {
            if used.contains(&(node, slot)) && !external.contains(&(node, slot)) {
                continue;
            }
            let place = graph.links.len();
            graph.links.push(Link {
                id: format!("group output {place}"),
                origin: End::Node(node),
                origin_slot: slot,
                target: End::Side,
                target_slot: graph.outputs.len(),
            });
            graph.outputs.push(Port {
                kind: graph.nodes[node].outputs[slot].kind.clone(),
                links: vec![place],
                ..Port::default()
            });
        }
    }
}
