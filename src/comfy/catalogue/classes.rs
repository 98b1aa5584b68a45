//! The inputs of the node classes.

use std::collections::HashSet;

use serde_json::Value;

use super::Catalogue;
use super::markers::Markers;
use crate::comfy::input_kind::{InputKind, options};

/// What the probe found out about an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelInput {
    pub(super) folder: String,
    /// Its list has the names as the folder has them.
    pub(super) plain: bool,
}

/// What links can be made to a class, and from it.
#[derive(Debug, Default, Clone)]
pub(super) struct Shape {
    pub(super) inputs: HashSet<String>,
    pub(super) outputs: usize,
}

impl Catalogue {
    /// Adds a class by its inputs and the number of its outputs.
    pub(crate) fn add_class<'a>(
        &mut self,
        class: &str,
        inputs: impl IntoIterator<Item = &'a str>,
        outputs: usize,
    ) {
        let inputs = inputs.into_iter().map(str::to_owned).collect();
        self.shapes
            .insert(class.to_owned(), Shape { inputs, outputs });
    }

    pub(super) fn read_classes(&mut self, info: &Value, markers: &Markers) {
        let Some(classes) = info.as_object() else {
            return;
        };
        for (class, description) in classes {
            if description.get("output_node").and_then(Value::as_bool) == Some(true) {
                self.output_classes.insert(class.clone());
            }
            let inputs = ["required", "optional"]
                .iter()
                .filter_map(|group| description.pointer(&format!("/input/{group}"))?.as_object())
                .flat_map(|inputs| inputs.keys().map(String::as_str));
            if let Some(outputs) = description.get("output").and_then(Value::as_array) {
                self.add_class(class, inputs, outputs.len());
            }
            for group in ["required", "optional"] {
                let Some(inputs) = description
                    .pointer(&format!("/input/{group}"))
                    .and_then(Value::as_object)
                else {
                    continue;
                };
                for (input, spec) in inputs {
                    self.read_input(class, input, spec, markers);
                }
            }
        }
        let choices = |input: &str| {
            info.pointer(&format!("/KSampler/input/required/{input}"))
                .and_then(options)
                .unwrap_or_default()
        };
        self.samplers = choices("sampler_name");
        self.schedulers = choices("scheduler");
    }

    fn read_input(&mut self, class: &str, input: &str, spec: &Value, markers: &Markers) {
        self.inputs
            .entry(class.to_owned())
            .or_default()
            .insert(input.into(), InputKind::of(spec));
        if let Some(found) = markers.found_in(spec) {
            self.model_inputs
                .insert((class.to_owned(), input.to_owned()), found);
        }
    }
}
