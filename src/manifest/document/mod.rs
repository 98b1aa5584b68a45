//! The manifest as a document: where it comes from, what it may say.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ManifestError;
use super::git_url::GitSource;
use crate::config::{ManifestConfig, Secret, public_text, public_url};
use crate::storage::Storage;

/// A checked manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Debian packages.
    pub apt: Vec<String>,
    /// Python requirements, as pip takes them; they may hold credentials.
    pub pip: Vec<Secret>,
    /// Custom nodes: names in ComfyUI's registry, or git URLs.
    pub custom_nodes: Vec<CustomNode>,
    /// Models that ComfyUI needs from the start.
    pub before_start: Vec<Model>,
    /// Models that may come later.
    pub after_start: Vec<Model>,
    /// Keys that mean nothing here, each in a sentence with its place.
    pub warnings: Vec<String>,
}

/// A custom node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustomNode {
    /// A name in ComfyUI's registry.
    Registry(String),
    /// A git repository.
    Git(GitSource),
}

/// A file to download.
#[derive(Clone, PartialEq, Eq)]
pub struct Model {
    /// Where from; may hold credentials.
    pub url: String,
    /// Where to; relative to `COMFY_HOME` unless absolute.
    pub local_path: PathBuf,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Model({} -> {})",
            public_url(&self.url),
            self.local_path.display()
        )
    }
}

impl Manifest {
    /// Reads `MANIFEST_JSON`, else the file `MANIFEST`; `None` when neither is set.
    ///
    /// # Errors
    /// Every problem of the document, each with its place.
    pub async fn load(config: &ManifestConfig) -> Result<Option<Self>, ManifestError> {
        let manifest = Self::read(config).await?;
        for warning in manifest.iter().flat_map(|manifest| &manifest.warnings) {
            tracing::warn!("manifest: {warning}");
        }
        Ok(manifest)
    }

    async fn read(config: &ManifestConfig) -> Result<Option<Self>, ManifestError> {
        if let Some(json) = &config.json {
            return Self::from_json("MANIFEST_JSON", json.expose()).map(Some);
        }
        let Some(file) = &config.file else {
            return Ok(None);
        };
        let text = tokio::fs::read_to_string(file).await.map_err(|error| {
            ManifestError::new(format!(
                "MANIFEST: {} cannot be read ({error})",
                file.display()
            ))
        })?;
        Self::from_file(file, &text).map(Some)
    }

    fn from_file(file: &Path, text: &str) -> Result<Self, ManifestError> {
        let name = format!("MANIFEST ({})", file.display());
        match file
            .extension()
            .and_then(|extension| extension.to_str())
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            Some("json") => Self::from_json(&name, text),
            Some("yml" | "yaml") => Self::from_yaml(&name, text),
            _ => Err(ManifestError::new(format!(
                "{name}: the file's name must end in .json, .yml or .yaml"
            ))),
        }
    }

    /// Parses JSON; `name` says where it came from.
    ///
    /// # Errors
    /// Every problem, with its place.
    pub fn from_json(name: &str, text: &str) -> Result<Self, ManifestError> {
        let value = serde_json::from_str(text)
            .map_err(|error| ManifestError::new(format!("{name} is not JSON: {error}")))?;
        Self::from_value(name, &value)
    }

    /// Parses YAML; `name` says where it came from.
    ///
    /// # Errors
    /// Every problem, with its place.
    pub fn from_yaml(name: &str, text: &str) -> Result<Self, ManifestError> {
        if text.lines().all(|line| {
            matches!(line.trim(), "" | "---" | "...") || line.trim_start().starts_with('#')
        }) {
            return Ok(Self::default());
        }
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            ManifestError::new(format!(
                "{name} is not YAML: {}",
                public_text(&error.without_snippet().to_string())
            ))
        })?;
        Self::from_value(name, &value)
    }

    fn from_value(name: &str, value: &Value) -> Result<Self, ManifestError> {
        let mut walk = Walk {
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        let mut manifest = walk.manifest(value);
        manifest.warnings = walk.warnings;
        match walk.problems.as_slice() {
            [] => Ok(manifest),
            problems => Err(ManifestError::new(format!(
                "{name}: {}",
                problems.join("; ")
            ))),
        }
    }
}

