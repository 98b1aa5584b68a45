//! What the running ComfyUI offers: which inputs are media or models, where model folders are, samplers, schedulers.
//!
//! Asked once per start of ComfyUI. `/object_info` does not name model folders, so a probe finds them: a marker file in each
//! folder for the time of one call (comfyui.md 6.1).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tracing::{debug, warn};

use super::client::{CallError, Client};
use super::model_inputs::core_folder;
use super::output_facts::OutputFacts;
use crate::config::ComfyConfig;
use crate::graph::catalogue::NodeClasses;

/// The flags that mark an input as a file in the input directory (comfyui.md 7.1).
const UPLOAD_FLAGS: &[&str] = &[
    "image_upload",
    "video_upload",
    "audio_upload",
    "file_upload",
    "mask_upload",
    "animated_image_upload",
];

/// What one start of ComfyUI offers.
#[derive(Debug, Default)]
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
    shapes: HashMap<String, Shape>,
    media_inputs: HashSet<(String, String)>,
    model_inputs: HashMap<(String, String), String>,
    output_classes: HashSet<String>,
}

/// What links can be made to a class, and from it.
#[derive(Debug, Default)]
struct Shape {
    inputs: HashSet<String>,
    outputs: usize,
}

impl Catalogue {
    /// Asks everything.
    ///
    /// # Errors
    /// When ComfyUI does not answer what every version can.
    pub async fn ask(client: &Client, config: &ComfyConfig) -> Result<Self, CallError> {
        let mut catalogue = Self {
            has_jobs: client.has_jobs().await,
            ..Self::default()
        };
        if let Ok(stats) = client.system_stats().await {
            catalogue.outputs.read_stats(&stats, &config.home);
            catalogue.version = stats
                .pointer("/system/comfyui_version")
                .and_then(Value::as_str)
                .map(str::to_owned);
            let devices = stats
                .get("devices")
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            catalogue.devices = devices
                .iter()
                .filter_map(|device| {
                    Some((
                        device.get("name")?.as_str()?.to_owned(),
                        device.get("vram_total")?.as_u64()?,
                    ))
                })
                .collect();
        }
        catalogue.folders = folders(client, config).await?;
        let markers = Markers::place(&catalogue.folders).await;
        let info = client.object_info().await;
        markers.remove().await;
        let mut info = info?;
        catalogue.read_classes(&info, &markers);
        markers.leave(&mut info);
        catalogue.node_classes = Arc::new(NodeClasses::read(&info));
        debug!(
            media_inputs = catalogue.media_inputs.len(),
            model_inputs = catalogue.model_inputs.len(),
            folders = catalogue.folders.len(),
            "asked ComfyUI what it offers"
        );
        Ok(catalogue)
    }

    /// Whether a class is an output node.
    pub fn is_output(&self, class: &str) -> bool {
        self.output_classes.contains(class)
    }

    /// Whether a class has an input of that name; ComfyUI does not look at others. `true` for classes that are not known.
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

    /// Whether an input names a file in the input directory, by ComfyUI's own word.
    pub fn is_media(&self, class: &str, input: &str) -> bool {
        // A lookup with borrowed keys would need a nested map; two short allocations per string input are cheaper to read.
        self.media_inputs
            .contains(&(class.to_owned(), input.to_owned()))
    }

    /// The model folder of an input: the table of core classes first, then what the probe found.
    pub fn model_folder(&self, class: &str, input: &str) -> Option<&str> {
        let probed = |input: &str| {
            self.model_inputs
                .get(&(class.to_owned(), input.to_owned()))
                .map(String::as_str)
        };
        // An input of a dynamic group, `rows.0.name`, is described under the group's own name.
        core_folder(class, input)
            .or_else(|| probed(input))
            .or_else(|| probed(input.split_once('.')?.0))
    }

    /// The directory new models of a folder go to: the one named like the folder if ComfyUI looks there, else the first.
    pub fn model_dir(&self, folder: &str) -> Option<&Path> {
        let dirs = self.folders.get(folder)?;
        dirs.iter()
            .find(|dir| dir.file_name().is_some_and(|name| name == folder))
            .or_else(|| dirs.first())
            .map(PathBuf::as_path)
    }

    fn read_classes(&mut self, info: &Value, markers: &Markers) {
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
                .map(options)
                .unwrap_or_default()
        };
        self.samplers = choices("sampler_name");
        self.schedulers = choices("scheduler");
    }

    fn read_input(&mut self, class: &str, input: &str, spec: &Value, markers: &Markers) {
        let key = || (class.to_owned(), input.to_owned());
        if UPLOAD_FLAGS.iter().any(|flag| {
            spec.get(1)
                .and_then(|about| about.get(flag))
                .and_then(Value::as_bool)
                == Some(true)
        }) {
            self.media_inputs.insert(key());
        }
        if let Some(folder) = markers.folder_in(spec) {
            self.model_inputs.insert(key(), folder.to_owned());
        }
    }
}

/// The options of a combo in either shape: `[[options], {...}]` or `["COMBO", {"options": [...]}]`.
fn options(spec: &Value) -> Vec<String> {
    let list = spec
        .get(0)
        .and_then(Value::as_array)
        .or_else(|| spec.pointer("/1/options").and_then(Value::as_array));
    list.map(|list| {
        list.iter()
            .filter_map(|option| option.as_str().map(str::to_owned))
            .collect()
    })
    .unwrap_or_default()
}

