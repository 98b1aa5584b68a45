//! Widgets that a subgraph shows on its instances.

use std::collections::HashMap;

use serde_json::Value;

use super::model::{End, Link, Port, Role, Workflow, id_text};

/// Which inner widget each input of a definition stands for: the first that one of its links ends
/// at.
pub fn find(workflow: &mut Workflow<'_>, place: usize) {
    for input in 0..workflow.graphs[place].inputs.len() {
        let graph = &workflow.graphs[place];
        let promoted = graph.inputs[input].links.iter().find_map(|link| {
            let link = &graph.links[*link];
            let End::Node(node) = link.target else {
                return None;
            };
            is_widget(workflow, place, node, link.target_slot).then_some((node, link.target_slot))
        });
        workflow.graphs[place].inputs[input].promoted = promoted;
    }
}

/// Whether a socket belongs to a widget, of its node or promoted to it.
fn is_widget(workflow: &Workflow<'_>, graph: usize, node: usize, slot: usize) -> bool {
    let node = &workflow.graphs[graph].nodes[node];
    match node.role {
        Role::Instance(definition) => workflow.graphs[definition]
            .inputs
            .get(slot)
            .is_some_and(|input| input.promoted.is_some()),
        _ => node
            .inputs
            .get(slot)
            .is_some_and(|socket| socket.widget.is_some()),
    }
}

/// The widget that a socket stands for: its graph, node and place there.
pub fn widget_at(
    workflow: &Workflow<'_>,
    graph: usize,
    node: usize,
    slot: usize,
) -> Option<(usize, usize, usize)> {
    let (mut graph, mut node, mut slot) = (graph, node, slot);
    loop {
        let at = &workflow.graphs[graph].nodes[node];
        match at.role {
            Role::Instance(definition) => {
                (node, slot) = workflow.graphs[definition].inputs.get(slot)?.promoted?;
                graph = definition;
            }
            _ => return Some((graph, node, at.inputs.get(slot)?.widget?)),
        }
    }
}

/// The value that an instance has for an input: its own, else that of the widget inside.
pub fn value(workflow: &Workflow<'_>, graph: usize, node: usize, slot: usize) -> Option<Value> {
    let (mut graph, mut node, mut slot) = (graph, node, slot);
    loop {
        let at = &workflow.graphs[graph].nodes[node];
        let Role::Instance(definition) = at.role else {
            let widget = at.inputs.get(slot)?.widget?;
            return at.widgets.get(widget)?.value.clone();
        };
        if let Some(value) = at.host_values.get(&slot) {
            return Some(value.clone());
        }
        (node, slot) = workflow.graphs[definition].inputs.get(slot)?.promoted?;
        graph = definition;
    }
}

/// The saved values of instances, one place per promoted input.
pub fn host_values(workflow: &mut Workflow<'_>, place: usize) {
    for node in 0..workflow.graphs[place].nodes.len() {
        let Role::Instance(definition) = workflow.graphs[place].nodes[node].role else {
            continue;
        };
        let definition = &workflow.graphs[definition];
        // A group node's values have gone to its inner nodes.
        if definition.is_group_node {
            continue;
        }
        let raw = workflow.graphs[place].nodes[node].raw;
        let mut values = HashMap::new();
        if entries(raw.property("proxyWidgets")).is_empty() {
            let promoted = definition
                .inputs
                .iter()
                .enumerate()
                .take(definition.declared);
            let promoted = promoted.filter(|(_, input)| input.promoted.is_some());
            for ((input, _), value) in promoted.zip(raw.list("widgets_values")) {
                values.insert(input, value.clone());
            }
        }
        let quarantine = raw
            .property("proxyWidgetErrorQuarantine")
            .and_then(Value::as_array);
        for entry in quarantine.into_iter().flatten() {
            let original = entry.get("originalEntry");
            let is_own = original.and_then(|o| o.get(0)).and_then(id_text).as_deref() == Some("-1");
            let name = original.and_then(|o| o.get(1)).and_then(Value::as_str);
            if let (true, Some(name), Some(value)) = (is_own, name, entry.get("hostValue"))
                && let Some(input) = definition
                    .inputs
                    .iter()
                    .position(|input| input.name == name)
            {
                values.insert(input, value.clone());
            }
        }
        workflow.graphs[place].nodes[node].host_values = values;
    }
}

