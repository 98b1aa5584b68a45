//! The file's graphs before anything is made of them: definitions in one list, unique ids, roles.

mod classes;
mod group_nodes;
mod order;

use std::collections::{HashMap, HashSet, VecDeque};

use classes::{is_editor_only, is_uuid};
use serde_json::{Map, Value};

use super::error::ConversionError;
use super::model::{Family, Graph, Mode, Node, Port, Raw, Role, id_text, shown};
use crate::graph::catalogue::NodeClasses;

pub use classes::is_broadcaster;
pub use order::order;

/// Group nodes hold group nodes; nobody means so many.
const MOST_GRAPHS: usize = 20_000;

/// What has been read of a file.
pub struct File<'a> {
    /// The graphs, with nodes that have no sockets yet.
    pub graphs: Vec<Graph<'a>>,
    /// Where each comes from, in the same order.
    pub sources: Vec<Source<'a>>,
}

/// Where a graph comes from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The object with `nodes` and `links`.
    pub object: Raw<'a>,
    /// A group node's own node, whose values it takes.
    pub group_node: Option<Raw<'a>>,
}

pub fn read<'a>(
    workflow: &'a Map<String, Value>,
    classes: &'a NodeClasses,
) -> Result<File<'a>, ConversionError> {
    let definitions = definitions(workflow);
    let mut reader = Reader {
        classes,
        by_id: definitions
            .iter()
            .enumerate()
            .map(|(i, (id, _))| (id.clone(), i + 1))
            .collect(),
        group_nodes: Raw(Some(workflow))
            .get("extra")
            .and_then(|extra| extra.get("groupNodes"))
            .and_then(Value::as_object),
        file: File {
            graphs: Vec::new(),
            sources: Vec::new(),
        },
        taken: HashSet::new(),
        last: last_id(workflow),
    };
    reader.graph(Raw(Some(workflow)), "")?;
    for (place, (_, object)) in definitions.iter().enumerate() {
        reader.graph(
            Raw(Some(object)),
            &format!("definitions.subgraphs.{place}."),
        )?;
    }
    reader.group_nodes()?;
    Ok(reader.file)
}

/// All definitions, those inside others after them.
fn definitions(workflow: &Map<String, Value>) -> Vec<(String, &Map<String, Value>)> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    let mut waiting: VecDeque<&Map<String, Value>> = VecDeque::from([workflow]);
    while let Some(around) = waiting.pop_front() {
        let list = around
            .get("definitions")
            .and_then(|d| d.get("subgraphs"))
            .and_then(Value::as_array);
        for definition in list.into_iter().flatten().filter_map(Value::as_object) {
            waiting.push_back(definition);
            let Some(id) = definition.get("id").and_then(id_text) else {
                continue;
            };
            if seen.insert(id.clone()) {
                all.push((id, definition));
            }
        }
    }
    all
}

fn last_id(workflow: &Map<String, Value>) -> i128 {
    let state = workflow
        .get("state")
        .and_then(|state| state.get("lastNodeId"));
    let last = workflow.get("last_node_id").or(state);
    last.and_then(id_text)
        .and_then(|id| id.parse().ok())
        .unwrap_or(0)
}

struct Reader<'a> {
    classes: &'a NodeClasses,
    by_id: HashMap<String, usize>,
    group_nodes: Option<&'a Map<String, Value>>,
    file: File<'a>,
    taken: HashSet<String>,
    last: i128,
}

