//! What nodes are called in sentences: their titles, and those of the instances around them.

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::{Map, Value};

use super::model::shown;

/// Titles of instances by execution id.
pub type Instances = HashMap<String, String>;

/// Instances around a node that are named at most.
const MOST_AROUND: usize = 8;

/// The titles of a graph's nodes, with those of the instances around them.
#[derive(Debug, Default, Clone)]
pub struct Titles(HashMap<String, String>);

impl Titles {
    /// Of the nodes that have one.
    pub fn of(graph: &Map<String, Value>, instances: &Instances) -> Self {
        let titled = graph.iter().filter_map(|(id, node)| {
            let title = node.pointer("/_meta/title")?.as_str()?;
            let mut text = format!("\"{}\"", shown(title));
            let mut around = id.as_str();
            for _ in 0..MOST_AROUND {
                let Some((outer, _)) = around.rsplit_once(':') else {
                    break;
                };
                around = outer;
                if let Some(title) = instances.get(around) {
                    let _ = write!(text, " in \"{title}\"");
                }
            }
            Some((id.clone(), text))
        });
        Self(titled.collect())
    }

    /// Adds the titles to a sentence that says `node 12:3 (KSampler)`.
    pub fn in_sentence(&self, sentence: &str) -> String {
        const WORD: &str = "node ";
        let mut named = String::with_capacity(sentence.len());
        let mut rest = sentence;
        while let Some(at) = rest.find(WORD) {
            let (before, after) = rest.split_at(at + WORD.len());
            named.push_str(before);
            let in_front = before.get(..at).and_then(|text| text.chars().next_back());
            let id = after.split(' ').next().unwrap_or_default();
            let follows = after
                .get(id.len()..)
                .is_some_and(|rest| rest.starts_with(" ("));
            rest = after;
            if follows && in_front.is_none_or(|c| !c.is_alphanumeric()) {
                named.push_str(id);
                rest = after.get(id.len()..).unwrap_or_default();
                if let Some(title) = self.0.get(id) {
                    named.push(' ');
                    named.push_str(title);
                }
            }
        }
        named.push_str(rest);
        named
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sentences_get_the_titles_of_their_nodes() {
        let graph = json!({
            "12:3:1": {"class_type": "KSampler", "_meta": {"title": "Fine"}},
            "4": {"class_type": "SaveImage", "_meta": {"title": "Save Image"}},
            "5": {"class_type": "A"},
        });
        let graph = graph.as_object().unwrap();
        let instances = Instances::from([
            ("12".to_owned(), "Upscale".to_owned()),
            ("12:3".to_owned(), "Pass".to_owned()),
        ]);
        for (sentence, named) in [
            (
                "node 12:3:1 (KSampler) failed: x",
                "node 12:3:1 \"Fine\" in \"Pass\" in \"Upscale\" (KSampler) failed: x",
            ),
            (
                "a: node 4 (SaveImage), input \"x\": y; node 5 (A): z",
                "a: node 4 \"Save Image\" (SaveImage), input \"x\": y; node 5 (A): z",
            ),
            ("the node 4 has", "the node 4 has"),
            ("supernode 4 (SaveImage)", "supernode 4 (SaveImage)"),
            ("node ", "node "),
        ] {
            assert_eq!(Titles::of(graph, &instances).in_sentence(sentence), named);
        }
    }
}
