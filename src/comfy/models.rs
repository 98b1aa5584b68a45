//! The model files that ComfyUI lists, folder by folder, as it lists them at this moment.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt};

use super::Comfy;
use super::client::CallError;

/// ComfyUI lists some thirty folders from directory time stamps; asking several at a time hides the round trips.
const AT_ONCE: usize = 8;

impl Comfy {
    /// `{folder: [names]}` for every folder that ComfyUI knows; of `custom_nodes` only the names of plug-ins.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn list_models(&self) -> Result<BTreeMap<String, Vec<String>>, CallError> {
        let folders = self.client.model_folders().await?;
        let mut lists = stream::iter(folders.into_iter().map(|folder| async move {
            let names = self.client.models(&folder).await;
            (folder, names)
        }))
        .buffer_unordered(AT_ONCE);
        let mut models = BTreeMap::new();
        while let Some((folder, names)) = lists.next().await {
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
