//! Subgraphs before those that use them.

use crate::graph::ui::error::ConversionError;
use crate::graph::ui::model::{Graph, ROOT, Role, shown};

/// Definitions that the root leads to, inner ones first, the root last.
pub fn order(graphs: &[Graph<'_>]) -> Result<Vec<usize>, ConversionError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        Open,
        Done,
    }
    let inside = |graph: usize| -> Vec<usize> {
        let roles = graphs[graph].nodes.iter().map(|node| node.role);
        roles
            .filter_map(|role| {
                if let Role::Instance(d) = role {
                    Some(d)
                } else {
                    None
                }
            })
            .collect()
    };
    let mut seen = vec![Seen::No; graphs.len()];
    let mut order = Vec::new();
    let mut open = vec![(ROOT, inside(ROOT), 0)];
    seen[ROOT] = Seen::Open;
    while let Some((graph, inner, next)) = open.last_mut() {
        let Some(definition) = inner.get(*next).copied() else {
            seen[*graph] = Seen::Done;
            order.push(*graph);
            open.pop();
            continue;
        };
        *next += 1;
        match seen[definition] {
            Seen::Done => {}
            Seen::Open => {
                return Err(ConversionError::new(
                    "definitions",
                    format!(
                        "The subgraph \"{}\" contains itself",
                        shown(graphs[definition].name)
                    ),
                ));
            }
            Seen::No if open.len() > crate::graph::ui::DEEPEST => {
                return Err(ConversionError::new(
                    "definitions",
                    format!(
                        "Subgraphs are nested more than {} deep",
                        crate::graph::ui::DEEPEST
                    ),
                ));
            }
            Seen::No => {
                seen[definition] = Seen::Open;
                open.push((definition, inside(definition), 0));
            }
        }
    }
    Ok(order)
}
