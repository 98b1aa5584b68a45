//! What the running ComfyUI offers: which inputs are media or models, where model folders are,
//! samplers, schedulers.
//!
//! Asked once per start of ComfyUI. `/object_info` does not name model folders, so a probe finds
//! them: a marker file in each folder for the time of one call (comfyui.md 6.1).

mod ask;
mod classes;
mod described;
mod markers;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use classes::{ModelInput, Shape};
use markers::Markers;
use serde_json::Value;

use super::input_kind::InputKind;
use super::model_inputs::core_folder;
use super::output_facts::OutputFacts;
use crate::graph::catalogue::NodeClasses;

pub use described::Described;
pub(super) use markers::PROBE;

/// What one start of ComfyUI offers.
#[derive(Debug, Default, Clone)]
pub struct Catalogue {
    /// Per model folder its directories in search order.
    pub folders: BTreeMap<String, Vec<PathBuf>>,
    /// `KSampler`'s samplers.
    pub samplers: Vec<String>,
    /// `KSampler`'s schedulers.
    pub schedulers: Vec<String>,
    /// ComfyUI's version, if it says so.
    pub version: Option<String>,
    /// It has the jobs API with its atomic cancel.
    pub has_jobs: bool,
    /// Names and video memory (bytes) of its devices.
    pub devices: Vec<(String, u64)>,
    /// What matters for outputs.
    pub outputs: OutputFacts,
    /// Its node classes, for converting workflows.
    pub node_classes: Arc<NodeClasses>,
    /// `/object_info` itself, for those who cannot ask.
    pub described: Option<Arc<Described>>,
    shapes: HashMap<String, Shape>,
    /// Class -> input -> what it takes.
    inputs: HashMap<String, HashMap<Box<str>, InputKind>>,
    model_inputs: HashMap<(String, String), ModelInput>,
    output_classes: HashSet<String>,
}

impl Catalogue {
    /// What several offer together: the first counts, and the others add what it does not have.
    pub fn together(all: &[Arc<Self>]) -> Arc<Self> {
        let known: Vec<&Arc<Self>> = all.iter().filter(|one| !one.shapes.is_empty()).collect();
        let Some((first, others)) = known.split_first() else {
            return all.first().cloned().unwrap_or_default();
        };
        let adds = |other: &&&Arc<Self>| {
            other.shapes.keys().any(|class| !first.knows(class))
                || other
                    .folders
                    .keys()
                    .any(|name| !first.folders.contains_key(name))
        };
        if !others.iter().any(|other| adds(&other)) {
            return Arc::clone(first);
        }
        let mut together = Self::clone(first);
        for other in others {
            together.add(other);
        }
        let classes = known.iter().map(|one| &*one.node_classes);
        together.node_classes = Arc::new(NodeClasses::together(classes));
        Arc::new(together)
    }

    fn add(&mut self, other: &Self) {
        for (name, dirs) in &other.folders {
            self.folders
                .entry(name.clone())
                .or_insert_with(|| dirs.clone());
        }
        let new: HashSet<&String> = other
            .shapes
            .keys()
            .filter(|class| !self.knows(class))
            .collect();
        let of_new = other
            .model_inputs
            .iter()
            .filter(|((class, _), _)| new.contains(class));
        self.model_inputs
            .extend(of_new.map(|(input, found)| (input.clone(), found.clone())));
        for class in new {
            if other.is_output(class) {
                self.output_classes.insert(class.clone());
            }
            if let Some(inputs) = other.inputs.get(class) {
                self.inputs.insert(class.clone(), inputs.clone());
            }
            if let Some(shape) = other.shapes.get(class) {
                self.shapes.insert(class.clone(), shape.clone());
            }
        }
    }

    /// Whether it has a class.
    pub fn knows(&self, class: &str) -> bool {
        self.shapes.contains_key(class) || self.inputs.contains_key(class)
    }

