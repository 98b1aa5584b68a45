//! What only ComfyUI can hand out.

use std::path::{Path, PathBuf};

/// A file that ComfyUI can be asked for.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    pub node: String,
    pub key: String,
    pub filename: String,
    pub subfolder: String,
    /// Where it would be on this machine.
    pub path: PathBuf,
}

impl Elsewhere {
    /// A temporary file of a node, below the directory of such files.
    pub fn below(temp: &Path, node: String, key: String, path: &Path) -> Self {
        let relative = path.strip_prefix(temp).unwrap_or(path);
        let subfolder = relative.parent().unwrap_or(Path::new(""));
        let filename = path.file_name().unwrap_or_default();
        Self {
            node,
            key,
            filename: filename.to_string_lossy().into_owned(),
            subfolder: subfolder.to_string_lossy().into_owned(),
            path: path.to_path_buf(),
        }
    }
}
