//! To whom a broadcast is restricted.

use serde_json::Value;

use crate::graph::ui::model::{ROOT, Raw, Workflow};

/// The height of a node's title, above its position.
const TITLE: f64 = 30.0;

/// An input that may take a broadcast.
pub struct Taker<'w> {
    /// None is the output side of a definition.
    pub node: Option<usize>,
    pub kind: &'w str,
    pub name: &'w str,
    pub label: Option<&'w str>,
    pub title: &'w str,
    /// Places of the groups around it.
    pub groups: Vec<(usize, &'w str)>,
    pub color: Option<&'w str>,
}

impl Taker<'_> {
    /// What people see.
    pub fn shown(&self) -> &str {
        self.label.unwrap_or(self.name)
    }
}

/// A pattern that must be found, or must not.
#[derive(Debug, Default)]
pub struct Pattern {
    regex: Option<regex::Regex>,
    inverted: bool,
    /// It cannot be read, so it matches nothing.
    broken: bool,
}

impl Pattern {
    /// Empty and `.*` are no restriction.
    pub fn new(text: Option<&str>, inverted: bool) -> Self {
        let text = text.unwrap_or_default();
        if matches!(text, "" | ".*") {
            return Self::default();
        }
        let regex = regex::RegexBuilder::new(text).size_limit(1 << 20).build();
        Self {
            broken: regex.is_err(),
            regex: regex.ok(),
            inverted,
        }
    }

    pub const fn is_some(&self) -> bool {
        self.regex.is_some() || self.broken
    }

    pub const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether one of the texts has it.
    pub fn allows<'t>(&self, mut texts: impl Iterator<Item = &'t str>) -> bool {
        match &self.regex {
            Some(regex) => texts.any(|text| regex.is_match(text)) != self.inverted,
            None => !self.broken,
        }
    }
}

/// The root's groups that a node is in.
pub fn groups_around<'w>(
    workflow: &'w Workflow<'_>,
    place: usize,
    node: usize,
) -> Vec<(usize, &'w str)> {
    if place != ROOT {
        return Vec::new();
    }
    let graph = &workflow.graphs[place];
    if graph.groups.is_empty() {
        return Vec::new();
    }
    let raw = graph.nodes[node].raw;
    let at = |of: Option<&Value>, index: usize| {
        let value = of.and_then(|v| v.get(index).or_else(|| v.get(index.to_string())));
        value.and_then(Value::as_f64).unwrap_or(0.0)
    };
    let (position, size) = (raw.get("pos"), raw.get("size"));
    let x = at(position, 0) + at(size, 0) / 2.0;
    let y = at(position, 1) - TITLE + (at(size, 1) + TITLE) / 2.0;
    let groups = graph.groups.iter().enumerate();
    groups
        .filter(|(_, group)| {
            let bounding = group.get("bounding");
            let side = |index| at(bounding, index);
            x >= side(0) && x < side(0) + side(2) && y >= side(1) && y < side(1) + side(3)
        })
        .map(|(place, group)| {
            (
                place,
                group
                    .get("title")
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
            )
        })
        .collect()
}

/// A node's colour.
pub fn color(raw: Raw<'_>) -> Option<&str> {
    raw.text("color")
}
