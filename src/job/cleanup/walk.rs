//! A bounded look at everything below a directory.

use std::path::{Path, PathBuf};

/// More than this is not looked at: a directory may be somebody's archive.
const ENTRIES: usize = 200_000;
const DEPTH: usize = 32;

/// Regular files and links below a directory that `wanted` takes by their names. Links to
/// directories are not followed, and hidden directories, ours among them, are passed by. Blocks.
pub fn files_below(root: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![(root.to_path_buf(), 0)];
    let mut seen = 0;
    while let Some((directory, depth)) = waiting.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            seen += 1;
            if seen > ENTRIES {
                return found;
            }
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if depth < DEPTH && !name.starts_with('.') {
                    waiting.push((entry.path(), depth + 1));
                }
            } else if wanted(name) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}
