//! Until a ComfyUI is ready for jobs.

use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::app::{App, warmup};
use crate::comfy::Comfy;
use crate::comfy::catalogue::Catalogue;
use crate::health::ComfyState;

/// Asks what it offers, loads workflows, connects. Prompts may come when this has returned well,
/// the warmup prompt first.
pub(super) async fn get_ready(app: &App, comfy: &Comfy) -> Result<(), String> {
    let catalogue = Catalogue::ask(&comfy.client, &comfy.config)
        .await
        .map_err(|error| error.to_string())?;
    info!(
        instance = comfy.label(),
        version = catalogue.version,
        folders = catalogue.folders.len(),
        jobs_api = catalogue.has_jobs,
        "ComfyUI is up"
    );
    let folders = catalogue
        .folders
        .iter()
        .filter(|(name, _)| *name != "custom_nodes")
        .flat_map(|(_, dirs)| dirs.clone())
        .collect();
    app.comfy.set_catalogue(comfy, catalogue);
    app.service.forget_leftovers(comfy).await;
    // Model folders may lie on a slow network file system; nothing waits for the clean-up of old
    // links.
    tokio::spawn({
        let storage = app.storage.clone();
        async move { storage.adopt_links(folders).await }
    });
    app.workflows.load().await;
    let mut connected = comfy.watch.connected();
    let connecting = connected.wait_for(|connected| *connected);
    // The history notices every end too, so a late websocket is no reason to fail.
    if timeout(Duration::from_secs(10), connecting).await.is_err() {
        warn!("the websocket to ComfyUI cannot be opened; going on without it for now");
    }
    comfy.health.set(ComfyState::Up);
    Ok(())
}

pub(super) async fn warm_up(
    app: &App,
    comfy: &Comfy,
    prompt: Option<&Value>,
) -> Result<(), String> {
    match prompt {
        Some(prompt) => warmup::run(app, comfy, prompt.clone())
            .await
            .map_err(|reason| format!("the warmup prompt failed: {reason}")),
        None => Ok(()),
    }
}
