//! What the files of a job begin with.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::paths::normal;

/// How the files of one saving node begin: with a name that we made, the prompt's id in front.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// The node in the client's graph.
    pub node: String,
    /// The folder below the output directory.
    pub folder: PathBuf,
    /// The beginning of the name, as far as it is certain: up to ComfyUI's first `%token%`.
    pub name: String,
    /// The name is nothing but the id, so that what follows must not be a letter or a digit.
    pub bare: bool,
}

impl Prefix {
    /// The prefix of a node whose `filename_prefix` is now `text`, beginning with `id` behind the
    /// last `/`.
    pub fn new(node: &str, text: &str, id: &str) -> Self {
        let (folder, name) = text.rsplit_once('/').unwrap_or(("", text));
        // The id itself holds no `%`.
        let certain = name.split('%').next().unwrap_or(name);
        Self {
            node: node.to_owned(),
            folder: normal(Path::new(folder)),
            name: certain.to_owned(),
            bare: certain == id,
        }
    }

    /// Whether a file of this name begins like this.
    pub fn fits(&self, file: &str) -> bool {
        file.strip_prefix(self.name.as_str()).is_some_and(|rest| {
            !self.bare || !rest.starts_with(|next: char| next.is_ascii_alphanumeric())
        })
    }

    /// Whether the folder is known before ComfyUI fills in its tokens.
    pub(super) fn folder_is_certain(&self) -> bool {
        !self.folder.to_string_lossy().contains('%') && self.folder.is_relative()
    }
}