    /// What another machine's ComfyUI has said: its node classes, and the names of its model
    /// folders.
    pub fn of_others(info: &Value, folders: impl IntoIterator<Item = String>) -> Self {
        let mut catalogue = Self::default();
        let nothing = Markers {
            placed: Vec::new(),
            mark: "\u{0}".to_owned(),
        };
        catalogue.folders = folders
            .into_iter()
            .map(|folder| (folder, Vec::new()))
            .collect();
        catalogue.read_classes(info, &nothing);
        catalogue.node_classes = Arc::new(NodeClasses::read(info));
        catalogue
    }

    /// Whether a class is an output node.
    pub fn is_output(&self, class: &str) -> bool {
        self.output_classes.contains(class)
    }

    /// Whether a class has an input of that name; ComfyUI does not look at others. `true` for
    /// classes that are not known.
    pub fn takes(&self, class: &str, input: &str) -> bool {
        // An input of a dynamic group, `rows.0.name`, is described under the group's own name.
        let group = input.split_once('.').map_or(input, |(group, _)| group);
        self.shapes
            .get(class)
            .is_none_or(|shape| shape.inputs.contains(input) || shape.inputs.contains(group))
    }

    /// How many outputs a class has, if it is known.
    pub fn outputs(&self, class: &str) -> Option<usize> {
        self.shapes.get(class).map(|shape| shape.outputs)
    }

    /// Whether an input names a file in the input directory, by ComfyUI's own word.
    pub fn is_media(&self, class: &str, input: &str) -> bool {
        self.kind(class, input) == Some(InputKind::Upload)
    }

    /// What an input takes; `None` for one that its class does not list.
    pub fn kind(&self, class: &str, input: &str) -> Option<InputKind> {
        self.inputs.get(class)?.get(input).copied()
    }

    /// The model folder of an input: the table of core classes first, then what the probe found.
    /// Only ever one that ComfyUI names.
    pub fn model_folder(&self, class: &str, input: &str) -> Option<&str> {
        core_folder(class, input)
            .or_else(|| Some(self.probed(class, input)?.folder.as_str()))
            .filter(|folder| self.folders.contains_key(*folder))
    }

    /// Whether an input of a model folder lists the names as they are in the folder.
    pub fn lists_plainly(&self, class: &str, input: &str) -> bool {
        core_folder(class, input).is_some()
            || self.probed(class, input).is_none_or(|found| found.plain)
    }

    fn probed(&self, class: &str, input: &str) -> Option<&ModelInput> {
        let probed = |input: &str| self.model_inputs.get(&(class.to_owned(), input.to_owned()));
        // An input of a dynamic group, `rows.0.name`, is described under the group's own name.
        probed(input).or_else(|| probed(input.split_once('.')?.0))
    }

    /// Where the models of a folder are, in the order in which ComfyUI looks; but a directory that
    /// has the folder's old name comes behind its neighbour with the present one.
    pub fn model_dirs(&self, folder: &str) -> Vec<PathBuf> {
        let mut dirs = self.folders.get(folder).cloned().unwrap_or_default();
        let old = match folder {
            "diffusion_models" => "unet",
            "text_encoders" => "clip",
            _ => return dirs,
        };
        for at in 1..dirs.len() {
            let (before, this) = (&dirs[at - 1], &dirs[at]);
            if before.parent() == this.parent()
                && before.file_name().is_some_and(|name| name == old)
                && this.file_name().is_some_and(|name| name == folder)
            {
                dirs.swap(at - 1, at);
            }
        }
        dirs
    }

    /// The first of [`Self::model_dirs`].
    pub fn model_dir(&self, folder: &str) -> Option<PathBuf> {
        self.model_dirs(folder).into_iter().next()
    }

    /// The model folder that a file lies in, and its name there.
    pub fn folder_of(&self, path: &Path) -> Option<(&str, String)> {
        self.folders.iter().find_map(|(folder, dirs)| {
            let name = dirs.iter().find_map(|dir| path.strip_prefix(dir).ok())?;
            Some((folder.as_str(), name.to_str()?.to_owned()))
        })
    }
}
