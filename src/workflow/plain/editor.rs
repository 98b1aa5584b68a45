//! Files as ComfyUI's editor saves them, and pictures, videos and sounds with a graph inside
//! (ui-format.md).

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::source::Fault;
use super::{Graph, PlainWorkflow, Refusal};
use crate::graph::catalogue::NodeClasses;
use crate::graph::embedded::{self, Preference};
use crate::graph::recognise::{Recognised, recognise};
use crate::graph::ui::app_mode::{self, AppInput, Setting};
use crate::graph::ui::{self, Moment};

/// A workflow in the editor's format.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    workflow: Arc<Map<String, Value>>,
    /// What its author exposed.
    inputs: Vec<AppInput>,
    warnings: Vec<String>,
}

/// A graph, the file that it was made of, and warnings.
type Converted = (
    Map<String, Value>,
    Option<Arc<Map<String, Value>>>,
    Vec<String>,
);

impl Saved {
    pub fn new(workflow: Map<String, Value>) -> Self {
        Self {
            workflow: Arc::new(workflow),
            inputs: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Which exposed inputs take media, and of which type.
    pub fn media(&self) -> Vec<(&str, &'static str)> {
        let inputs = self.inputs.iter();
        inputs
            .filter_map(|input| Some((input.name.as_str(), input.media_type?)))
            .collect()
    }

    /// The graph as the file has it, if that can be known now.
    pub fn at_load(
        &self,
        path: &Path,
        classes: Option<&NodeClasses>,
    ) -> Option<Map<String, Value>> {
        match ui::convert(&self.workflow, classes?, Moment::now()) {
            Ok(converted) => Some(converted.prompt),
            Err(error) => {
                tracing::warn!(
                    file = %path.display(),
                    "the workflow cannot be converted as things are: {error}"
                );
                None
            }
        }
    }

    /// Converts it, with what the input says of the exposed widgets.
    pub fn convert(
        &self,
        input: &Value,
        classes: Option<&NodeClasses>,
    ) -> Result<Converted, Refusal> {
        let settings: Vec<Setting> = self
            .inputs
            .iter()
            .filter_map(|exposed| {
                Some(Setting {
                    node: exposed.node.clone(),
                    widget: exposed.widget.clone(),
                    value: input.get(&exposed.name)?.clone(),
                })
            })
            .collect();
        let classes = classes.ok_or(Refusal::Unknown)?;
        let converted = ui::convert_with(&self.workflow, classes, Moment::now(), &settings)
            .map_err(Refusal::Workflow)?;
        let warnings = [self.warnings.clone(), converted.warnings].concat();
        Ok((converted.prompt, Some(self.workflow.clone()), warnings))
    }
}

/// A file without a header: its inputs are those that App mode exposes, if any.
pub(super) fn bare(
    document: Value,
    path: &Path,
    classes: Option<&NodeClasses>,
) -> Option<PlainWorkflow> {
    Some(of(recognise(document).ok()?, path, classes))
}

/// Reads a picture, video or sound. `None` when there is no graph in it.
///
/// # Errors
/// When it cannot be read.
pub fn read_media(
    path: &Path,
    classes: Option<&NodeClasses>,
) -> Result<Option<PlainWorkflow>, Fault> {
    let mut file =
        std::fs::File::open(path).map_err(|error| Fault::of_file(path, error.to_string()))?;
    let found = match embedded::find(&mut file) {
        Ok(Some(found)) => found.graph(Preference::Prompt),
        Ok(None) => return Ok(None),
        Err(error) => return Err(Fault::of_file(path, error.to_string())),
    };
    match found {
        Ok(found) => Ok(Some(of(found, path, classes))),
        Err(reason) => {
            tracing::debug!(file = %path.display(), "{reason}");
            Ok(None)
        }
    }
}

fn of(found: Recognised, path: &Path, classes: Option<&NodeClasses>) -> PlainWorkflow {
    let mut properties = Map::new();
    let graph = match found {
        Recognised::Api(graph) => Graph::Api(graph),
        Recognised::Ui(workflow) => {
            let mut saved = Saved::new(workflow);
            match classes.map(|classes| app_mode::inputs(&saved.workflow, classes)) {
                Some(Ok((inputs, warnings))) => {
                    let exposed = inputs.iter();
                    properties.extend(exposed.map(|i| (i.name.clone(), i.schema.clone())));
                    (saved.inputs, saved.warnings) = (inputs, warnings);
                }
                Some(Err(error)) => {
                    tracing::warn!(
                        file = %path.display(),
                        "the workflow cannot be converted as things are: {error}"
                    );
                }
                None => {}
            }
            Graph::Editor(saved)
        }
    };
    PlainWorkflow {
        summary: None,
        description: None,
        input: json!({"type": "object", "properties": properties}),
        bind: Vec::new(),
        bound_to: Vec::new(),
        graph,
    }
}
