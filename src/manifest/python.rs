//! Python packages, by uv if it is there, else by pip.

use std::path::{Path, PathBuf};

use super::ManifestError;
use super::record::PythonEnvironment;
use super::tool::Tools;
use crate::config::ManifestConfig;

/// How Python packages are installed here.
#[derive(Debug)]
pub(super) struct Python {
    program: PathBuf,
    /// The words before the packages.
    words: Vec<&'static str>,
}

impl Python {
    /// uv, else pip. uv is told `--system` outside a virtual environment, where it would refuse to
    /// work.
    pub fn find(tools: &Tools, config: &ManifestConfig, step: &str) -> Result<Self, ManifestError> {
        if let Some(program) = tools.find("uv") {
            let words = if config.in_virtual_env {
                vec!["pip", "install"]
            } else {
                vec!["pip", "install", "--system"]
            };
            return Ok(Self { program, words });
        }
        let program = tools
            .find("pip")
            .or_else(|| tools.find("pip3"))
            .ok_or_else(|| {
                ManifestError::new(format!(
                    "manifest: {step} needs uv or pip, and neither is on PATH"
                ))
            })?;
        Ok(Self {
            program,
            words: vec!["install"],
        })
    }

    /// Installs packages, or `["-r", file]`.
    pub async fn install(
        &self,
        tools: &Tools,
        step: &str,
        what: &[&str],
        folder: Option<&Path>,
    ) -> Result<(), ManifestError> {
        let arguments: Vec<&str> = self
            .words
            .iter()
            .copied()
            .chain(what.iter().copied())
            .collect();
        tools.run(step, &self.program, &arguments, folder).await
    }
}

/// Where packages end up: in the virtual environment, or with one of the interpreters on `PATH`.
pub(super) fn places(config: &ManifestConfig) -> PythonEnvironment {
    let mut places = PythonEnvironment::default();
    places.prefixes.extend(config.virtual_env.clone());
    for folder in &config.search_path {
        let interpreter = folder.join("python3");
        if interpreter.exists() {
            places
                .prefixes
                .extend(folder.parent().map(Path::to_path_buf));
            // Debian's /usr/bin/python3 installs into /usr/local.
            if folder == Path::new("/usr/bin") {
                places.prefixes.insert("/usr/local".into());
            }
            let real = interpreter.canonicalize().unwrap_or(interpreter);
            places
                .prefixes
                .extend(real.parent().and_then(Path::parent).map(Path::to_path_buf));
        }
    }
    places
}
