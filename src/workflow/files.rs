//! The workflow directory: which files there are, what routes they have, and whether anything
//! changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// In order of preference when two files share a name. The Node server compiled a `.ts` over the
/// `.js` beside it.
const EXTENSIONS: [&str; 23] = [
    "ts",
    "mts",
    "mjs",
    "js",
    "json",
    "png",
    "webp",
    "jpg",
    "jpeg",
    "avif",
    "mp4",
    "mov",
    "m4v",
    "webm",
    "mkv",
    "flac",
    "ogg",
    "opus",
    "mp3",
    "svg",
    "glb",
    "latent",
    "safetensors",
];
/// Of these, files that may hold a graph in their metadata.
const FIRST_MEDIA: usize = 5;
/// Directories deeper than this are not looked into; links can make circles.
const DEEPEST: usize = 16;
/// Files beyond this are not looked at, so that a wrong directory (`/`) cannot stop the start.
const MOST_FILES: usize = 10_000;

/// One file that may be a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowFile {
    /// The path below the directory, without extension, with `/`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its extension's place in the order of preference.
    rank: usize,
}

impl WorkflowFile {
    /// Whether it may hold a graph in its metadata.
    pub const fn is_media(&self) -> bool {
        self.rank >= FIRST_MEDIA
    }

    /// Whether it is plain data.
    pub fn is_json(&self) -> bool {
        self.path
            .extension()
            .is_some_and(|extension| extension == "json")
    }
}

/// What a directory looked like, to see whether it changed: every source file with its time and
/// size.
pub type Signature = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// All candidates, sorted by name and then by preference. A missing directory has none.
pub fn scan(root: &Path) -> Vec<WorkflowFile> {
    let mut found = Vec::new();
    walk(root, 0, &mut |path, _| {
        if let Some(file) = candidate(root, path) {
            found.push(file);
        }
        found.len() < MOST_FILES
    });
    found.sort_by(|a, b| (&a.name, a.rank).cmp(&(&b.name, b.rank)));
    found
}

/// The state of the directory.
pub fn signature(root: &Path) -> Signature {
    let mut signature = Signature::new();
    walk(root, 0, &mut |path, metadata| {
        signature.insert(
            path.to_path_buf(),
            (metadata.modified().ok(), metadata.len()),
        );
        signature.len() < MOST_FILES
    });
    signature
}

/// Visits all files until a visit says that it is enough; false then.
fn walk(
    folder: &Path,
    depth: usize,
    visit: &mut dyn FnMut(&Path, &std::fs::Metadata) -> bool,
) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return true;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        // Kubernetes mounts a ConfigMap through hidden directories, which are not routes.
        if name == "node_modules" || name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let Ok(metadata) = std::fs::metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            if depth < DEEPEST && !walk(&path, depth + 1, visit) {
                return false;
            }
        } else if metadata.is_file() && !visit(&path, &metadata) {
            return false;
        }
    }
    true
}

fn candidate(root: &Path, path: &Path) -> Option<WorkflowFile> {
    let extension = path.extension()?.to_str()?;
    let rank = EXTENSIONS.iter().position(|known| *known == extension)?;
    let name = path
        .strip_prefix(root)
        .ok()?
        .with_extension("")
        .to_str()?
        .to_owned();
    // `x.d.ts` describes types, and packages may lie here for the user's editor.
    if name.ends_with(".d") || matches!(name.as_str(), "package" | "package-lock" | "tsconfig") {
        return None;
    }
    Some(WorkflowFile {
        name,
        path: path.to_path_buf(),
        rank,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_files_get_their_path_and_only_the_last_extension_goes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for file in [
            "sd1.5/txt2img.ts",
            "sd1.5/txt2img.js",
            "flat.json",
            "types.d.ts",
            "readme.md",
            ".git/x.ts",
            "node_modules/zod/index.js",
            "a/b/c.mjs",
        ] {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found: Vec<(String, bool)> = scan(root)
            .into_iter()
            .map(|file| (file.name.clone(), file.is_json()))
            .collect();
        let expected = [
            ("a/b/c", false),
            ("flat", true),
            ("sd1.5/txt2img", false),
            ("sd1.5/txt2img", false),
        ];
        assert_eq!(found, expected.map(|(name, json)| (name.to_owned(), json)));
        assert!(
            scan(root)[2].path.ends_with("txt2img.ts"),
            "TypeScript comes first"
        );
        assert!(scan(&root.join("missing")).is_empty());
    }
}
