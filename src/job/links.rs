//! Broken links of a graph in words. ComfyUI's verdict counts, but it blames them on other inputs
//! or on nobody (faults.md, F11).

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::comfy::catalogue::Catalogue;

/// More are not named.
const NAMED: usize = 50;
/// Characters of a value that are repeated.
const SHOWN: usize = 100;

/// A link that leads nowhere, or in a circle.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BrokenLink {
    /// The node that has the link.
    pub node: String,
    /// Its input.
    pub input: String,
    /// What is wrong.
    pub sentence: String,
}

/// The broken links that these nodes depend on; those of the whole graph when none are given.
pub(super) fn broken(
    graph: &Map<String, Value>,
    catalogue: &Catalogue,
    roots: &[&str],
) -> Vec<BrokenLink> {
    let mut walk = Walk {
        graph,
        catalogue,
        path: Vec::new(),
        place: HashMap::new(),
        done: HashSet::new(),
        found: Vec::new(),
    };
    if roots.is_empty() {
        graph.keys().for_each(|node| walk.from(node));
    } else {
        roots.iter().for_each(|node| walk.from(node));
    }
    walk.found
}

struct Walk<'a> {
    graph: &'a Map<String, Value>,
    catalogue: &'a Catalogue,
    /// The nodes on the way here, each with the links of it that are still to be followed.
    path: Vec<(&'a str, Vec<Link<'a>>)>,
    /// Where a node stands in `path`.
    place: HashMap<&'a str, usize>,
    done: HashSet<&'a str>,
    found: Vec<BrokenLink>,
}

/// A link that can be followed.
struct Link<'a> {
    input: &'a str,
    to: &'a str,
}

impl<'a> Walk<'a> {
    /// Depth first, and without recursion: a graph may be one long chain.
    fn from(&mut self, root: &str) {
        let Some((root, _)) = self.graph.get_key_value(root) else {
            return;
        };
        self.enter(root);
        while let Some((node, links)) = self.path.last_mut() {
            let node = *node;
            match links.pop() {
                Some(link) if self.place.contains_key(link.to) => self.cycle(node, &link),
                Some(link) => self.enter(link.to),
                None => {
                    self.path.pop();
                    self.place.remove(node);
                    self.done.insert(node);
                }
            }
        }
    }

    fn enter(&mut self, node: &'a str) {
        if self.done.contains(node) || self.place.contains_key(node) {
            return;
        }
        let mut links: Vec<Link<'a>> = self.links(node);
        links.reverse();
        self.place.insert(node, self.path.len());
        self.path.push((node, links));
    }

    /// The sound links of a node; the others are noted.
    fn links(&mut self, node: &'a str) -> Vec<Link<'a>> {
        let class = self.class(node);
        let inputs = self
            .graph
            .get(node)
            .and_then(|node| node.get("inputs"))
            .and_then(Value::as_object);
        let mut sound = Vec::new();
        for (input, value) in inputs.into_iter().flatten() {
            let Value::Array(link) = value else { continue };
            if !self.catalogue.takes(class, input) {
                continue;
            }
            match self.target(link) {
                Ok(to) => sound.push(Link { input, to }),
                Err(why) => self.note(node, input, format!("input \"{input}\", {why}")),
            }
        }
        sound
    }

    /// Where a link leads, or what is wrong with it.
    fn target(&self, link: &[Value]) -> Result<&'a str, String> {
        let written = || shown(&Value::Array(link.to_vec()));
        let [from, output] = link else {
            return Err(format!(
                "is {}: a link has two members, the id of a node and the number of an output of it",
                written()
            ));
        };
        let Value::String(from) = from else {
            return Err(format!(
                "is linked as {}: the id of a node must be a string",
                written()
            ));
        };
        let Some((from, _)) = self.graph.get_key_value(from) else {
            return Err(format!(
                "is linked to node {}, which is not in the graph",
                shown(&Value::from(from.as_str()))
            ));
        };
        let Some(number) = output.as_i64() else {
            return Err(format!(
                "is linked as {}: the number of an output must be a whole number",
                written()
            ));
        };
        let class = self.class(from);
        match self.catalogue.outputs(class) {
            // Python counts from the end below zero.
            Some(has) if !(-to_i64(has)..to_i64(has)).contains(&number) => Err(format!(
                "is linked to output {number} of {}, which has {has} output(s), counted from 0",
                self.named(from)
            )),
            _ => Ok(from),
        }
    }

