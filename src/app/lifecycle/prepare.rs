//! What is done once, before the first ComfyUI starts.

use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use tracing::warn;

use crate::app::{App, Fatal, warmup};
use crate::manifest::{Installer, Manifest, OnPlaced};

pub(super) struct Prepared {
    pub(super) warmup: Option<Value>,
}

/// Steps 3 and 4 of process.md: everything that is done once, before ComfyUI is started.
pub(super) async fn prepare(app: &App) -> Result<Prepared, Fatal> {
    let goes_on = app.durable.may_go_on();
    app.service.remove_leftovers(goes_on).await;
    app.storage
        .prepare()
        .await
        .map_err(|error| Fatal(error.to_string()))?;
    let warmup = warmup::load(app).await?;
    if let Some(manifest) = Manifest::load(&app.config.manifest)
        .await
        .map_err(|error| Fatal(error.to_string()))?
    {
        app.health.all_wait("installing the manifest");
        let installer = Installer::new(
            &app.config.manifest,
            &app.config.comfy.home,
            &app.config.storage.cache.dir,
            app.storage.clone(),
        )
        .models_in(&app.config.comfy.model_dir, shows_models(app));
        installer
            .install_before_start(&manifest, &app.stop)
            .await
            .map_err(|error| Fatal(error.to_string()))?;
        // It runs on by itself; shutting down cancels it.
        drop(installer.start_models_after(&manifest, &app.stop));
    }
    Ok(Prepared { warmup })
}

/// A model of the manifest that comes while ComfyUI is up is listed by it at once.
fn shows_models(app: &App) -> OnPlaced {
    let comfy = app.comfy.clone();
    Arc::new(move |path: &Path| {
        let catalogue = comfy.catalogue();
        let Some((folder, name)) = catalogue.folder_of(path) else {
            return;
        };
        let (comfy, folder) = (comfy.clone(), folder.to_owned());
        let dir = path.ancestors().nth(name.split('/').count());
        let dir = dir.unwrap_or(Path::new("/")).to_owned();
        tokio::spawn(async move {
            let listed = comfy.lists_model(&folder, &dir, &name).await;
            comfy.models_changed();
            if !matches!(listed, Ok(true)) {
                warn!(
                    folder,
                    name, "ComfyUI does not list a model of the manifest"
                );
            }
        });
    })
}
