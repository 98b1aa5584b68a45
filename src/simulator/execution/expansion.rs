//! A graph that a node has made, run inside of the other.

use std::cell::OnceCell;
use std::collections::HashMap;

use serde_json::{Map, Value};

use super::current::Current;
use super::node::run_node;
use crate::simulator::cache::{Cache, keys};
use crate::simulator::instance::Instance;
use crate::simulator::nodes::Raised;

pub(super) type Failed = (Raised, String, Value);

/// What nodes that replaced others have shown: id, the client's node, output.
#[derive(Default)]
pub(super) struct Inner {
    pub(super) shown: Vec<(String, String, Value)>,
}

/// Runs the nodes that take a node's place, in their order.
pub(super) fn run_inner(
    instance: &Instance,
    cache: &mut Cache,
    current: &Current<'_>,
    display: &str,
    expanded: Map<String, Value>,
    inner: &mut Inner,
) -> Result<(), Failed> {
    let mut graph = current.graph.clone();
    let named: Vec<(String, Value)> = expanded
        .into_iter()
        .map(|(id, node)| (format!("{display}.0.0.{id}"), node))
        .collect();
    graph.extend(named.iter().cloned());
    let (keys, _) = keys(instance, &graph);
    let whole = Current {
        prompt_id: current.prompt_id,
        client_id: current.client_id.clone(),
        extra: current.extra,
        outputs: current.outputs,
        graph: &graph,
        tokens: HashMap::new(),
        metadata: OnceCell::new(),
        progress: current.progress.lock().clone().into(),
        executed: Vec::new().into(),
    };
    for (id, _) in &named {
        if keys.get(id).is_none_or(|key| cache.get(key).is_none()) {
            run_node(instance, cache, &whole, &keys, (id, display), inner)?;
        }
        let shown = keys.get(id).and_then(|key| cache.get(key)?.ui.clone());
        inner
            .shown
            .extend(shown.map(|ui| (id.clone(), display.to_owned(), ui)));
    }
    Ok(())
}
