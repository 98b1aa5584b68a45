//! Workflow files and the manifest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::variables::comfy::{MANIFEST, MANIFEST_JSON};
use crate::config::variables::workflows::{
    MARKDOWN_SCHEMA_DESCRIPTIONS, WORKFLOW_DIR, WORKFLOW_WATCH,
};
use crate::config::{Reader, Secret};

/// Endpoints made from files.
#[derive(Debug, Clone)]
pub struct WorkflowConfig {
    /// `WORKFLOW_DIR`.
    pub dir: PathBuf,
    /// `WORKFLOW_WATCH`.
    pub watch: bool,
    /// `MARKDOWN_SCHEMA_DESCRIPTIONS`.
    pub markdown_descriptions: bool,
    /// The environment without secrets, which workflow files see as `process.env`.
    pub env: BTreeMap<String, String>,
}

impl WorkflowConfig {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        Self {
            dir: r.path_or(&WORKFLOW_DIR),
            watch: r.flag(&WORKFLOW_WATCH),
            markdown_descriptions: r.flag(&MARKDOWN_SCHEMA_DESCRIPTIONS),
            env: r.environment_without_secrets(),
        }
    }
}

/// What is installed before ComfyUI starts.
#[derive(Debug, Clone, Default)]
pub struct ManifestConfig {
    /// `MANIFEST_JSON`; may hold tokens in URLs.
    pub json: Option<Secret>,
    /// `MANIFEST`, a file.
    pub file: Option<PathBuf>,
    /// `VIRTUAL_ENV` or `CONDA_DEFAULT_ENV` is set: uv installs there and needs no `--system`.
    pub in_virtual_env: bool,
    /// `VIRTUAL_ENV`, the environment's directory.
    pub virtual_env: Option<PathBuf>,
    /// `PATH`: where apt-get, uv, pip, git and comfy are looked for.
    pub search_path: Vec<PathBuf>,
}

impl ManifestConfig {
    /// Reads only this section, for `check`, which looks at the manifest even if other sections
    /// have problems.
    pub fn from_reader(r: &mut Reader) -> Self {
        Self::read(r)
    }

    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let in_virtual_env = r
            .foreign("VIRTUAL_ENV")
            .or_else(|| r.foreign("CONDA_DEFAULT_ENV"))
            .is_some();
        let search_path = r
            .foreign("PATH")
            .map(|path| std::env::split_paths(&path).collect())
            .unwrap_or_default();
        Self {
            json: r.secret(&MANIFEST_JSON),
            file: r.path(&MANIFEST),
            in_virtual_env,
            virtual_env: r.foreign("VIRTUAL_ENV").map(PathBuf::from),
            search_path,
        }
    }
}
