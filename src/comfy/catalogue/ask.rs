//! Asks a ComfyUI for everything that is in the catalogue.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use tracing::debug;

use super::Catalogue;
use super::described::Described;
use super::markers::Markers;
use crate::comfy::client::{CallError, Client};
use crate::config::ComfyConfig;
use crate::graph::catalogue::NodeClasses;

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
}

pub(super) async fn folders(
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