async fn folders(
    client: &Client,
    config: &ComfyConfig,
) -> Result<BTreeMap<String, Vec<PathBuf>>, CallError> {
    if let Ok(Value::Object(paths)) = client.folder_paths().await {
        let dirs = |list: &Value| {
            list.as_array()
                .map(|list| {
                    list.iter()
                        .filter_map(Value::as_str)
                        .map(PathBuf::from)
                        .collect::<Vec<_>>()
                })
                .unwrap_or_default()
        };
        return Ok(paths
            .iter()
            .map(|(folder, list)| (folder.clone(), dirs(list)))
            .filter(|(_, dirs)| !dirs.is_empty())
            .collect());
    }
    // A version without that call, or a proxy in between: the names at least, and the usual places.
    let names = client.model_folders().await?;
    Ok(names
        .into_iter()
        .map(|folder| {
            let dir = if folder == "custom_nodes" {
                config.home.join("custom_nodes")
            } else {
                config.model_dir.join(&folder)
            };
            (folder, vec![dir])
        })
        .collect())
}

/// Empty files with telling names, one per model folder and extension, for the time of one `/object_info`.
struct Markers {
    placed: Vec<PathBuf>,
    mark: String,
}

impl Markers {
    async fn place(folders: &BTreeMap<String, Vec<PathBuf>>) -> Self {
        let mark = format!("zz-probe-{}", uuid::Uuid::new_v4().simple());
        let wanted: Vec<PathBuf> = folders
            .iter()
            .filter(|(folder, _)| {
                !matches!(
                    folder.as_str(),
                    "custom_nodes" | "diffusers" | "classifiers" | "datasets" | "fonts"
                )
            })
            .filter_map(|(folder, dirs)| Some((folder, dirs.iter().find(|dir| dir.is_dir())?)))
            .flat_map(|(folder, dir)| {
                // Nodes of their own filter for their own extensions.
                let extensions: &[&str] = if folder == "configs" {
                    &["yaml"]
                } else {
                    &["safetensors", "gguf", "onnx"]
                };
                extensions
                    .iter()
                    .map(|extension| dir.join(format!("{mark}--{folder}--zz.{extension}")))
                    .collect::<Vec<_>>()
            })
            .collect();
        let given = mark.clone();
        // They travel back through the task as what they are, so they are removed when nobody waits for them any more.
        let placing = tokio::task::spawn_blocking(move || {
            let placed = wanted.into_iter().filter(|path| {
                std::fs::File::options()
                    .write(true)
                    .create_new(true)
                    .open(path)
                    .is_ok()
            });
            Self {
                placed: placed.collect(),
                mark: given,
            }
        });
        placing.await.unwrap_or_else(|_| Self {
            placed: Vec::new(),
            mark,
        })
    }

    async fn remove(&self) {
        for path in &self.placed {
            if let Err(error) = tokio::fs::remove_file(path).await {
                warn!(path = %path.display(), %error, "cannot remove the empty marker file of the model folder probe; please remove it");
            }
        }
    }

    /// Takes the markers out of the choices again.
    fn leave(&self, spec: &mut Value) {
        match spec {
            Value::Array(list) => {
                list.retain(|item| {
                    !item
                        .as_str()
                        .is_some_and(|text| text.starts_with(&self.mark))
                });
                list.iter_mut().for_each(|item| self.leave(item));
            }
            Value::Object(map) => map.values_mut().for_each(|item| self.leave(item)),
            _ => {}
        }
    }

    /// The folder whose marker is among the options anywhere in a spec. Dynamic groups nest specs, hence the walk (comfyui.md 10.8).
    fn folder_in<'a>(&self, spec: &'a Value) -> Option<&'a str> {
        match spec {
            Value::String(text) => text
                .strip_prefix(self.mark.as_str())?
                .strip_prefix("--")?
                .split("--zz.")
                .next(),
            Value::Array(list) => list.iter().find_map(|item| self.folder_in(item)),
            Value::Object(map) => map.values().find_map(|item| self.folder_in(item)),
            _ => None,
        }
    }
}

impl Drop for Markers {
    /// Only does something when the asking was cancelled in between.
    fn drop(&mut self) {
        for path in &self.placed {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_combo_shapes_are_read() {
        let markers = Markers {
            placed: Vec::new(),
            mark: "zz-probe-1".into(),
        };
        let info = json!({
            "KSampler": {"input": {"required": {"sampler_name": [["euler", "dpm"], {}], "scheduler": ["COMBO", {"options": ["normal", 3]}]}}},
            "LoadImage": {"input": {"required": {"image": [["a.png"], {"image_upload": true}]}}},
            "LoadVideo": {"input": {"required": {"file": ["COMBO", {"options": [], "video_upload": true}]}}},
            "MyLoader": {"input": {"optional": {"thing": [["x", "zz-probe-1--ultralytics--zz.gguf"]], "rows": ["DYN", {"template": {"required": {"l": [["zz-probe-1--loras--zz.safetensors"]]}}}]}}},
        });
        let mut catalogue = Catalogue::default();
        catalogue.read_classes(&info, &markers);
        assert_eq!(catalogue.samplers, ["euler", "dpm"]);
        assert_eq!(catalogue.schedulers, ["normal"]);
        assert!(
            catalogue.is_media("LoadImage", "image")
                && catalogue.is_media("LoadVideo", "file")
                && !catalogue.is_media("KSampler", "scheduler")
        );
        assert_eq!(
            catalogue.model_folder("MyLoader", "thing"),
            Some("ultralytics")
        );
        assert_eq!(catalogue.model_folder("MyLoader", "rows"), Some("loras"));
        assert_eq!(
            catalogue.model_folder("CLIPVisionLoader", "clip_name"),
            Some("clip_vision")
        );
        assert_eq!(catalogue.model_folder("MyLoader", "other"), None);
    }
}
