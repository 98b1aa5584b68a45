//! What paths mean by their text and by where links lead.

use std::path::{Component, Path, PathBuf};

/// A path without `.` and `..`, by its text alone: nothing is looked up.
pub fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            other => normal.push(other),
        }
    }
    normal
}

/// Whether a path lies below a root: by where links lead if both exist, else by its text.
pub fn is_inside(path: &Path, root: &Path) -> bool {
    match (path.canonicalize(), root.canonicalize()) {
        (Ok(path), Ok(root)) => path.starts_with(root),
        _ => normal(path).starts_with(normal(root)),
    }
}