/// `[[inner node id, widget name], ...]`, perhaps as a JSON text.
fn entries(property: Option<&Value>) -> Vec<(String, String)> {
    let list = match property {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or(Value::Null),
        Some(value) => value.clone(),
        None => return Vec::new(),
    };
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    // An entry that is none keeps its place.
    list.iter()
        .map(|entry| {
            let id = entry.get(0).and_then(id_text).unwrap_or_default();
            let name = entry.get(1).and_then(Value::as_str).unwrap_or_default();
            (id, name.to_owned())
        })
        .collect()
}

/// Works through the proxies that older files keep in instances.
pub fn proxies(workflow: &mut Workflow<'_>, place: usize) {
    for node in 0..workflow.graphs[place].nodes.len() {
        let Role::Instance(definition) = workflow.graphs[place].nodes[node].role else {
            continue;
        };
        let raw = workflow.graphs[place].nodes[node].raw;
        let values = raw.list("widgets_values");
        let entries = entries(raw.property("proxyWidgets"));
        if !entries.is_empty() {
            super::assemble::refresh_instances(workflow, definition);
        }
        for (at, (id, name)) in entries.into_iter().enumerate() {
            let value = values.get(at);
            let Some((input, value)) = proxy(workflow, definition, &id, &name, value) else {
                continue;
            };
            if let Some(value) = value {
                let host = &mut workflow.graphs[place].nodes[node].host_values;
                host.entry(input).or_insert(value);
            }
        }
    }
}

/// The input that an entry means, and the value that goes there.
fn proxy(
    workflow: &mut Workflow<'_>,
    definition: usize,
    id: &str,
    name: &str,
    value: Option<&Value>,
) -> Option<(usize, Option<Value>)> {
    if name.is_empty() || name.starts_with("$$") {
        return None;
    }
    let inputs = &workflow.graphs[definition].inputs;
    if id == "-1" {
        let input = inputs.iter().position(|input| input.name == name)?;
        return Some((input, value.cloned()));
    }
    let node = workflow.graphs[definition].by_file_id.get(id).copied()?;
    if matches!(
        workflow.graphs[definition].nodes[node].role,
        Role::Primitive
    ) {
        let own = workflow.graphs[definition].nodes[node]
            .raw
            .list("widgets_values")
            .first()
            .cloned();
        let input = replace_primitive(workflow, definition, node, name)?;
        return Some((input, value.cloned().or(own)));
    }
    let slot = inner_slot(workflow, definition, node, name)?;
    let graph = &workflow.graphs[definition];
    match graph.nodes[node].link_at(slot) {
        Some(link) if graph.links[link].origin == End::Side => {
            let input = graph.links[link].origin_slot;
            let promotes = graph.inputs.get(input)?.promoted.is_some();
            promotes.then(|| (input, value.cloned()))
        }
        Some(_) => None,
        None => {
            let base = workflow.graphs[definition].nodes[node]
                .inputs
                .get(slot)?
                .name
                .to_string();
            let input = add_input(workflow, definition, &base, &[(node, slot)]);
            Some((input, value.cloned()))
        }
    }
}

/// The socket of an inner node's widget. `7: seed` is tried as it is, then without the prefix,
/// which tells the node within an inner instance.
fn inner_slot(workflow: &Workflow<'_>, graph: usize, node: usize, name: &str) -> Option<usize> {
    let mut name = name;
    loop {
        let at = &workflow.graphs[graph].nodes[node];
        let prefix = name
            .split_once(": ")
            .filter(|(prefix, _)| !prefix.is_empty());
        if let Some(slot) = at.socket(name)
            && is_widget(workflow, graph, node, slot)
        {
            return Some(slot);
        }
        let (prefix, rest) = prefix?;
        if let Role::Instance(definition) = at.role
            && let Some(slot) = promoting(workflow, definition, prefix, rest)
        {
            return Some(slot);
        }
        name = rest;
    }
}

