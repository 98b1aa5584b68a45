//! One input that is to be replaced.

use serde_json::{Map, Value};
use std::sync::Arc;

use super::find;
use super::models::PlacedModels;
use crate::storage::Fetched;

/// One input to be worked on.
#[derive(Debug, Clone)]
pub(super) struct InputTask {
    pub(super) node: String,
    pub(super) input: String,
    /// Where the value is inside the input: keys and places in lists. Empty for the input itself.
    pub(super) inner: Vec<String>,
    pub(super) class: String,
    /// Taken out of the graph: it may be large, and most of it is replaced.
    pub(super) value: Arc<Value>,
    /// It was in ComfyUI's wrapper for lists.
    pub(super) wrapped: bool,
    pub(super) work: Work,
    /// Number of the task; makes file names different.
    pub(super) index: usize,
}

impl InputTask {
    /// The path of the value in the request.
    pub(super) fn location(&self) -> String {
        let inner = self.inner.iter().map(|part| format!(".{part}"));
        let start = format!("prompt.{}.inputs.{}", self.node, self.input);
        start + &inner.collect::<String>()
    }

    /// The value as it was, if nothing has come in its place.
    pub(super) fn take_value(&mut self) -> Value {
        let value = Arc::unwrap_or_clone(std::mem::take(&mut self.value));
        if self.wrapped {
            serde_json::json!({ find::WRAPPER: value })
        } else {
            value
        }
    }

    /// Where its value is in a graph.
    pub(super) fn place_in<'a>(&self, graph: &'a mut Map<String, Value>) -> Option<&'a mut Value> {
        let mut value = graph
            .get_mut(&self.node)?
            .get_mut("inputs")?
            .get_mut(&self.input)?;
        for part in &self.inner {
            value = match value {
                Value::Object(map) => map.get_mut(part)?,
                Value::Array(list) => list.get_mut(part.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    Media,
    /// A directory of one of the classes that are known to read one.
    Directory,
    /// A text that names a folder, of any class (F32).
    Folder,
    Model(ModelWork),
    Repository,
}

/// A model to be put into a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelWork {
    pub(super) folder: String,
    pub(super) form: Form,
}

/// How the node wants the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is in the folder.
    Name,
    /// Without its extension.
    Stem,
    /// As the list of the class has it, which is not the folder's.
    Listed,
}

/// What became of a task.
#[derive(Default)]
pub(super) struct Done {
    pub(super) value: Option<Value>,
    pub(super) fetched: Vec<(String, Fetched)>,
    pub(super) models: PlacedModels,
    pub(super) warnings: Vec<String>,
}