/// Walks through the document and notes what is wrong. Never quotes a value, which may be a URL
/// with a token.
struct Walk {
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Walk {
    fn manifest(&mut self, value: &Value) -> Manifest {
        let mut manifest = Manifest::default();
        let Some(top) = self.object("", value, &["apt", "pip", "custom_nodes", "models"]) else {
            return manifest;
        };
        manifest.apt = self.texts("apt", top.get("apt"));
        manifest.pip = self
            .texts("pip", top.get("pip"))
            .into_iter()
            .map(Secret::new)
            .collect();
        for (index, text) in self
            .texts("custom_nodes", top.get("custom_nodes"))
            .iter()
            .enumerate()
        {
            if let Some(node) = self.node(index, text) {
                manifest.custom_nodes.push(node);
            }
        }
        self.folders_differ(&manifest.custom_nodes);
        if let Some(models) = top.get("models").filter(|models| !models.is_null())
            && let Some(models) = self.object("models", models, &["before_start", "after_start"])
        {
            manifest.before_start = self.models("models.before_start", models.get("before_start"));
            manifest.after_start = self.models("models.after_start", models.get("after_start"));
        }
        manifest
    }

    fn object<'a>(
        &mut self,
        place: &str,
        value: &'a Value,
        known: &[&str],
    ) -> Option<&'a Map<String, Value>> {
        let Value::Object(map) = value else {
            let place = if place.is_empty() {
                "the manifest"
            } else {
                place
            };
            self.problems.push(format!(
                "{place} must be an object with {}",
                known.join(", ")
            ));
            return None;
        };
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            // Other versions and other tools may have more keys (drop-in.md, D15).
            let dot = if place.is_empty() { "" } else { "." };
            let shown: String = public_text(key).chars().take(80).collect();
            self.warnings.push(format!(
                "{place}{dot}{shown} is not known and is ignored: known are {}",
                known.join(", ")
            ));
        }
        Some(map)
    }

    /// A list; absent and null are empty lists (a YAML key whose items are all commented out is
    /// null).
    fn list<'a>(&mut self, place: &str, value: Option<&'a Value>, of: &str) -> &'a [Value] {
        match value {
            None | Some(Value::Null) => &[],
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.problems
                    .push(format!("{place} must be a list of {of}"));
                &[]
            }
        }
    }

    fn texts(&mut self, place: &str, value: Option<&Value>) -> Vec<String> {
        let items = self.list(place, value, "texts");
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            texts.extend(self.text(&format!("{place}[{index}]"), Some(item)));
        }
        texts
    }

    fn text(&mut self, place: &str, value: Option<&Value>) -> Option<String> {
        match value {
            Some(Value::String(text)) if !text.trim().is_empty() => {
                return Some(text.trim().to_owned());
            }
            None => self.problems.push(format!("{place} is missing")),
            Some(Value::String(_)) => self.problems.push(format!("{place} is empty")),
            Some(_) => self
                .problems
                .push(format!("{place} must be a text: put it in quotes")),
        }
        None
    }

    fn node(&mut self, index: usize, text: &str) -> Option<CustomNode> {
        if !GitSource::is_git_url(text) {
            return Some(CustomNode::Registry(text.to_owned()));
        }
        match GitSource::parse(text) {
            Ok(source) => Some(CustomNode::Git(source)),
            Err(why) => {
                self.problems.push(format!("custom_nodes[{index}] {why}"));
                None
            }
        }
    }

    /// Two repositories of the same name would overwrite each other.
    fn folders_differ(&mut self, nodes: &[CustomNode]) {
        let mut seen = std::collections::BTreeMap::new();
        for node in nodes {
            if let CustomNode::Git(source) = node
                && let Some(other) = seen.insert(&source.folder, source)
                && other != source
            {
                self.problems.push(format!(
                    "custom_nodes: {} is asked for twice, in different ways",
                    source.folder
                ));
            }
        }
    }

    fn models(&mut self, place: &str, value: Option<&Value>) -> Vec<Model> {
        let items = self.list(place, value, "objects with url and local_path");
        let mut models = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let place = format!("{place}[{index}]");
            let Some(fields) = self.object(&place, item, &["url", "local_path"]) else {
                continue;
            };
            let url = self.text(&format!("{place}.url"), fields.get("url"));
            let path = self.text(&format!("{place}.local_path"), fields.get("local_path"));
            if url.as_ref().is_some_and(|url| !Storage::is_url(url)) {
                self.problems.push(format!(
                    "{place}.url must begin with http://, https:// or s3://"
                ));
            }
            if path
                .as_ref()
                .is_some_and(|path| path.ends_with('/') || Path::new(path).file_name().is_none())
            {
                self.problems
                    .push(format!("{place}.local_path must name a file, not a folder"));
            }
            models.extend(url.zip(path).map(|(url, path)| Model {
                url,
                local_path: path.into(),
            }));
        }
        models
    }
}
