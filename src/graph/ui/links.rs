//! Links: which socket each one means, and which of two at one socket counts.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::model::{End, Graph, Link, Node, Warnings, id_text, index, shown};

/// What the id of a definition's input and output side is in links.
const INPUT_SIDE: &str = "-10";
const OUTPUT_SIDE: &str = "-20";

/// A link whose socket is known by name.
pub struct Named<'a> {
    pub id: String,
    pub origin: End,
    pub origin_slot: usize,
    pub target: End,
    pub target_slot: usize,
    /// The socket's name; None when only its place is known.
    pub name: Option<Cow<'a, str>>,
}

/// Reads the links of a graph. Of two at one socket the first counts, unless only the other is
/// named by the socket itself.
pub fn read<'a>(graph: &Graph<'a>, list: &'a [Value], is_root: bool) -> Vec<Named<'a>> {
    let naming = sockets_naming_links(&graph.nodes);
    let mut ids = HashSet::new();
    let mut at: HashMap<(usize, SocketKey<'a>), (usize, bool)> = HashMap::new();
    let mut links: Vec<Option<Named<'a>>> = Vec::new();
    for entry in list {
        let Some(parts) = parts(entry) else { continue };
        if !ids.insert(parts.id.clone()) {
            continue;
        }
        let end = |id: &str, side: &str| match graph.by_file_id.get(id) {
            Some(node) => End::Node(*node),
            None if id == side && !is_root => End::Side,
            None => End::Missing(id.to_owned()),
        };
        let mut link = Named {
            origin: end(&parts.origin, INPUT_SIDE),
            origin_slot: parts.origin_slot,
            target: end(&parts.target, OUTPUT_SIDE),
            target_slot: parts.target_slot,
            id: parts.id,
            name: None,
        };
        let (key, named) = match link.target {
            End::Missing(_) => continue,
            End::Side => ((usize::MAX, SocketKey::Place(link.target_slot)), false),
            End::Node(node) => {
                let by_socket = naming.get(&(node, link.id.clone())).copied();
                let raw = graph.nodes[node].raw.list("inputs");
                let name = |place: usize| raw.get(place)?.get("name")?.as_str();
                link.name = name(by_socket.unwrap_or(link.target_slot))
                    .map(|name| Cow::Borrowed(current_name(graph.nodes[node].class, name)));
                let key = match link.name {
                    Some(Cow::Borrowed(name)) => SocketKey::Name(name),
                    _ => SocketKey::Place(link.target_slot),
                };
                ((node, key), by_socket.is_some())
            }
        };
        match at.get_mut(&key) {
            Some((_, known_named)) if *known_named || !named => continue,
            Some(known) => {
                links[known.0] = None;
                *known = (links.len(), named);
            }
            None => {
                at.insert(key, (links.len(), named));
            }
        }
        links.push(Some(link));
    }
    links.into_iter().flatten().collect()
}

/// Links of a group node: `[from index, slot, to index, slot, ...]`.
pub fn read_group<'a>(graph: &Graph<'a>, list: &'a [Value]) -> Vec<Named<'a>> {
    let mut links = Vec::new();
    for (place, entry) in list.iter().enumerate() {
        let end = |at| {
            let node = index(entry.get(at));
            (node < graph.nodes.len()).then_some(node)
        };
        let (Some(origin), Some(target)) = (end(0), end(2)) else {
            continue;
        };
        let target_slot = index(entry.get(3));
        let raw = graph.nodes[target].raw.list("inputs");
        let name = raw
            .get(target_slot)
            .and_then(|input| input.get("name"))
            .and_then(Value::as_str);
        links.push(Named {
            id: format!("group {place}"),
            origin: End::Node(origin),
            origin_slot: index(entry.get(1)),
            target: End::Node(target),
            target_slot,
            name: name.map(Cow::Borrowed),
        });
    }
    links
}

/// What an input of older versions of a pack is called today.
fn current_name<'a>(class: &str, name: &'a str) -> &'a str {
    if name == "batch_manager" && class.starts_with("VHS_") {
        "meta_batch"
    } else {
        name
    }
}

