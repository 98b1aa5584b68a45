//! Widgets that the editor adds to those of the definition.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::Builder;
use crate::graph::catalogue::{InputDefinition, Upload};

impl<'a> Builder<'a, '_> {
    /// The chosen option's inputs.
    pub(super) fn children(
        &mut self,
        input: &'a InputDefinition,
        name: &str,
        value: Option<&Value>,
    ) {
        let chosen = input
            .options()
            .iter()
            .find(|option| Some(&option.key) == value);
        for child in chosen.map_or(&[][..], |option| &option.inputs) {
            self.input(child, Cow::Owned(format!("{name}.{}", child.name)));
        }
    }

    /// Widgets that belong to the chosen format.
    pub(super) fn format_widgets(&mut self, input: &'a InputDefinition, value: Option<&Value>) {
        let chosen = value
            .and_then(Value::as_str)
            .and_then(|value| input.format(value));
        for child in chosen.unwrap_or_default() {
            self.input(child, Cow::Borrowed(&child.name));
        }
    }

    pub(super) fn scene_buttons(&mut self) {
        let has_file = self
            .class
            .inputs
            .iter()
            .any(|input| input.name == "model_file");
        if !has_file || self.node.class == "Load3DAdvanced" {
            return;
        }
        self.saved.skip(3);
        for (name, value) in [
            ("upload 3d model", "upload3dmodel"),
            ("upload extra resources", "uploadExtraResources"),
            ("clear", "clear"),
        ] {
            self.push(name.into(), None, Some(json!(value)), true);
        }
    }

    pub(super) fn upload_button(&mut self) {
        let required = self.class.inputs.iter().take_while(|input| input.required);
        let combos = required.filter(|input| input.widget_kind() == "COMBO");
        let upload = combos
            .map(InputDefinition::upload)
            .find(|upload| *upload != Upload::None);
        if upload.is_some() {
            self.saved.skip(1);
            self.names.insert("upload".to_owned());
        }
    }

    /// Its options are added by the user: as many as are filled in, and one to fill.
    pub(super) fn custom_combo(&mut self) {
        // The position is worked out, whatever is saved.
        self.saved.skip(1);
        let mut options = Vec::new();
        loop {
            let name = format!("option{}", options.len() + 1);
            let value = self.saved.take(&name).filter(|value| !value.is_null());
            let value = value.unwrap_or_else(|| json!(""));
            let is_empty = value.as_str() == Some("");
            options.push((name, value));
            if is_empty {
                break;
            }
        }
        let choice = self.widgets.first().and_then(|widget| widget.value.clone());
        let place = options
            .iter()
            .position(|(_, value)| Some(value) == choice.as_ref());
        let place = place.map_or(json!(-1), |place| json!(place));
        self.push("index".into(), None, Some(place), true);
        for (name, value) in options {
            self.push(name.into(), None, Some(value), true);
        }
    }
}
