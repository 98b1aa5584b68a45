//! Whose a node is: nodes may replace themselves by others while they run (`9.0.0.2`), which the
//! client never sent. Everything that leaves us names the node of the client's graph (U2).

use std::collections::HashMap;

use serde_json::Value;

use super::request::Graph;

/// More than this of what cannot be told from the id itself is not remembered: loops expand without
/// end.
const REMEMBERED: usize = 10_000;

/// The nodes of a client's graph, and what ComfyUI has said of others.
#[derive(Debug, Default)]
pub struct ClientNodes {
    graph: Graph,
    shown: HashMap<String, String>,
}

impl ClientNodes {
    /// Nothing has been said yet.
    pub fn new(graph: Graph) -> Self {
        Self {
            graph,
            shown: HashMap::new(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.graph.len()
    }

    /// The class of a node of the graph.
    pub fn class_of(&self, node: &str) -> Option<&str> {
        self.graph.get(node)?.get("class_type")?.as_str()
    }

    /// ComfyUI says for which node of the graph another one stands.
    pub fn note(&mut self, node: &str, display: &str) {
        if !self.graph.contains_key(node)
            && self.graph.contains_key(display)
            && self.by_id(node) != Some(display)
            && self.shown.len() < REMEMBERED
        {
            self.shown.insert(node.to_owned(), display.to_owned());
        }
    }

    /// What a message or an entry of history's `meta` says of that.
    pub fn note_from(&mut self, about: &Value, node: &str) {
        let text = |name: &str| about.get(name).and_then(Value::as_str);
        if let (Some(node), Some(display)) = (text(node), text("display_node")) {
            self.note(node, display);
        }
    }

    /// The node of the client's graph that a node is, or stands for.
    pub fn of<'a>(&'a self, node: &'a str) -> &'a str {
        if self.graph.contains_key(node) {
            return node;
        }
        match self.shown.get(node) {
            Some(shown) => shown,
            None => self.by_id(node).unwrap_or(node),
        }
    }

    /// The part before the first dot that is a key of the graph.
    fn by_id<'a>(&self, node: &'a str) -> Option<&'a str> {
        let parts = node.match_indices('.').map(|(at, _)| &node[..at]);
        parts
            .into_iter()
            .find(|part| self.graph.contains_key(*part))
    }

    /// What ComfyUI says of an error, with the client's node in place of an inner one.
    pub fn named_in(&self, mut data: Value) -> Value {
        let inner = data
            .get("node_id")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let client = self.of(inner).to_owned();
        // ComfyUI names the outer node itself, but the class of the inner one.
        if let Some(class) = self.class(&client) {
            data["node_type"] = class.into();
            data["node_id"] = client.into();
        }
        data
    }

    /// Its class.
    pub fn class(&self, node: &str) -> Option<&str> {
        self.graph.get(node)?.get("class_type")?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn inner_nodes_stand_for_the_clients() {
        let graph = json!({"9": {"class_type": "Loop"}, "7.1": {"class_type": "Dotted"}, "x": {}});
        let mut nodes = ClientNodes::new(Arc::new(graph.as_object().unwrap().clone()));
        nodes.note_from(&json!({"node": "odd", "display_node": "x"}), "node");
        nodes.note_from(&json!({"node": "lost", "display_node": "nowhere"}), "node");
        nodes.note("9", "x");
        for (node, client) in [
            ("9", "9"),
            ("9.0.0.2", "9"),
            ("9.0.0.2.0.0.1", "9"),
            ("7.1.0.0.2", "7.1"),
            ("7.1", "7.1"),
            ("odd", "x"),
            ("lost", "lost"),
            ("unknown.0", "unknown.0"),
        ] {
            assert_eq!(nodes.of(node), client, "{node}");
        }
        assert_eq!((nodes.class("9"), nodes.class("x")), (Some("Loop"), None));
    }
}