/// The input of a definition that promotes a widget of the inner node `id`.
fn promoting(workflow: &Workflow<'_>, definition: usize, id: &str, name: &str) -> Option<usize> {
    let graph = &workflow.graphs[definition];
    let node = graph.by_file_id.get(id)?;
    graph.inputs.iter().position(|input| {
        input.promoted.is_some_and(|(inner, slot)| {
            inner == *node && {
                let socket = graph.nodes[inner].inputs.get(slot);
                let plain = name.rsplit_once(": ").map_or(name, |(_, name)| name);
                socket.is_some_and(|socket| socket.name == name || socket.name == plain)
            }
        })
    })
}

/// A primitive inside becomes an input of the definition, for all its targets.
fn replace_primitive(
    workflow: &mut Workflow<'_>,
    definition: usize,
    primitive: usize,
    name: &str,
) -> Option<usize> {
    let graph = &workflow.graphs[definition];
    // Another instance may have done so before.
    if let Some(input) = graph.of_primitives.get(&primitive) {
        return Some(*input);
    }
    let links: Vec<usize> = graph
        .links
        .iter()
        .enumerate()
        .filter(|(_, link)| link.origin == End::Node(primitive))
        .map(|(place, _)| place)
        .collect();
    let first = graph.links.get(*links.first()?)?;
    let End::Node(target) = first.target else {
        return None;
    };
    let name = match graph.nodes[primitive].own_title() {
        Some(title) => title.to_owned(),
        None => name.to_owned(),
    };
    let kind = graph.nodes[target]
        .inputs
        .get(first.target_slot)?
        .kind
        .clone();
    let input = graph.inputs.len();
    let name = free_name(&graph.inputs, &name);
    let graph = &mut workflow.graphs[definition];
    for link in &links {
        graph.links[*link].origin = End::Side;
        graph.links[*link].origin_slot = input;
    }
    graph.inputs.push(Port {
        name: name.into(),
        label: None,
        kind,
        links,
        promoted: None,
    });
    graph.of_primitives.insert(primitive, input);
    find_one(workflow, definition, input);
    Some(input)
}

fn add_input(
    workflow: &mut Workflow<'_>,
    definition: usize,
    name: &str,
    targets: &[(usize, usize)],
) -> usize {
    let graph = &mut workflow.graphs[definition];
    let input = graph.inputs.len();
    let name = free_name(&graph.inputs, name);
    let mut port = Port {
        name: name.into(),
        ..Port::default()
    };
    for (node, slot) in targets {
        let place = graph.links.len();
        graph.links.push(Link {
            id: format!("proxy {place}"),
            origin: End::Side,
            origin_slot: input,
            target: End::Node(*node),
            target_slot: *slot,
        });
        port.links.push(place);
        if let Some(socket) = graph.nodes[*node].inputs.get_mut(*slot) {
            socket.link = Some(place);
            port.kind = socket.kind.clone();
        }
    }
    graph.inputs.push(port);
    find_one(workflow, definition, input);
    input
}

fn find_one(workflow: &mut Workflow<'_>, definition: usize, input: usize) {
    let graph = &workflow.graphs[definition];
    let promoted = graph.inputs[input].links.iter().find_map(|link| {
        let link = &graph.links[*link];
        let End::Node(node) = link.target else {
            return None;
        };
        is_widget(workflow, definition, node, link.target_slot).then_some((node, link.target_slot))
    });
    workflow.graphs[definition].inputs[input].promoted = promoted;
}

fn free_name(inputs: &[Port<'_>], name: &str) -> String {
    let taken = |name: &str| inputs.iter().any(|input| input.name == name);
    if !taken(name) {
        return name.to_owned();
    }
    let mut number = 1;
    loop {
        let other = format!("{name}_{number}");
        if !taken(&other) {
            return other;
        }
        number += 1;
    }
}