    fn cycle(&mut self, node: &'a str, link: &Link<'a>) {
        let begins = self.place.get(link.to).copied().unwrap_or_default();
        let mut round: Vec<&str> = self.path[begins..].iter().map(|(node, _)| *node).collect();
        round.push(link.to);
        self.note(
            node,
            link.input,
            format!(
                "input \"{}\", closes a circle in which no node can be first: {}",
                link.input,
                round.join(" -> ")
            ),
        );
    }

    fn note(&mut self, node: &str, input: &str, what: String) {
        if self.found.len() < NAMED {
            self.found.push(BrokenLink {
                node: node.to_owned(),
                input: input.to_owned(),
                sentence: format!("{}, {what}", self.named(node)),
            });
        }
    }

    fn class(&self, node: &str) -> &'a str {
        self.graph
            .get(node)
            .and_then(|node| node.get("class_type"))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    fn named(&self, node: &str) -> String {
        format!("node {node} ({})", self.class(node))
    }
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sentences(graph: &Value, roots: &[&str]) -> Vec<String> {
        let mut catalogue = Catalogue::default();
        catalogue.add_class("EmptyImage", ["width"], 1);
        catalogue.add_class("ImageInvert", ["image"], 1);
        catalogue.add_class("SaveImage", ["images"], 0);
        broken(graph.as_object().unwrap(), &catalogue, roots)
            .into_iter()
            .map(|link| link.sentence)
            .collect()
    }

    /// F11
    #[test]
    fn every_kind_of_broken_link_is_named_where_it_is() {
        let save = |link: Value| {
            json!({
                "2": {"class_type": "EmptyImage", "inputs": {}},
                "9": {"class_type": "SaveImage", "inputs": {"images": link, "odd": ["77", 0]}}
            })
        };
        for (link, sentence) in [
            (
                json!(["99", 0]),
                "is linked to node \"99\", which is not in the graph",
            ),
            (
                json!(["2", 5]),
                "is linked to output 5 of node 2 (EmptyImage), which has 1 output(s), counted \
                 from 0",
            ),
            (
                json!([2, 0]),
                "is linked as [2,0]: the id of a node must be a string",
            ),
            (
                json!(["2", "0"]),
                "is linked as [\"2\",\"0\"]: the number of an output must be a whole number",
            ),
            (
                json!(["2"]),
                "is [\"2\"]: a link has two members, the id of a node and the number of an output \
                 of it",
            ),
        ] {
            assert_eq!(
                sentences(&save(link), &["9"]),
                [format!("node 9 (SaveImage), input \"images\", {sentence}")]
            );
        }
        for sound in [
            json!(["2", 0]),
            json!(["2", -1]),
            json!("text"),
            json!({"__value__": [1]}),
        ] {
            assert!(sentences(&save(sound), &["9"]).is_empty());
        }
    }

    /// F11
    #[test]
    fn links_are_followed_upwards_and_circles_are_named() {
        let invert =
            |from: &str| json!({"class_type": "ImageInvert", "inputs": {"image": [from, 0]}});
        let graph = json!({"4": invert("98"), "5": invert("6"), "6": invert("5"),
        "7": invert("99"), "8": invert("7"),
            "9": {
                "class_type": "SaveImage",
                "inputs": {"images": ["5", 0]}
            }, "10": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}}});
        assert_eq!(
            sentences(&graph, &["9"]),
            [
                "node 6 (ImageInvert), input \"image\", closes a circle in which no node can be \
                 first: 5 -> 6 -> 5"
            ]
        );
        assert_eq!(
            sentences(&graph, &["9", "10"])[1..],
            [
                "node 7 (ImageInvert), input \"image\", is linked to node \"99\", which is not in \
                 the graph"
            ]
        );
        assert_eq!(sentences(&graph, &[]).len(), 3);
        let mut long: Map<String, Value> = (0..100_000)
            .map(|node| (node.to_string(), invert(&(node + 1).to_string())))
            .collect();
        long.insert("9".to_owned(), invert("10"));
        assert_eq!(sentences(&Value::Object(long), &["0"]).len(), 1);
    }
}
