//! What conversion needs of ComfyUI's `/object_info`, in a form that is small and quick to ask.
//!
//! Hidden inputs, what is said of inputs and everything else that plays no part are left out when
//! it is read; lists of choices that several inputs share are kept once.

mod input;
mod reader;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

pub use input::{
    Control, DynamicOption, Growing, InputDefinition, MatchType, Round, Special, Upload,
};

/// The choices of a combo, shared between the inputs that have the same ones.
pub type Choices = Arc<[Value]>;

/// The node classes of one ComfyUI.
#[derive(Debug, Default)]
pub struct NodeClasses {
    classes: HashMap<String, NodeClass>,
    /// Every type that some output has.
    output_types: HashSet<String>,
}

/// One node class.
#[derive(Debug, Default, Clone)]
pub struct NodeClass {
    /// Its name in the menus of the editor; the class's name when it has none.
    pub display_name: String,
    /// Where it stands in these menus, such as `sampling/custom`.
    pub category: String,
    /// What it does, for people.
    pub description: String,
    /// Required inputs in their order, then the optional ones.
    pub inputs: Vec<InputDefinition>,
    /// Types of its outputs.
    pub outputs: Vec<Output>,
    /// ComfyUI runs it for its own sake.
    pub output_node: bool,
    /// It comes from a pack, as far as ComfyUI says.
    pub custom: bool,
}

/// One output of a class.
#[derive(Debug, Default, Clone)]
pub struct Output {
    /// Its type; `*` when it follows a group of inputs.
    pub kind: String,
    /// The group of inputs whose type it has.
    pub match_group: Option<String>,
}

impl NodeClasses {
    /// Reads the answer of `/object_info`. What cannot be understood is left out.
    pub fn read(object_info: &Value) -> Self {
        reader::read(object_info)
    }

    /// The classes of several ComfyUI; where two have one, the first counts.
    pub fn together<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut together = Self::default();
        for one in all {
            together
                .output_types
                .extend(one.output_types.iter().cloned());
            for (name, class) in &one.classes {
                let known = together.classes.entry(name.clone());
                known.or_insert_with(|| class.clone());
            }
        }
        together
    }

    /// A class by its name.
    pub fn get(&self, class: &str) -> Option<&NodeClass> {
        self.classes.get(class)
    }

    /// All of them by name, in no order.
    pub fn all(&self) -> impl Iterator<Item = (&str, &NodeClass)> {
        self.classes
            .iter()
            .map(|(name, class)| (name.as_str(), class))
    }

    /// Whether the class is known.
    pub fn contains(&self, class: &str) -> bool {
        self.classes.contains_key(class)
    }

    /// Whether nothing is known at all.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// How many classes there are.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether some class has an output of this type, or of one of a comma-separated list.
    pub fn is_produced(&self, kind: &str) -> bool {
        kind.split(',')
            .any(|one| self.output_types.contains(one.trim()))
    }
}
