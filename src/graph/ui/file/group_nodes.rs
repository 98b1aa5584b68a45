//! Group nodes, read as subgraphs.

use super::{MOST_GRAPHS, Reader, Source, mode};
use crate::graph::ui::error::ConversionError;
use crate::graph::ui::model::{Graph, Node, Raw, Role, shown};

impl<'a> Reader<'a> {
    pub(super) fn group_node(&self, class: &str) -> Option<Raw<'a>> {
        let name = class
            .strip_prefix("workflow")
            .and_then(|c| c.strip_prefix(['>', '/']))?;
        self.group_nodes?
            .get(name)?
            .as_object()
            .map(|object| Raw(Some(object)))
    }

    /// Each group node gets a graph of its own: their values differ.
    pub(super) fn group_nodes(&mut self) -> Result<(), ConversionError> {
        let mut place = 0;
        while place < self.file.graphs.len() {
            for node in 0..self.file.graphs[place].nodes.len() {
                let (class, raw) = {
                    let node = &self.file.graphs[place].nodes[node];
                    (node.class, node.raw)
                };
                if self.by_id.contains_key(class) {
                    continue;
                }
                let Some(object) = self.group_node(class) else {
                    continue;
                };
                if self.file.graphs.len() >= MOST_GRAPHS {
                    return Err(ConversionError::new(
                        "extra.groupNodes",
                        format!(
                            "The group node \"{}\" holds itself, or too many others",
                            shown(class)
                        ),
                    ));
                }
                let graph = self.group_graph(object, class)?;
                self.file.graphs[place].nodes[node].role = Role::Instance(self.file.graphs.len());
                self.file.graphs.push(graph);
                self.file.sources.push(Source {
                    object,
                    group_node: Some(raw),
                });
            }
            place += 1;
        }
        Ok(())
    }

    fn group_graph(&self, object: Raw<'a>, class: &'a str) -> Result<Graph<'a>, ConversionError> {
        let mut graph = Graph {
            name: class.get("workflow>".len()..).unwrap_or(class),
            is_group_node: true,
            ..Graph::default()
        };
        for (place, entry) in object.list("nodes").iter().enumerate() {
            let raw = Raw(entry.as_object());
            let Some(inner) = raw.text("type") else {
                return Err(ConversionError::new(
                    "extra.groupNodes",
                    format!(
                        "Node {place} of the group node \"{}\" has no type",
                        shown(class)
                    ),
                ));
            };
            graph.by_file_id.insert(place.to_string(), place);
            graph.nodes.push(Node {
                id: place.to_string(),
                class: inner,
                role: self.role(inner),
                mode: mode(raw.get("mode")),
                raw,
                ..Node::default()
            });
        }
        Ok(graph)
    }
}
