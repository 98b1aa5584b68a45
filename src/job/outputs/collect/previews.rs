//! Files of type `temp`: delivered where there is nothing better, and removed in any case (U1,
//! F21).

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::super::cleanup::Owner;
use super::super::super::preprocess::names;
use super::{Collecting, Elsewhere, file_name};

/// A file of type `temp` that was reported.
pub(super) struct Preview {
    node: String,
    key: String,
    path: PathBuf,
    there: bool,
}

impl Preview {
    pub(super) fn new(node: &str, key: &str, path: PathBuf, there: bool) -> Self {
        Self {
            node: node.to_owned(),
            key: key.to_owned(),
            path,
            there,
        }
    }
}

impl Collecting<'_> {
    /// Previews are delivered where there is nothing better, and removed in any case.
    pub(super) fn take_previews(&mut self) {
        let wanted = self.made.files.is_empty() && !self.facts.has_files;
        let claim = &self.facts.claim;
        let mut by_products: Vec<PathBuf> = Vec::new();
        for (path, _) in claim.files_in(&claim.temp_dir()) {
            by_products.push(path);
        }
        for preview in std::mem::take(&mut self.temps) {
            let Preview {
                node,
                key,
                path,
                there,
            } = preview;
            // What an earlier run has made is that prompt's to deliver and to remove.
            if self.facts.cached.contains(&node) {
                if wanted {
                    self.made.stale.insert(node);
                }
                continue;
            }
            by_products.extend(beside(&path));
            by_products.retain(|other| *other != path);
            if !wanted {
                self.cleanup.discard(path);
                continue;
            }
            if !self.certain(&node, &path) {
                self.made.names_shared = true;
                self.made.stale.insert(node);
                continue;
            }
            if !there {
                self.made
                    .elsewhere
                    .push(Elsewhere::below(self.roots.temp, node, key, &path));
                continue;
            }
            let kind = path.symlink_metadata().map(|about| about.file_type());
            match kind.and_then(|kind| self.secured(&node, &key, &path, kind)) {
                Ok(file) => self.made.previews.push(file),
                Err(error) => {
                    self.made.missing.push(format!(
                        "node {node} reported the file \"{}\", which cannot be read: {error}",
                        file_name(&path)
                    ));
                }
            }
        }
        by_products
            .into_iter()
            .for_each(|path| self.cleanup.discard(path));
    }

    /// Whether nobody else can have written a temporary file: it bears our prefix, its class makes
    /// up names, or nobody else ran.
    fn certain(&self, node: &str, path: &Path) -> bool {
        let class = self
            .facts
            .graph
            .get(node)
            .and_then(|node| node.get("class_type"));
        let class = class.and_then(Value::as_str).unwrap_or_default();
        match self.owner(path) {
            Owner::Ours(_) => true,
            Owner::Another => false,
            Owner::Nobody => self.facts.alone || !names::may_share_names(class),
        }
    }
}

/// The by-products of a temporary file: a video's still beside it.
fn beside(path: &Path) -> Vec<PathBuf> {
    let name = file_name(path);
    if names::stem(&name).is_none() {
        return Vec::new();
    }
    let entries = path
        .parent()
        .and_then(|folder| std::fs::read_dir(folder).ok());
    let entries = entries.into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| names::is_by_product(&file_name(path), &name))
        .collect()
}
