//! Fields of ComfyUI's own `POST /prompt`, passed on as given.

use serde_json::{Map, Number, Value};

use super::read::wrong_type;
use crate::error::Failure;

/// Fields of ComfyUI's own `POST /prompt`, passed on as given.
#[derive(Debug, Clone, Default)]
pub struct SubmitFields {
    /// Node ids; each is in the graph.
    pub partial_execution_targets: Option<Vec<String>>,
    /// Ahead of those that wait.
    pub front: Option<bool>,
    /// The place in the queue.
    pub number: Option<Number>,
}

impl SubmitFields {
    /// Without a graph nothing is compared with it: [`SubmitFields::check`] does so when there is
    /// one.
    pub(super) fn find(
        body: &Map<String, Value>,
        graph: Option<&Map<String, Value>>,
    ) -> Result<Self, Failure> {
        let partial_execution_targets = match body.get(TARGETS) {
            None => None,
            Some(Value::Array(list)) => {
                let ids = list.iter().map(|id| id.as_str().map(str::to_owned));
                Some(
                    ids.collect::<Option<Vec<String>>>()
                        .ok_or_else(|| wrong_type(TARGETS, "a list of node ids"))?,
                )
            }
            Some(_) => return Err(wrong_type(TARGETS, "a list of node ids")),
        };
        let front = match body.get("front") {
            None => None,
            Some(Value::Bool(front)) => Some(*front),
            Some(_) => return Err(wrong_type("front", "true or false")),
        };
        let number = match body.get("number") {
            None => None,
            Some(Value::Number(number)) => Some(number.clone()),
            Some(_) => return Err(wrong_type("number", "a number")),
        };
        let fields = Self {
            partial_execution_targets,
            front,
            number,
        };
        if let Some(graph) = graph {
            fields.check(graph)?;
        }
        Ok(fields)
    }

    /// Checks that the nodes it names are there.
    ///
    /// # Errors
    /// A 400 that names the field.
    pub fn check(&self, graph: &Map<String, Value>) -> Result<(), Failure> {
        let mut targets = self.partial_execution_targets.iter().flatten();
        match targets.find(|id| !graph.contains_key(*id)) {
            Some(id) => Err(Failure::invalid(
                TARGETS,
                format!("\"{id}\" is no node of the graph"),
            )),
            None => Ok(()),
        }
    }
}

const TARGETS: &str = "partial_execution_targets";
