//! Media in a graph that another machine runs: what is embedded can travel beside the graph, and
//! paths mean nothing there (fleet.md).

use serde_json::{Map, Value};

use super::find;
use super::value::{self, MediaValue};
use super::{InputTask, Work, base64};
use crate::comfy::catalogue::Catalogue;
use crate::error::Failure;
use crate::storage::Storage;

/// A file that is embedded in a graph.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// Keys and places from the graph down.
    path: Vec<String>,
    /// Characters of its text.
    pub length: usize,
}

/// All embedded files of a graph.
///
/// # Errors
/// A 400 for a path of this machine.
pub fn embedded(
    graph: &mut Map<String, Value>,
    catalogue: &Catalogue,
) -> Result<Vec<Embedded>, Failure> {
    let mut found = find::tasks(graph, catalogue);
    let mut all = Vec::new();
    let mut result = Ok(());
    for task in &mut found.tasks {
        if result.is_ok() && !matches!(task.work, Work::Model(_) | Work::Repository) {
            result = look_at(task, &mut all);
        }
        // The values were taken out.
        let value = task.take_value();
        if let Some(place) = task.place_in(graph) {
            *place = value;
        }
    }
    result.map(|()| all)
}

fn look_at(task: &InputTask, all: &mut Vec<Embedded>) -> Result<(), Failure> {
    let items: Vec<(Option<usize>, &str)> = match &*task.value {
        Value::String(text) => vec![(None, text.as_str())],
        Value::Array(list) => list
            .iter()
            .enumerate()
            .filter_map(|(place, item)| Some((Some(place), item.as_str()?)))
            .collect(),
        _ => Vec::new(),
    };
    for (place, text) in items {
        if Storage::is_url(text) {
            continue;
        }
        let bare = text.trim();
        let data_uri = bare
            .get(..5)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
        let looks = base64::looks_like_it(bare);
        // A path may look like base64, and a JPEG's base64 like a path.
        if data_uri || looks && (!value::is_path(bare) || decode(bare).is_some()) {
            let mut path = vec![task.node.clone(), "inputs".to_owned(), task.input.clone()];
            path.extend(task.inner.iter().cloned());
            if task.wrapped {
                path.push(find::WRAPPER.to_owned());
            }
            path.extend(place.map(|place| place.to_string()));
            all.push(Embedded {
                path,
                length: text.len(),
            });
        } else if value::is_path(bare) {
            let message = format!(
                "\"{}\" is not on this machine: send the file itself, a URL, or the name of a \
                 file that the instances have",
                crate::limits::text::quoted(bare)
            );
            return Err(Failure::invalid(task.location(), message));
        }
    }
    Ok(())
}

/// Decodes an embedded file; `None` when it is none after all: whoever runs the graph says why.
pub fn decode(text: &str) -> Option<(Vec<u8>, String)> {
    match value::decoded(text) {
        Some(MediaValue::Bytes(bytes, extension)) => Some((bytes, extension)),
        _ => None,
    }
}

impl Embedded {
    /// Its text, taken out of the graph.
    pub fn place_in<'a>(&self, graph: &'a mut Map<String, Value>) -> Option<&'a mut Value> {
        let (node, rest) = self.path.split_first()?;
        let mut value = graph.get_mut(node)?;
        for part in rest {
            value = match value {
                Value::Object(map) => map.get_mut(part)?,
                Value::Array(list) => list.get_mut(part.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    }
}
