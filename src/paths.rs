//! What paths mean by their text and by where links lead; files that are there whole or not at all.

use std::io;
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

/// Writes a file under a temporary name beside it, then gives it its own: whoever reads it sees all
/// of it, or what was there before. Blocks.
///
/// # Errors
/// When it cannot be written; nothing is left of it then.
pub fn replace(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let temporary = path.with_extension(format!("{}.partial", &unique[..8]));
    let written =
        std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
