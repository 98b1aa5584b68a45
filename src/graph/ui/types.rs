//! Types of sockets: which fit, and those that follow what is linked.

use std::borrow::Cow;

use super::model::{End, Workflow};

/// Types follow each other through switches; longer chains than this are cut.
const MOST_ROUNDS: usize = 16;

/// Whether something goes with every type.
pub fn is_any(kind: &str) -> bool {
    matches!(kind, "*" | "" | "0")
}

/// Whether two types can be linked.
pub fn fit(one: &str, other: &str) -> bool {
    if is_any(one) || is_any(other) || one.eq_ignore_ascii_case(other) {
        return true;
    }
    if !one.contains(',') && !other.contains(',') {
        return false;
    }
    one.split(',').any(|a| {
        other
            .split(',')
            .any(|b| a.trim().eq_ignore_ascii_case(b.trim()))
    })
}

/// Sockets of one group take the type that is linked to the others, outputs the common one.
pub fn match_groups(workflow: &mut Workflow<'_>, place: usize) {
    let matching: Vec<usize> = workflow.graphs[place]
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| {
            node.inputs
                .iter()
                .any(|socket| socket.match_group.is_some())
        })
        .map(|(node, _)| node)
        .collect();
    for _ in 0..MOST_ROUNDS {
        let mut changed = false;
        for node in &matching {
            changed |= match_node(workflow, place, *node);
        }
        if !changed {
            break;
        }
    }
}

fn match_node(workflow: &mut Workflow<'_>, place: usize, node: usize) -> bool {
    let graph = &workflow.graphs[place];
    let at = &graph.nodes[node];
    // Per socket of a group: the group and the type that is linked.
    let linked: Vec<(usize, &str, Option<String>)> = at
        .inputs
        .iter()
        .enumerate()
        .filter_map(|(slot, socket)| {
            let link = socket.link.map(|link| &graph.links[link]);
            let kind = link.and_then(|link| match link.origin {
                End::Node(origin) => graph.nodes[origin]
                    .outputs
                    .get(link.origin_slot)
                    .map(|o| o.kind.to_string()),
                End::Side => graph
                    .inputs
                    .get(link.origin_slot)
                    .map(|port| port.kind.to_string()),
                End::Missing(_) => None,
            });
            Some((slot, socket.match_group?, kind.filter(|kind| !is_any(kind))))
        })
        .collect();
    let common = |group: &str, but: Option<usize>| -> Option<String> {
        let mut kinds = linked
            .iter()
            .filter(|(slot, of, _)| *of == group && Some(*slot) != but)
            .filter_map(|(_, _, kind)| kind.as_deref());
        let first = kinds.next()?;
        kinds
            .all(|kind| kind.eq_ignore_ascii_case(first))
            .then(|| first.to_owned())
    };
    let sockets: Vec<(usize, String)> = linked
        .iter()
        .filter_map(|(slot, group, _)| Some((*slot, common(group, Some(*slot))?)))
        .collect();
    let outputs: Vec<(usize, String)> = at
        .outputs
        .iter()
        .enumerate()
        .filter_map(|(slot, outlet)| Some((slot, common(outlet.match_group?, None)?)))
        .collect();
    let at = &mut workflow.graphs[place].nodes[node];
    let mut changed = false;
    for (slot, kind) in sockets {
        if at.inputs[slot].kind != kind && fit(&at.inputs[slot].kind, &kind) {
            at.inputs[slot].kind = Cow::Owned(kind);
            changed = true;
        }
    }
    for (slot, kind) in outputs {
        if at.outputs[slot].kind != kind {
            at.outputs[slot].kind = Cow::Owned(kind);
            changed = true;
        }
    }
    changed
}