impl<'a> Reader<'a> {
    fn graph(&mut self, object: Raw<'a>, location: &str) -> Result<(), ConversionError> {
        let is_root = self.file.graphs.is_empty();
        let mut graph = Graph {
            name: object.text("name").unwrap_or_default(),
            groups: object.list("groups"),
            inputs: ports(object.list("inputs")),
            outputs: ports(object.list("outputs")),
            ..Graph::default()
        };
        graph.declared = graph.inputs.len();
        // Root ids are all taken before a later one of two equal ones gets another.
        let mut again = Vec::new();
        for (place, entry) in object.list("nodes").iter().enumerate() {
            if entry.is_null() {
                continue;
            }
            let location = format!("{location}nodes.{place}");
            let mut node = self.node(entry, &location)?;
            let file_id = node.id.clone();
            if graph.by_file_id.contains_key(&file_id) {
                if !is_root {
                    continue;
                }
                again.push(graph.nodes.len());
            } else {
                graph.by_file_id.insert(file_id, graph.nodes.len());
                if !self.taken.contains(&node.id) {
                    self.take(node.id.clone());
                } else {
                    node.id = self.free();
                }
            }
            graph.nodes.push(node);
        }
        for place in again {
            graph.nodes[place].id = self.free();
        }
        self.file.graphs.push(graph);
        self.file.sources.push(Source {
            object,
            group_node: None,
        });
        Ok(())
    }

    fn take(&mut self, id: String) {
        if let Ok(number) = id.parse::<i128>() {
            self.last = self.last.max(number);
        }
        self.taken.insert(id);
    }

    fn free(&mut self) -> String {
        loop {
            self.last = self.last.saturating_add(1);
            let id = self.last.to_string();
            if self.taken.insert(id.clone()) || self.last == i128::MAX {
                return id;
            }
        }
    }

    fn node(&self, entry: &'a Value, location: &str) -> Result<Node<'a>, ConversionError> {
        let Some(object) = entry.as_object() else {
            return Err(ConversionError::new(
                location,
                "An entry of \"nodes\" is not an object",
            ));
        };
        let raw = Raw(Some(object));
        let Some(id) = raw.get("id").and_then(id_text) else {
            return Err(ConversionError::new(
                location,
                "A node of the workflow has no \"id\" that is a number or a text",
            ));
        };
        let Some(class) = raw.text("type") else {
            let id = shown(&id);
            return Err(ConversionError::new(
                location,
                format!("Node {id} of the workflow has no \"type\" that is a text"),
            ));
        };
        Ok(Node {
            id,
            class,
            role: self.role(class),
            mode: mode(raw.get("mode")),
            raw,
            ..Node::default()
        })
    }

    fn role(&self, class: &str) -> Role<'a> {
        if let Some(definition) = self.by_id.get(class) {
            return Role::Instance(*definition);
        }
        match class {
            "Note" | "MarkdownNote" => return Role::Nothing,
            "Reroute" => return Role::Reroute,
            "PrimitiveNode" => return Role::Primitive,
            "easy setNode" => return Role::Set(Family::Easy),
            "easy getNode" => return Role::Get(Family::Easy),
            "easy bookmark" => return Role::EditorOnly,
            "PresetText|pysssss" | "VHS_SelectLatest" => return Role::BrowserValue,
            _ if is_editor_only(class) => return Role::EditorOnly,
            _ => {}
        }
        if self.group_node(class).is_some() {
            // Gets its graph when all ids are known.
            return Role::Undefined;
        }
        if let Some(class) = self.classes.get(class) {
            return Role::Class(class);
        }
        match class {
            "SetNode" => Role::Set(Family::Kj),
            "GetNode" => Role::Get(Family::Kj),
            "Reroute (rgthree)" => Role::Reroute,
            _ if is_broadcaster(class) => Role::Broadcaster,
            _ if is_uuid(class) => Role::Undefined,
            _ => Role::Unknown,
        }
    }
}

fn ports(list: &[Value]) -> Vec<Port<'_>> {
    list.iter()
        .map(|port| Port {
            name: port
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .into(),
            label: port.get("label").and_then(Value::as_str),
            kind: kind(port.get("type")),
            ..Port::default()
        })
        .collect()
}

/// A type as the file has it: a text, or a number that means any.
pub fn kind(value: Option<&Value>) -> std::borrow::Cow<'_, str> {
    match value {
        Some(Value::String(kind)) => kind.as_str().into(),
        Some(Value::Array(_)) => "COMBO".into(),
        _ => "*".into(),
    }
}

fn mode(mode: Option<&Value>) -> Mode {
    match mode.and_then(Value::as_f64).map(|mode| mode as i64) {
        Some(2) => Mode::Muted,
        Some(4) => Mode::Bypassed,
        _ => Mode::Active,
    }
}
