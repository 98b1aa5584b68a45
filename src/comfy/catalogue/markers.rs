//! Files that are put into the model folders for a moment, to learn which inputs list them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tracing::warn;

use super::classes::ModelInput;
use crate::comfy::nudge::set_back;

/// How the names of all markers begin.
pub(in crate::comfy) const PROBE: &str = "zz-probe-";

/// Empty files with telling names, one per model folder and extension, for the time of one
/// `/object_info`.
pub(super) struct Markers {
    pub(super) placed: Vec<PathBuf>,
    pub(super) mark: String,
}

impl Markers {
    pub(super) async fn place(folders: &BTreeMap<String, Vec<PathBuf>>) -> Self {
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
        // They travel back through the task as what they are, so they are removed when nobody waits
        // for them any more.
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

    pub(super) async fn remove(&self) {
        for path in &self.placed {
            if let Err(error) = tokio::fs::remove_file(path).await {
                warn!(
                    path = %path.display(),
                    %error,
                    "cannot remove the empty marker file of the model folder probe; please remove \
                     it"
                );
            }
        }
    }

    /// Takes the markers out of the choices again.
    pub(super) fn leave(spec: &mut Value) {
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

    /// The folder whose marker is among the options anywhere in a spec, and whether it is there as
    /// it lies in the folder. Dynamic groups nest specs, hence the walk (comfyui.md 10.8).
    pub(super) fn found_in(&self, spec: &Value) -> Option<ModelInput> {
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
