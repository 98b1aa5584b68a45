//! Which node runs next.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::cache::link;

/// The nodes that have to run, and what waits for what.
#[derive(Debug)]
pub struct Schedule {
    /// In the order in which they were found.
    order: Vec<String>,
    waiting: HashMap<String, usize>,
    blocking: HashMap<String, Vec<String>>,
}

impl Schedule {
    /// All that the outputs need; a cached ancestor is not visited.
    pub fn new(graph: &Map<String, Value>, outputs: &[String], cached: &HashSet<&str>) -> Self {
        let mut schedule = Self {
            order: Vec::new(),
            waiting: HashMap::new(),
            blocking: HashMap::new(),
        };
        for output in outputs {
            let mut pending = vec![output.clone()];
            while let Some(id) = pending.pop() {
                if schedule.waiting.contains_key(&id) {
                    continue;
                }
                schedule.order.push(id.clone());
                let mut links: Vec<String> = Vec::new();
                for value in graph
                    .get(&id)
                    .and_then(|node| node["inputs"].as_object())
                    .into_iter()
                    .flat_map(Map::values)
                {
                    if let Some((from, _)) = link(value)
                        && !links.contains(&from)
                        && !cached.contains(from.as_str())
                    {
                        links.push(from);
                    }
                }
                for from in &links {
                    schedule
                        .blocking
                        .entry(from.clone())
                        .or_default()
                        .push(id.clone());
                }
                schedule.waiting.insert(id, links.len());
                pending.extend(links);
            }
        }
        schedule
    }

    /// Takes the node that runs next: an output node if one can run, else one that leads to an
    /// output soonest. The caller runs it before asking again.
    pub fn next(&mut self, is_output: impl Fn(&str) -> bool) -> Option<String> {
        let ready: Vec<&String> = self
            .order
            .iter()
            .filter(|id| self.waiting.get(*id) == Some(&0))
            .collect();
        let leads = |id: &str| self.blocking.get(id).map_or(&[][..], Vec::as_slice);
        let chosen = ready
            .iter()
            .find(|id| is_output(id))
            .or_else(|| {
                ready
                    .iter()
                    .find(|id| leads(id).iter().any(|next| is_output(next)))
            })
            .or_else(|| {
                ready.iter().find(|id| {
                    leads(id)
                        .iter()
                        .any(|next| leads(next).iter().any(|after| is_output(after)))
                })
            })
            .or(ready.first())
            .map(|id| (*id).clone())?;
        self.order.retain(|id| *id != chosen);
        self.waiting.remove(&chosen);
        for next in self.blocking.remove(&chosen).unwrap_or_default() {
            if let Some(count) = self.waiting.get_mut(&next) {
                *count -= 1;
            }
        }
        Some(chosen)
    }
}
