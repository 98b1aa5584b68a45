//! Finds the files and texts that a prompt has made (prompt.md, section 4; comfyui.md 4.2).

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::super::preprocess::names;
use super::{FileCleanup, OutputFile};

/// What a prompt has made.
#[derive(Debug, Default)]
pub struct Collected {
    /// Files that are there, in ComfyUI's order.
    pub files: Vec<OutputFile>,
    /// `{node_id: [string]}`
    pub texts: Map<String, Value>,
    /// Files that were reported but are not there, in sentences.
    pub missing: Vec<String>,
    /// The nodes that reported them.
    pub missing_of: BTreeSet<String>,
}

/// What `collect` needs to know of a prompt.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The caller's id, with which the names of its files begin.
    pub id: Arc<str>,
    /// The graph that ran.
    pub graph: Arc<Map<String, Value>>,
    /// Where ComfyUI writes.
    pub output_dir: PathBuf,
    /// Files of an earlier prompt with the same id, which may still be on their way to somebody: not ours.
    pub earlier: Arc<HashSet<PathBuf>>,
}

/// Reads `outputs` of a history entry. Every file that lies in the output directory is added to `cleanup`.
/// Looks at files: for a blocking thread.
pub fn collect(outputs: &Value, origin: &Origin, cleanup: &FileCleanup) -> Collected {
    let output_dir = &origin.output_dir;
    let mut collected = Collected::default();
    let mut seen = HashSet::new();
    for (node_id, output) in outputs.as_object().into_iter().flatten() {
        let files_before = collected.files.len();
        for (key, list) in output.as_object().into_iter().flatten() {
            for item in list.as_array().into_iter().flatten() {
                if let Some((subfolder, filename)) = output_file(item)
                    && seen.insert((subfolder.to_owned(), filename.to_owned()))
                {
                    take(
                        &mut collected,
                        node_id,
                        key,
                        subfolder,
                        filename,
                        output_dir,
                        cleanup,
                    );
                }
            }
        }
        if collected.files.len() == files_before {
            take_texts(&mut collected.texts, node_id, output);
        }
    }
    let mut known: HashSet<PathBuf> = collected
        .files
        .iter()
        .map(|file| file.path.clone())
        .collect();
    for file in &collected.files {
        names::by_products(&file.path, &origin.id)
            .into_iter()
            .filter(|path| !known.contains(path))
            .for_each(|path| cleanup.add(path));
    }
    for (node_id, files) in names::unreported(&origin.graph, outputs, output_dir) {
        for path in files {
            // Two nodes may have the same prefix, one of which has told of its files.
            if origin.earlier.contains(&path) || !known.insert(path.clone()) {
                continue;
            }
            cleanup.add(path.clone());
            let Some(filename) = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
            else {
                continue;
            };
            collected
                .files
                .extend(found(&node_id, "files", filename, path).ok());
        }
    }
    collected
}

/// An array element that is a file in the output directory: an object with `filename` and `type` `output`.
fn output_file(item: &Value) -> Option<(&str, &str)> {
    let filename = item.get("filename").and_then(Value::as_str)?;
    let subfolder = item
        .get("subfolder")
        .and_then(Value::as_str)
        .unwrap_or_default();
    (item.get("type").and_then(Value::as_str) == Some("output")).then_some((subfolder, filename))
}

fn take(
    collected: &mut Collected,
    node_id: &str,
    key: &str,
    subfolder: &str,
    filename: &str,
    output_dir: &Path,
    cleanup: &FileCleanup,
) {
    let shown = if subfolder.is_empty() {
        filename.to_owned()
    } else {
        format!("{subfolder}/{filename}")
    };
    let Some(path) = resolve(output_dir, subfolder, filename) else {
        collected.missing.push(format!("node {node_id} reported the file \"{shown}\", which lies outside of the output directory; it is not delivered"));
        return;
    };
    match found(node_id, key, filename.to_owned(), path.clone()) {
        Ok(file) => {
            cleanup.add(path);
            collected.files.push(file);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            collected.missing.push(format!(
                "node {node_id} reported the file \"{shown}\", which is not in the output directory"
            ));
            collected.missing_of.insert(node_id.to_owned());
        }
        Err(error) => {
            if path.is_file() {
                cleanup.add(path);
            }
            collected.missing.push(format!(
                "node {node_id} reported the file \"{shown}\", which cannot be read: {error}"
            ));
        }
    }
}

