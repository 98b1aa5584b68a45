//! Carries a manifest out.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::document::CustomNode;
use super::models::{Models, OnPlaced};
use super::python::{self, Python};
use super::record::{Record, Step};
use super::tool::Tools;
use super::{Manifest, ManifestError, nodes};
use crate::config::{ManifestConfig, Secret};
use crate::storage::Storage;

/// The record's name below `COMFY_HOME` or the cache directory.
const RECORD_NAME: &str = ".comfyui-api-manifest.json";

/// Carries manifests out.
pub struct Installer {
    config: ManifestConfig,
    home: PathBuf,
    cache: PathBuf,
    models: Models,
}

impl Installer {
    /// `home` is `COMFY_HOME`, `cache` is `CACHE_DIR`.
    pub fn new(config: &ManifestConfig, home: &Path, cache: &Path, storage: Storage) -> Self {
        let models = Models {
            storage,
            home: home.to_owned(),
            model_dir: home.join("models"),
            on_placed: None,
        };
        Self {
            config: config.clone(),
            home: home.to_owned(),
            cache: cache.to_owned(),
            models,
        }
    }

    /// Model folders are below `dir`; `on_placed` is told each model that was put in place.
    #[must_use]
    pub fn models_in(mut self, dir: &Path, on_placed: OnPlaced) -> Self {
        self.models.model_dir = dir.to_owned();
        self.models.on_placed = Some(on_placed);
        self
    }

    /// Installs everything that ComfyUI needs from the start. A second time it does nothing (see
    /// the module's page).
    ///
    /// # Errors
    /// The first step that fails, with the last lines that its command printed. When `cancel` is
    /// cancelled, the running command is killed and that is the error.
    pub async fn install_before_start(
        &self,
        manifest: &Manifest,
        cancel: &CancellationToken,
    ) -> Result<(), ManifestError> {
        let began = Instant::now();
        for models in [&manifest.before_start, &manifest.after_start] {
            self.models.reserve(models).await;
        }
        let tools = Tools::new(&self.config.search_path, cancel);
        if !(manifest.apt.is_empty() && manifest.pip.is_empty() && manifest.custom_nodes.is_empty())
        {
            let folder = if self.home.is_dir() {
                &self.home
            } else {
                &self.cache
            };
            let mut record =
                Record::open(folder.join(RECORD_NAME), python::places(&self.config)).await;
            apt(&manifest.apt, &tools, &mut record).await?;
            self.pip(&manifest.pip, &tools, &mut record).await?;
            for node in &manifest.custom_nodes {
                self.node(node, &tools, &mut record).await?;
            }
            // A node's own installer may have changed what the earlier steps are measured by.
            record.save().await;
        }
        self.models
            .bring_all(&manifest.before_start, cancel)
            .await?;
        tracing::info!(
            duration_ms = began.elapsed().as_millis(),
            "manifest processed"
        );
        Ok(())
    }

    /// Starts to download the models that may come later. Failures are logged and tried again; the
    /// task ends when all are there or given up, or when `cancel` is cancelled.
    pub fn start_models_after(
        &self,
        manifest: &Manifest,
        cancel: &CancellationToken,
    ) -> JoinHandle<()> {
        let (models, wanted, cancel) = (
            self.models.clone(),
            manifest.after_start.clone(),
            cancel.clone(),
        );
        tokio::spawn(async move {
            futures_util::future::join_all(
                wanted
                    .iter()
                    .map(|model| models.bring_stubbornly(model, &cancel)),
            )
            .await;
        })
    }

    async fn pip(
        &self,
        packages: &[Secret],
        tools: &Tools,
        record: &mut Record,
    ) -> Result<(), ManifestError> {
        let packages: Vec<&str> = packages.iter().map(Secret::expose).collect();
        if packages.is_empty() || record.of::<()>(Step::Pip, &packages).is_some() {
            return Ok(());
        }
        tracing::info!(
            packages = packages.len(),
            "installing Python packages of the manifest"
        );
        Python::find(tools, &self.config, "pip")?
            .install(tools, "pip: install", &packages, None)
            .await?;
        record.put(Step::Pip, &packages, ()).await;
        Ok(())
    }

    async fn node(
        &self,
        node: &CustomNode,
        tools: &Tools,
        record: &mut Record,
    ) -> Result<(), ManifestError> {
        let nodes = self.home.join("custom_nodes");
        match node {
            CustomNode::Registry(name) => {
                nodes::install_from_registry(name, &nodes, tools, record).await
            }
            CustomNode::Git(source) => {
                let clone = nodes::Clone::new(source, &nodes, tools)?;
                let folder = clone.bring(record).await?;
                let Some(hash) = nodes::requirements(folder).await else {
                    return Ok(());
                };
                let content = [source.folder.as_str(), hash.as_str()];
                if record.of::<()>(Step::Requirements, &content).is_some() {
                    return Ok(());
                }
                let step = format!("custom_nodes: {}: requirements.txt", source.folder);
                Python::find(tools, &self.config, &step)?
                    .install(tools, &step, &["-r", "requirements.txt"], Some(folder))
                    .await?;
                record.put(Step::Requirements, &content, ()).await;
                Ok(())
            }
        }
    }
}

async fn apt(packages: &[String], tools: &Tools, record: &mut Record) -> Result<(), ManifestError> {
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    if packages.is_empty() || record.of::<()>(Step::Apt, &packages).is_some() {
        return Ok(());
    }
    tracing::info!(
        packages = packages.len(),
        "installing Debian packages of the manifest"
    );
    let apt_get = tools.require("apt-get", "apt")?;
    tools
        .run("apt: apt-get update", &apt_get, &["update"], None)
        .await?;
    let arguments: Vec<&str> = ["install", "-y"]
        .into_iter()
        .chain(packages.iter().copied())
        .collect();
    tools
        .run("apt: apt-get install", &apt_get, &arguments, None)
        .await?;
    record.put(Step::Apt, &packages, ()).await;
    Ok(())
}
