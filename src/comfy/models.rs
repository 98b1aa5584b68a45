//! The model files that ComfyUI lists, folder by folder, as it lists them at this moment.

use std::collections::BTreeMap;
use std::path::Path;

use futures_util::stream::{self, StreamExt};

use super::client::CallError;
use super::input_kind::options;
use super::{Comfy, nudge};

/// ComfyUI lists some thirty folders from directory time stamps; asking several at a time hides the
/// round trips.
const AT_ONCE: usize = 8;

impl Comfy {
    /// `{folder: [names]}` for every folder that ComfyUI knows; of `custom_nodes` only the names of
    /// plug-ins.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn list_models(&self) -> Result<BTreeMap<String, Vec<String>>, CallError> {
        let others = self.models_of_others.read().clone();
        if let Some(models) = others {
            return Ok(models);
        }
        let folders = self.client.model_folders().await?;
        let mut lists = stream::iter(folders.into_iter().map(|folder| async move {
            let names = self.client.models(&folder).await;
            (folder, names)
        }))
        .buffer_unordered(AT_ONCE);
        let mut models = BTreeMap::new();
        while let Some((folder, names)) = lists.next().await {
            let names = names.map(without_markers);
            let names = match names {
                Ok(names) if folder == "custom_nodes" => plug_ins(&names),
                Ok(names) => names,
                // A folder that vanished between the two calls is no reason to fail the list.
                Err(CallError::Unexpected { .. }) => Vec::new(),
                Err(error) => return Err(error),
            };
            models.insert(folder, names);
        }
        Ok(models)
    }
}

/// Another server on the same folders may be looking at what its ComfyUI offers.
fn without_markers(mut names: Vec<String>) -> Vec<String> {
    names.retain(|name| {
        let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
        !name.starts_with(super::catalogue::PROBE)
    });
    names
}

/// How often ComfyUI is made to look at a folder anew before a name counts as one that it does not
/// list.
const NUDGES: u64 = 3;

impl Comfy {
    /// Whether ComfyUI lists a model that was put in place as `dir/name`. It lists a folder anew
    /// only when a modification time differs from the one it noted; where two changes fall into one
    /// tick of the file system's clock, the times are changed for it (attack.md, A54).
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn lists_model(
        &self,
        folder: &str,
        dir: &Path,
        name: &str,
    ) -> Result<bool, CallError> {
        for step in 0..=NUDGES {
            if step > 0 {
                nudge::directories_of(dir, name, step).await;
            }
            if self
                .client
                .models(folder)
                .await?
                .iter()
                .any(|known| known == name)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What an input of a class offers at this moment; `None` where its class does not say.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn choices(
        &self,
        class: &str,
        input: &str,
    ) -> Result<Option<Vec<String>>, CallError> {
        let info = self.client.class_info(class).await?;
        let spec = ["required", "optional"]
            .iter()
            .find_map(|group| info.get(class)?.get("input")?.get(group)?.get(input));
        Ok(spec.and_then(options))
    }
}

/// ComfyUI lists every file of every plug-in; the first segment of a path is the plug-in.
fn plug_ins(names: &[String]) -> Vec<String> {
    let mut plug_ins: Vec<String> = names
        .iter()
        .filter_map(|name| name.split('/').next())
        .filter(|name| !name.starts_with(['.', '_']) && !name.ends_with(".example"))
        .map(|name| name.strip_suffix(".py").unwrap_or(name).to_owned())
        .collect();
    plug_ins.sort();
    plug_ins.dedup();
    plug_ins
}
