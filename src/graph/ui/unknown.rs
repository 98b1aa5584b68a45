//! Classes that are the editor's alone: known ones that act by chance, unknown ones that do
//! nothing.

use std::collections::HashMap;

use serde_json::Value;

use super::model::{End, Mode, Role, Workflow, shown};
use super::types::is_any;

/// `Random Unmuter (rgthree)`: when all nodes linked to it are muted, one of them is active.
pub fn unmute_by_chance(
    workflow: &mut Workflow<'_>,
    place: usize,
    chance: &mut dyn FnMut(usize) -> usize,
) {
    let graph = &mut workflow.graphs[place];
    for node in 0..graph.nodes.len() {
        let at = &graph.nodes[node];
        if at.class != "Random Unmuter (rgthree)" || at.mode != Mode::Active {
            continue;
        }
        let links = at.inputs.iter().filter_map(|socket| socket.link);
        let linked: Vec<usize> = links
            .filter_map(|link| match graph.links[link].origin {
                End::Node(origin) => Some(origin),
                _ => None,
            })
            .collect();
        let all_muted = linked
            .iter()
            .all(|node| graph.nodes[*node].mode == Mode::Muted);
        if all_muted && !linked.is_empty() {
            let chosen = linked[chance(linked.len()) % linked.len()];
            graph.nodes[chosen].mode = Mode::Active;
        }
    }
}

/// Labels and switches of the editor: unknown classes that lead to nothing that runs.
pub fn skip_editor_only(workflow: &mut Workflow<'_>, order: &[usize]) {
    let mut candidates: Vec<(usize, usize)> = Vec::new();
    let mut others = false;
    for graph in order {
        for (place, node) in workflow.graphs[*graph].nodes.iter().enumerate() {
            match node.role {
                Role::Unknown
                    if node.mode == Mode::Active && is_candidate(workflow, *graph, place) =>
                {
                    candidates.push((*graph, place));
                }
                Role::Class(_) if node.mode == Mode::Active => others = true,
                _ => {}
            }
        }
    }
    // If nothing else is left, they are an error like the others.
    if candidates.is_empty() || !others {
        return;
    }
    let mut targets: HashMap<usize, Vec<Vec<usize>>> = HashMap::new();
    for (graph, _) in &candidates {
        targets
            .entry(*graph)
            .or_insert_with(|| outgoing(workflow, *graph));
    }
    for (graph, node) in candidates {
        if leads_nowhere(workflow, graph, node, &targets[&graph]) {
            let at = &mut workflow.graphs[graph].nodes[node];
            at.role = Role::Skipped;
            let text = format!(
                "node {} ({}) is left out: this ComfyUI does not have its class, and it looks \
                 like one of the editor alone",
                shown(&at.id),
                shown(at.class),
            );
            workflow.warnings.say(text);
        }
    }
}

fn is_candidate(workflow: &Workflow<'_>, graph: usize, place: usize) -> bool {
    let node = &workflow.graphs[graph].nodes[place];
    // Packs with Python have these.
    let of_package = ["cnr_id", "aux_id"]
        .iter()
        .any(|name| node.raw.property(name).is_some());
    let any = |value: Option<&Value>| match value {
        Some(Value::String(kind)) => is_any(kind),
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        _ => false,
    };
    !of_package
        && node
            .raw
            .list("outputs")
            .iter()
            .all(|output| any(output.get("type")))
        && node
            .inputs
            .iter()
            .all(|socket| socket.link.is_none() || is_any(&socket.kind))
}

/// Per node the links that leave it.
fn outgoing(workflow: &Workflow<'_>, graph: usize) -> Vec<Vec<usize>> {
    let graph = &workflow.graphs[graph];
    let mut outgoing = vec![Vec::new(); graph.nodes.len()];
    for (place, link) in graph.links.iter().enumerate() {
        if let End::Node(origin) = link.origin {
            outgoing[origin].push(place);
        }
    }
    outgoing
}

fn leads_nowhere(
    workflow: &Workflow<'_>,
    place: usize,
    node: usize,
    outgoing: &[Vec<usize>],
) -> bool {
    let graph = &workflow.graphs[place];
    let mut seen = vec![false; graph.nodes.len()];
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        if std::mem::replace(&mut seen[node], true) {
            continue;
        }
        if let Role::Set(_) = graph.nodes[node].role {
            let name = graph.nodes[node].first_text();
            let gets = graph.nodes.iter().enumerate();
            let gets = gets.filter(|(_, get)| matches!(get.role, Role::Get(_)));
            open.extend(
                gets.filter(|(_, get)| get.first_text() == name)
                    .map(|(place, _)| place),
            );
        }
        for link in &outgoing[node] {
            let End::Node(target) = graph.links[*link].target else {
                return false;
            };
            let at = &graph.nodes[target];
            match (at.role, at.mode) {
                (_, Mode::Muted) => {}
                (Role::Class(_) | Role::Instance(_), Mode::Active) => return false,
                _ => open.push(target),
            }
        }
    }
    true
}
