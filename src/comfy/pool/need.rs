//! What a run needs of the ComfyUI that it goes to.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Pool;
use crate::comfy::catalogue::Catalogue;

/// What is looked at when a place is chosen.
#[derive(Debug, Clone, Default)]
pub struct Need {
    /// `folder/name` of every model in the graph.
    pub models: Arc<BTreeSet<String>>,
    /// Its node classes that some ComfyUI does not have.
    pub classes: Arc<BTreeSet<String>>,
    /// It can run there alone.
    pub only: Option<usize>,
    /// Its place by age: a smaller one is older.
    pub number: u64,
    /// Those that it shall not go to, because that went wrong just now.
    pub not: BTreeSet<usize>,
}

impl Need {
    /// Of a graph whose inputs are in place.
    pub fn of(graph: &Map<String, Value>, pool: &Pool) -> Self {
        let catalogue = pool.catalogue();
        let catalogues: Vec<_> = pool
            .instances()
            .iter()
            .map(|comfy| comfy.catalogue())
            .collect();
        let rare = |class: &str| {
            let known = catalogues.iter().filter(|known| known.knows(class)).count();
            known > 0 && known < catalogues.len()
        };
        let classes = graph
            .values()
            .filter_map(class_of)
            .filter(|class| rare(class));
        Self {
            classes: Arc::new(classes.map(str::to_owned).collect()),
            models: Arc::new(models(graph, &catalogue)),
            only: None,
            number: pool.next_number(),
            not: BTreeSet::new(),
        }
    }
}

fn class_of(node: &Value) -> Option<&str> {
    node.get("class_type")?.as_str()
}

fn models(graph: &Map<String, Value>, catalogue: &Catalogue) -> BTreeSet<String> {
    let mut models = BTreeSet::new();
    for node in graph.values() {
        let inputs = node.get("inputs").and_then(Value::as_object);
        let Some((class, inputs)) = class_of(node).zip(inputs) else {
            continue;
        };
        for (input, value) in inputs {
            if let Some(name) = value.as_str()
                && let Some(folder) = catalogue.model_folder(class, input)
            {
                models.insert(format!("{folder}/{name}"));
            }
        }
    }
    models
}
