//! The graphs with their sockets, widgets, links and promoted widgets, innermost first.

use std::collections::HashSet;

use super::error::ConversionError;
use super::file::{self, File, Source};
use super::links;
use super::model::{End, ROOT, Role, Warnings, Workflow};
use super::promote;
use super::saved;
use super::sockets::{self, Saved};
use crate::graph::catalogue::NodeClasses;

/// Assembles what has been read. Also answers the graphs that the root leads to, innermost first.
pub fn assemble<'a>(
    file: File<'a>,
    classes: &'a NodeClasses,
) -> Result<(Workflow<'a>, Vec<usize>), ConversionError> {
    let order = file::order(&file.graphs)?;
    let File { graphs, sources } = file;
    let mut workflow = Workflow {
        graphs,
        warnings: Warnings::default(),
    };
    for graph in &order {
        let source = sources[*graph];
        nodes_and_links(&mut workflow, *graph, source, classes);
        promote::host_values(&mut workflow, *graph);
        promote::proxies(&mut workflow, *graph);
        promote::find(&mut workflow, *graph);
    }
    // Proxies may have given a definition more inputs after its instances were made.
    for graph in &order {
        refresh_instances(&mut workflow, *graph);
    }
    Ok((workflow, order))
}

fn nodes_and_links<'a>(
    workflow: &mut Workflow<'a>,
    place: usize,
    source: Source<'a>,
    classes: &'a NodeClasses,
) {
    let graph = &workflow.graphs[place];
    let list = source.object.list("links");
    let links = match source.group_node {
        Some(_) => links::read_group(graph, list),
        None => links::read(graph, list, place == ROOT),
    };
    let mut linked: Vec<HashSet<&str>> = vec![HashSet::new(); graph.nodes.len()];
    for link in &links {
        if let (End::Node(node), Some(name)) = (&link.target, &link.name) {
            linked[*node].insert(name);
        }
    }
    let mut of_group = source
        .group_node
        .map(|node| Saved::list(node.list("widgets_values").iter()));
    let mut nodes = std::mem::take(&mut workflow.graphs[place].nodes);
    for (at, node) in nodes.iter_mut().enumerate() {
        if let Role::Instance(definition) = node.role {
            let definition = &workflow.graphs[definition];
            sockets::of_instance(node, &definition.inputs, &definition.outputs);
            continue;
        }
        let saved = match node.role {
            Role::Class(class) => saved::of(node, class),
            _ => Saved::nothing(),
        };
        sockets::build(node, classes, &linked[at], saved);
        if let Some(values) = &mut of_group {
            take_from_group(node, &linked[at], values);
        }
    }
    drop(linked);
    let graph = &mut workflow.graphs[place];
    graph.nodes = nodes;
    links::bind(graph, links, &mut workflow.warnings);
    side_links(graph, source);
    if source.group_node.is_some() {
        sockets::ports_of_group(graph, source.object.list("external"));
    }
}

/// A group node has the values of the widgets inside it that are not linked inside.
fn take_from_group<'a>(
    node: &mut super::model::Node<'a>,
    linked: &HashSet<&str>,
    values: &mut Saved<'a>,
) {
    for widget in &mut node.widgets {
        let Some(input) = widget.input else { continue };
        if linked.contains(widget.name.as_ref()) {
            continue;
        }
        if let Some(value) = values.take(&widget.name) {
            widget.value = Some(value);
        }
        values.skip(match input.widget_kind() {
            "COMBO" => 2 * sockets::controls_of(input, &widget.name),
            "BOUNDING_BOX" => 4,
            _ => sockets::controls_of(input, &widget.name),
        });
    }
}

/// The links of a definition's inputs and outputs, in the order that it gives them.
fn side_links(graph: &mut super::model::Graph<'_>, source: Source<'_>) {
    let mut of_inputs: Vec<Vec<usize>> = vec![Vec::new(); graph.inputs.len()];
    let mut of_outputs: Vec<Vec<usize>> = vec![Vec::new(); graph.outputs.len()];
    for (place, link) in graph.links.iter().enumerate() {
        if link.origin == End::Side
            && let Some(links) = of_inputs.get_mut(link.origin_slot)
        {
            links.push(place);
        }
        if link.target == End::Side
            && let Some(links) = of_outputs.get_mut(link.target_slot)
        {
            links.push(place);
        }
    }
    let ids = |member: &str, port: usize| -> std::collections::HashMap<String, usize> {
        let list = source
            .object
            .list(member)
            .get(port)
            .and_then(|port| port.get("linkIds"));
        let list = list
            .and_then(serde_json::Value::as_array)
            .into_iter()
            .flatten();
        list.enumerate()
            .filter_map(|(at, id)| Some((super::model::id_text(id)?, at)))
            .collect()
    };
    for (member, of, ports) in [
        ("inputs", of_inputs, &mut graph.inputs),
        ("outputs", of_outputs, &mut graph.outputs),
    ] {
        for (place, (mut links, port)) in of.into_iter().zip(ports).enumerate() {
            if links.len() > 1 {
                let order = ids(member, place);
                links.sort_by_key(|link| {
                    order
                        .get(&graph.links[*link].id)
                        .copied()
                        .unwrap_or(usize::MAX)
                });
            }
            port.links = links;
        }
    }
}

/// Gives instances the inputs that their definitions have got since.
pub fn refresh_instances(workflow: &mut Workflow<'_>, place: usize) {
    for node in 0..workflow.graphs[place].nodes.len() {
        if let Role::Instance(definition) = workflow.graphs[place].nodes[node].role {
            let inputs = workflow.graphs[definition].inputs.clone();
            sockets::of_instance(&mut workflow.graphs[place].nodes[node], &inputs, &[]);
        }
    }
}
