//! What a class declares, and how `/object_info` shows it.

mod input;
mod inputs;

use serde_json::{Map, Value, json};

use super::call::{Call, Produced, Raised};
use crate::simulator::args::Imitate;
use crate::simulator::folders::Folders;

pub use input::{Input, Kind, Shape, Source};
pub use inputs::{
    boolean, choice, directory, file, float, int, model, output_file, plain, seed, shown, text,
    widget,
};

/// What a class does.
pub type Run = fn(&mut Call<'_>) -> Result<Produced, Raised>;

/// One class.
#[derive(Debug, Clone)]
pub struct Class {
    /// `class_type`.
    pub name: &'static str,
    /// What a person reads.
    pub display: &'static str,
    /// Where the menu has it.
    pub category: &'static str,
    /// Python module.
    pub module: &'static str,
    /// Inputs, required ones first.
    pub inputs: Vec<Input>,
    /// Types and names of the outputs.
    pub outputs: Vec<(&'static str, &'static str)>,
    /// A run can end here.
    pub output_node: bool,
    /// Written in the newer way.
    pub v3: bool,
    /// Never cached: the change token is always new.
    pub always_changes: bool,
    /// Gets inputs that it does not list, too.
    pub flexible: bool,
    /// What it does.
    pub run: Run,
}

/// Starts the declaration of a class.
pub fn class(name: &'static str, category: &'static str, run: Run) -> Class {
    Class {
        name,
        display: name,
        category,
        module: "nodes",
        inputs: Vec::new(),
        outputs: Vec::new(),
        output_node: false,
        v3: false,
        always_changes: false,
        flexible: false,
        run,
    }
}

impl Class {
    /// Adds an input.
    pub fn takes(mut self, input: Input) -> Self {
        self.inputs.push(input);
        self
    }

    /// Adds an output with its type as its name.
    pub fn gives(self, kind: &'static str) -> Self {
        self.gives_named(kind, kind)
    }

    /// Adds an output.
    pub fn gives_named(mut self, kind: &'static str, name: &'static str) -> Self {
        self.outputs.push((kind, name));
        self
    }

    /// Makes it an output node.
    pub fn saves(mut self) -> Self {
        self.output_node = true;
        self
    }

    /// Names the module; those of `comfy_extras` written in the newer way are `v3`.
    pub fn in_module(mut self, module: &'static str) -> Self {
        self.module = module;
        self
    }

    /// Marks the newer way.
    pub fn v3(mut self) -> Self {
        self.v3 = true;
        self
    }

    /// Never to be taken from the cache.
    pub fn changing(mut self) -> Self {
        self.always_changes = true;
        self
    }

    /// Takes any other input.
    pub fn flexible(mut self) -> Self {
        self.flexible = true;
        self
    }

    /// What a person reads.
    pub fn shown_as(mut self, display: &'static str) -> Self {
        self.display = display;
        self
    }

    /// The entry of `/object_info`.
    pub fn info(&self, folders: &Folders, imitate: Imitate) -> Value {
        let (mut input, mut order) = (Map::new(), Map::new());
        for (section, required) in [("required", true), ("optional", false)] {
            let own: Vec<&Input> = self
                .inputs
                .iter()
                .filter(|input| input.required == required)
                .collect();
            if required || !own.is_empty() {
                input.insert(
                    section.into(),
                    own.iter()
                        .map(|input| (input.name.to_owned(), input.json(folders)))
                        .collect::<Map<_, _>>()
                        .into(),
                );
                order.insert(section.into(), own.iter().map(|input| input.name).collect());
            }
        }
        if self.output_node {
            input.insert(
                "hidden".into(),
                json!({"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}),
            );
            order.insert("hidden".into(), json!(["prompt", "extra_pnginfo"]));
        }
        let mut info = json!({
            "input": input, "input_order": order,
            "output": self.outputs.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
            "output_is_list": vec![false; self.outputs.len()],
            "output_name": self.outputs.iter().map(|(_, name)| *name).collect::<Vec<_>>(),
            "name": self.name, "display_name": self.display, "description": "",
            "python_module": self.module, "category": self.category,
            "output_node": self.output_node,
        });
        if let Some(info) = info.as_object_mut() {
            if self.v3 {
                info.insert(
                    "output_tooltips".into(),
                    json!(vec![Value::Null; self.outputs.len()]),
                );
                info.insert("deprecated".into(), false.into());
                info.insert("experimental".into(), false.into());
                info.insert("api_node".into(), false.into());
            }
            if imitate == Imitate::Current {
                info.insert("is_input_list".into(), false.into());
                info.insert(
                    "has_intermediate_output".into(),
                    (self.name == "LoadVideo").into(),
                );
                info.insert("search_aliases".into(), json!([]));
            }
        }
        info
    }
}