fn found(node_id: &str, output: &str, filename: String, path: PathBuf) -> io::Result<OutputFile> {
    let mut file = OutputFile {
        node_id: Some(node_id.to_owned()),
        output: output.to_owned(),
        filename,
        content_type: String::new(),
        size: 0,
        path,
    };
    file.look()?;
    Ok(file)
}

/// The file's path, if it lies inside the output directory: by its text and by where links lead. `subfolder` may be an absolute
/// path inside of it (comfyui.md 4.4).
fn resolve(output_dir: &Path, subfolder: &str, filename: &str) -> Option<PathBuf> {
    let mut parts = Path::new(filename).components();
    let (Some(Component::Normal(_)), None) = (parts.next(), parts.next()) else {
        return None;
    };
    let path = output_dir.join(subfolder).join(filename);
    if path.components().any(|part| part == Component::ParentDir) || !path.starts_with(output_dir) {
        return None;
    }
    match (path.canonicalize(), output_dir.canonicalize()) {
        (Ok(real), Ok(root)) if !real.starts_with(&root) => None,
        _ => Some(path),
    }
}

/// The texts of a node that returned text instead of files.
fn take_texts(texts: &mut Map<String, Value>, node_id: &str, output: &Value) {
    let strings: Vec<Value> = output
        .as_object()
        .into_iter()
        .flat_map(|output| output.values())
        .filter_map(Value::as_array)
        .filter(|list| !list.is_empty() && list.iter().all(Value::is_string))
        .flatten()
        .cloned()
        .collect();
    if !strings.is_empty() {
        texts.insert(node_id.to_owned(), strings.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_output_file_once_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("video")).unwrap();
        for name in ["a.png", "b.png", "video/v.mp4"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", root.join("link.png")).unwrap();
        let file = |name: &str, sub: &str, kind: &str| json!({"filename": name, "subfolder": sub, "type": kind, "extra": null});
        let outputs = json!({
            "9": {"images": [file("a.png", "", "output"), file("b.png", "", "output")], "animated": [true], "odd": 5},
            "8": {"images": [file("a.png", "", "output")]},
            "7": {"gifs": [file("v.mp4", "video", "output")], "text": ["not told: this node has files"]},
            "6": {"images": [file("t.png", "", "temp"), {"filename": "no-type.png"}]},
            "5": {"text": ["hello", "you"]},
            "4": {"images": [file("passwd", "../../etc", "output"), file("../a.png", "", "output"), file("link.png", "", "output"), file("gone.png", "", "output"), file("passwd", "/etc", "output")]},
            "3": null,
        });
        let cleanup = FileCleanup::default();
        let graph = json!({
            "20": {"inputs": {"filename_prefix": "a"}},
            "21": {"inputs": {"filename_prefix": "id_model"}},
            "22": {"inputs": {"filename_prefix": "id_model"}},
        });
        for name in ["id_model_00001_.safetensors", "id_model_00002_.safetensors"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        let origin = Origin {
            id: "id".into(),
            graph: Arc::new(graph.as_object().unwrap().clone()),
            output_dir: root.to_path_buf(),
            earlier: Arc::new([root.join("id_model_00001_.safetensors")].into()),
        };
        let collected = collect(&outputs, &origin, &cleanup);
        let names: Vec<_> = collected
            .files
            .iter()
            .map(|f| {
                (
                    f.node_id.as_deref().unwrap(),
                    f.output.as_str(),
                    f.filename.as_str(),
                )
            })
            .collect();
        assert_eq!(
            names,
            [
                ("9", "images", "a.png"),
                ("9", "images", "b.png"),
                ("7", "gifs", "v.mp4"),
                ("21", "files", "id_model_00002_.safetensors")
            ]
        );
        assert_eq!(
            Value::Object(collected.texts),
            json!({"5": ["hello", "you"]})
        );
        assert_eq!(collected.missing.len(), 5, "{:?}", collected.missing);
        drop(cleanup);
        for _ in 0..500 {
            if !root.join("a.png").exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(
            root.join("id_model_00001_.safetensors").exists(),
            "an earlier prompt's file"
        );
        assert!(
            !root.join("a.png").exists()
                && !root.join("video/v.mp4").exists()
                && root.join("link.png").is_symlink()
        );
    }
}
