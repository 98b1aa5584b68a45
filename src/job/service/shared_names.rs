//! Graphs that may write under a name that others write to as well (F04): what is known of their
//! classes.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

use super::Inner;
use crate::job::cleanup::Prefix;
use crate::job::preprocess::names;

impl Inner {
    /// Whether a graph may write under a name that others write to as well.
    pub fn shares_names(&self, graph: &Map<String, Value>, made: &[Prefix]) -> bool {
        let catalogue = self.comfy.catalogue();
        let sharing = self.sharing.lock();
        names::shares_names(
            graph,
            made,
            |class| catalogue.is_output(class),
            |class| sharing.contains(class),
        )
    }

    /// These nodes do so; the next graph with their classes is treated accordingly from the start.
    pub fn remember_shared_names(&self, graph: &Map<String, Value>, nodes: &BTreeSet<String>) {
        let classes = nodes
            .iter()
            .filter_map(|node| graph.get(node)?.get("class_type")?.as_str());
        let mut sharing = self.sharing.lock();
        sharing.extend(classes.map(str::to_owned));
    }
}