#[derive(PartialEq, Eq, Hash)]
enum SocketKey<'a> {
    Name(&'a str),
    Place(usize),
}

/// Of each link the input that says that it ends there.
fn sockets_naming_links(nodes: &[Node<'_>]) -> HashMap<(usize, String), usize> {
    let mut naming = HashMap::new();
    for (place, node) in nodes.iter().enumerate() {
        for (slot, input) in node.raw.list("inputs").iter().enumerate() {
            let Some(link) = input
                .get("link")
                .filter(|link| !link.is_null())
                .and_then(id_text)
            else {
                continue;
            };
            naming.entry((place, link)).or_insert(slot);
        }
    }
    naming
}

struct Parts {
    id: String,
    origin: String,
    origin_slot: usize,
    target: String,
    target_slot: usize,
}

fn parts(entry: &Value) -> Option<Parts> {
    let (id, origin, origin_slot, target, target_slot) = match entry {
        Value::Array(list) => (
            list.first(),
            list.get(1),
            list.get(2),
            list.get(3),
            list.get(4),
        ),
        Value::Object(map) => (
            map.get("id"),
            map.get("origin_id"),
            map.get("origin_slot"),
            map.get("target_id"),
            map.get("target_slot"),
        ),
        _ => return None,
    };
    Some(Parts {
        id: id_text(id?)?,
        origin: id_text(origin?)?,
        origin_slot: index(origin_slot),
        target: id_text(target?)?,
        target_slot: index(target_slot),
    })
}

/// Puts the links where they belong, now that the sockets are known.
pub fn bind<'a>(graph: &mut Graph<'a>, links: Vec<Named<'a>>, warnings: &mut Warnings) {
    // By name, for nodes with very many sockets.
    let mut large: HashMap<usize, HashMap<String, usize>> = HashMap::new();
    for named in links {
        let target_slot = match named.target {
            End::Node(node) => match socket_of(&graph.nodes[node], node, &named, &mut large) {
                Some(slot) => slot,
                None => {
                    if !graph.nodes[node].inputs.is_empty() || named.name.is_some() {
                        warnings.say(lost(&graph.nodes[node], &named));
                    }
                    continue;
                }
            },
            _ => named.target_slot,
        };
        let place = graph.links.len();
        if let End::Node(node) = named.target {
            let socket = &mut graph.nodes[node].inputs[target_slot];
            if socket.link.is_some() {
                continue;
            }
            socket.link = Some(place);
        }
        graph.links.push(Link {
            id: named.id,
            origin: named.origin,
            origin_slot: named.origin_slot,
            target: named.target,
            target_slot,
        });
    }
}

fn socket_of(
    node: &Node<'_>,
    place: usize,
    link: &Named<'_>,
    large: &mut HashMap<usize, HashMap<String, usize>>,
) -> Option<usize> {
    match &link.name {
        Some(name) if node.inputs.len() > 32 => {
            let names = large.entry(place).or_insert_with(|| {
                let sockets = node.inputs.iter().enumerate().rev();
                sockets
                    .map(|(slot, socket)| (socket.name.to_string(), slot))
                    .collect()
            });
            names.get(name.as_ref()).copied()
        }
        Some(name) => node.socket(name),
        None if node.raw.list("inputs").is_empty() => {
            (link.target_slot < node.inputs.len()).then_some(link.target_slot)
        }
        None => None,
    }
}

fn lost(node: &Node<'_>, link: &Named<'_>) -> String {
    let socket = match &link.name {
        Some(name) => format!("input \"{}\"", shown(name)),
        None => format!("input number {}", link.target_slot),
    };
    format!(
        "link {} to node {} ({}) is left out: the node has no {socket}",
        shown(&link.id),
        shown(&node.id),
        shown(node.class),
    )
}
