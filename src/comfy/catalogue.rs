//! What the running ComfyUI offers: which inputs are media or models, where model folders are, samplers, schedulers.
//!
//! Asked once per start of ComfyUI. `/object_info` does not name model folders, so a probe finds them: a marker file in each
//! folder for the time of one call (comfyui.md 6.1).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tracing::{debug, warn};

use super::client::{CallError, Client};
use super::input_kind::{InputKind, options};
use super::model_inputs::core_folder;
use super::nudge::set_back;
use super::output_facts::OutputFacts;
use crate::config::ComfyConfig;
use crate::graph::catalogue::NodeClasses;

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

/// `/object_info` in little room.
#[derive(Debug, PartialEq, Eq)]
pub struct Described {
    /// Compressed JSON.
    pub gzip: Vec<u8>,
    /// BLAKE3 of the JSON, in hexadecimal.
    pub hash: String,
}

impl Described {
    fn of(info: &Value) -> Option<Self> {
        let text = serde_json::to_vec(info).ok()?;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&text).ok()?;
        Some(Self {
            gzip: gzip.finish().ok()?,
            hash: blake3::hash(&text).to_hex().to_string(),
        })
    }
}

/// What the probe found out about an input.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ModelInput {
    folder: String,
    /// Its list has the names as the folder has them.
    plain: bool,
}

/// What links can be made to a class, and from it.
#[derive(Debug, Default, Clone)]
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
        Markers::leave(&mut info);
        catalogue.node_classes = Arc::new(NodeClasses::read(&info));
        let describing = tokio::task::spawn_blocking(move || Described::of(&info).map(Arc::new));
        catalogue.described = describing.await.ok().flatten();
        debug!(
            classes = catalogue.inputs.len(),
            model_inputs = catalogue.model_inputs.len(),
            folders = catalogue.folders.len(),
            "asked ComfyUI what it offers"
        );
        Ok(catalogue)
    }

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

    /// What another machine's ComfyUI has said: its node classes, and the names of its model folders.
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

/// How the names of all markers begin.
pub(super) const PROBE: &str = "zz-probe-";

/// Empty files with telling names, one per model folder and extension, for the time of one `/object_info`.
struct Markers {
    placed: Vec<PathBuf>,
    mark: String,
}

impl Markers {
    async fn place(folders: &BTreeMap<String, Vec<PathBuf>>) -> Self {
        let mark = format!("{PROBE}{}", uuid::Uuid::new_v4().simple());
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
            let placed: Vec<PathBuf> = placed.collect();
            // Times of whole seconds would hide the markers, and later their going (A54).
            let mut dirs: Vec<&Path> = placed.iter().filter_map(|path| path.parent()).collect();
            dirs.dedup();
            for dir in dirs {
                let _ = set_back(dir, 1);
            }
            Self {
                placed,
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
    fn leave(spec: &mut Value) {
        match spec {
            Value::Array(list) => {
                // Those of another ComfyUI that is asked at the same time too.
                list.retain(|item| !item.as_str().is_some_and(|text| text.contains(PROBE)));
                list.iter_mut().for_each(Self::leave);
            }
            Value::Object(map) => map.values_mut().for_each(Self::leave),
            _ => {}
        }
    }

    /// The folder whose marker is among the options anywhere in a spec, and whether it is there as it lies in the folder. Dynamic groups nest specs, hence the walk (comfyui.md 10.8).
    fn found_in(&self, spec: &Value) -> Option<ModelInput> {
        match spec {
            Value::String(text) => {
                let at = text.find(self.mark.as_str())?;
                let rest = text[at + self.mark.len()..].strip_prefix("--")?;
                let (folder, extension) = rest.split_once("--zz")?;
                Some(ModelInput {
                    folder: folder.to_owned(),
                    plain: at == 0 && extension.starts_with('.'),
                })
            }
            Value::Array(list) => list.iter().find_map(|item| self.found_in(item)),
            Value::Object(map) => map.values().find_map(|item| self.found_in(item)),
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
            "MyLoader": {"input": {"optional": {"thing": [["x", "zz-probe-1--ultralytics--zz.gguf"]], "words": ["STRING", {}],
                "bare": [["CHOOSE", "zz-probe-1--loras--zz"]], "prefixed": [["x/zz-probe-1--nowhere--zz.pt"]], "rows": ["DYN", {"template": {"required": {"l": [["zz-probe-1--loras--zz.safetensors"]]}}}]}}},
        });
        let mut catalogue = Catalogue::default();
        for folder in ["loras", "ultralytics", "clip_vision"] {
            catalogue.folders.insert(folder.into(), Vec::new());
        }
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
        assert_eq!(
            ["thing", "bare", "prefixed"].map(|input| catalogue.lists_plainly("MyLoader", input)),
            [true, false, false]
        );
        // ComfyUI does not name that folder (F31).
        assert_eq!(catalogue.model_folder("MyLoader", "bare"), Some("loras"));
        assert_eq!(catalogue.model_folder("MyLoader", "prefixed"), None);
        let kinds = ["thing", "words", "rows"].map(|input| catalogue.kind("MyLoader", input));
        let expected = [InputKind::Choice, InputKind::Text, InputKind::Other];
        assert_eq!(kinds, expected.map(Some));
        assert_eq!(catalogue.kind("MyLoader", "nothing"), None);
    }

    #[test]
    fn directories_in_comfyuis_order_but_old_names_behind_their_neighbours() {
        let mut catalogue = Catalogue::default();
        let dirs = [
            "/v/unet",
            "/m/unet",
            "/m/diffusion_models",
            "/o/diffusion_models",
        ];
        catalogue
            .folders
            .insert("diffusion_models".into(), dirs.map(PathBuf::from).to_vec());
        catalogue
            .folders
            .insert("loras".into(), vec!["/gone/x".into(), "/m/loras".into()]);
        let order = [
            "/v/unet",
            "/m/diffusion_models",
            "/m/unet",
            "/o/diffusion_models",
        ];
        assert_eq!(
            catalogue.model_dirs("diffusion_models"),
            order.map(PathBuf::from)
        );
        assert_eq!(catalogue.model_dir("loras"), Some("/gone/x".into()));
        assert_eq!(
            catalogue.folder_of(Path::new("/m/loras/sub/a.pt")),
            Some(("loras", "sub/a.pt".to_owned()))
        );
    }
}
