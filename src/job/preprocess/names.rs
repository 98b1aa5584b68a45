//! Output names: the id goes in front of the last path segment, so that two requests never collide (prompt.md, section 1).

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Code, Failure};

/// The text of the check that existing clients know.
const NO_OUTPUT: &str =
    r#"Prompt must contain a node with a "filename_prefix" input, such as "SaveImage""#;

/// Puts the id into every `filename_prefix`. With `keep` false the prefix becomes just the id.
///
/// # Errors
/// When no node would save anything.
pub fn prefix_outputs(graph: &mut Map<String, Value>, id: &str, keep: bool) -> Result<(), Failure> {
    let mut saves = false;
    for node in graph.values_mut() {
        let Some(inputs) = node.get_mut("inputs").and_then(Value::as_object_mut) else {
            continue;
        };
        let save_output = inputs.get("save_output") != Some(&Value::Bool(false));
        let Some(prefix) = inputs
            .get_mut("filename_prefix")
            .filter(|prefix| prefix.as_str().is_some_and(|text| !text.is_empty()))
        else {
            continue;
        };
        *prefix = prefixed(prefix.as_str().unwrap_or_default(), id, keep).into();
        saves |= save_output;
    }
    if saves {
        Ok(())
    } else {
        Err(Failure::new(Code::InvalidPrompt, NO_OUTPUT).at("prompt"))
    }
}

fn prefixed(prefix: &str, id: &str, keep: bool) -> String {
    match prefix.rsplit_once('/') {
        _ if !keep => id.to_owned(),
        Some((folder, name)) => format!("{folder}/{id}_{name}"),
        None => format!("{id}_{prefix}"),
    }
}

/// An input that no node knows: accepted by ComfyUI, not passed on, but part of its cache key (comfyui.md 5.2).
const UNIQUE_INPUT: &str = "comfyui_api_run";

/// Makes every saving node, and those named beside, run although ComfyUI has its result in the cache: the file it would report may be
/// gone.
pub fn make_unique(graph: &mut Map<String, Value>, beside: &BTreeSet<String>) {
    let mark = uuid::Uuid::new_v4().to_string();
    for (id, node) in graph {
        if (is_saving(node) || beside.contains(id))
            && let Some(inputs) = node.get_mut("inputs").and_then(Value::as_object_mut)
        {
            inputs.insert(UNIQUE_INPUT.to_owned(), mark.clone().into());
        }
    }
}

/// Its prefix may be a link to another node, too.
fn is_saving(node: &Value) -> bool {
    node.pointer("/inputs/filename_prefix").is_some()
}

/// Those of the named nodes that [`make_unique`] does not take for saving by itself.
pub fn not_saving<'a>(
    graph: &Map<String, Value>,
    nodes: impl Iterator<Item = &'a String>,
) -> BTreeSet<String> {
    nodes
        .filter(|id| graph.get(*id).is_some_and(|node| !is_saving(node)))
        .cloned()
        .collect()
}

/// Files that saving nodes have written without reporting them, as CheckpointSave and its kin do (comfyui.md 4.3): per node,
/// those in the folder of its prefix that ComfyUI's naming made from it. Only nodes without any entry in `outputs` are looked at.
pub fn unreported(
    graph: &Map<String, Value>,
    outputs: &Value,
    output_dir: &Path,
) -> Vec<(String, Vec<PathBuf>)> {
    let silent = graph
        .iter()
        .filter(|(id, _)| outputs.get(id.as_str()).is_none());
    silent
        .map(|(id, node)| (id.clone(), saved_files(node, output_dir)))
        .filter(|(_, files)| !files.is_empty())
        .collect()
}

/// All files that the saving nodes of a graph have written, reported or not: what must go when a prompt has failed.
pub fn saved_by(graph: &Map<String, Value>, output_dir: &Path) -> Vec<PathBuf> {
    graph
        .values()
        .flat_map(|node| saved_files(node, output_dir))
        .collect()
}

/// Files that were made on the way to a reported one and are not reported themselves: a video node leaves `<prefix>_00001.png` and a
/// silent `<prefix>_00001.mp4` beside its `<prefix>_00001-audio.mp4`. Only names that begin with `id` are taken for such.
pub fn by_products(reported: &Path, id: &str) -> Vec<PathBuf> {
    let Some((folder, name)) = reported
        .parent()
        .zip(reported.file_name().and_then(|name| name.to_str()))
    else {
        return Vec::new();
    };
    // The id itself may hold dots and dashes.
    let Some(end) = name.strip_prefix(id).and_then(|rest| {
        rest.rfind('_').and_then(|start| {
            rest[start..]
                .find(['.', '-'])
                .map(|at| id.len() + start + at)
        })
    }) else {
        return Vec::new();
    };
    let stem = &name[..end];
    if !ends_with_counter(stem) {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let beside = |file: &str| {
        file != name
            && file
                .strip_prefix(stem)
                .is_some_and(|rest| rest.starts_with(['.', '-']))
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(beside))
        .map(|entry| entry.path())
        .collect()
}

fn ends_with_counter(stem: &str) -> bool {
    stem.rsplit_once('_').is_some_and(|(_, counter)| {
        counter.len() >= 5 && counter.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// `<prefix>_<at least five digits>_.<extension>`, or with a batch number, in the folder of a node's prefix.
fn saved_files(node: &Value, output_dir: &Path) -> Vec<PathBuf> {
    let Some(prefix) = node
        .pointer("/inputs/filename_prefix")
        .and_then(Value::as_str)
        .map(Path::new)
    else {
        return Vec::new();
    };
    let (Some(name), Some(folder)) = (
        prefix.file_name().and_then(|name| name.to_str()),
        prefix.parent(),
    ) else {
        return Vec::new();
    };
    if !folder
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(output_dir.join(folder)) else {
        return Vec::new();
    };
    let ours = |file: &str| {
        let Some(rest) = file
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('_'))
        else {
            return false;
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        // `_00001_.png`, `_00001_0.png`; but `_00001_00002_.png` is of a prompt whose id ends in `_00001`.
        let batch = rest[digits..]
            .strip_prefix('_')
            .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        digits >= 5 && batch.unwrap_or(&rest[digits..]).starts_with(['.', '-'])
    };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(ours))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(prefix: Value, keep: bool) -> Result<Value, Failure> {
        let Value::Object(mut graph) =
            json!({"9": {"class_type": "SaveImage", "inputs": {"filename_prefix": prefix}}})
        else {
            panic!()
        };
        prefix_outputs(&mut graph, "id", keep)
            .map(|()| graph["9"]["inputs"]["filename_prefix"].take())
    }

    #[test]
    fn the_id_goes_before_the_last_segment() {
        assert_eq!(run(json!("ComfyUI"), true).unwrap(), "id_ComfyUI");
        assert_eq!(run(json!("video/take"), true).unwrap(), "video/id_take");
        assert_eq!(run(json!("a/b/c"), true).unwrap(), "a/b/id_c");
        assert_eq!(run(json!("a/b/c"), false).unwrap(), "id");
    }

    #[test]
    fn by_products_of_a_video_are_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let ours = [
            "a-b_clip_00001-audio.mp4",
            "a-b_clip_00001.mp4",
            "a-b_clip_00001.png",
        ];
        for name in ours.iter().chain(&[
            "a-b_clip_00002.mp4",
            "a-b_clip_00001_.png",
            "other_00001.png",
        ]) {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let mut found = by_products(&dir.path().join(ours[0]), "a-b");
        found.sort();
        assert_eq!(found, [dir.path().join(ours[1]), dir.path().join(ours[2])]);
        for none in ["a-b_clip_00001_.png", "other_00001.png", "a-b.png", "a-b"] {
            assert_eq!(
                by_products(&dir.path().join(none), "a-b"),
                Vec::<PathBuf>::new(),
                "{none}"
            );
        }
    }

    #[test]
    fn a_graph_that_saves_nothing_is_refused() {
        for prefix in [json!(""), json!(["1", 0]), json!(null), json!(5)] {
            let failure = run(prefix, true).unwrap_err();
            assert_eq!(
                (
                    failure.code,
                    failure.location.as_deref(),
                    failure.message.as_str()
                ),
                (Code::InvalidPrompt, Some("prompt"), NO_OUTPUT)
            );
        }
        let Value::Object(mut graph) =
            json!({"1": {"inputs": {"filename_prefix": "x", "save_output": false}}})
        else {
            panic!()
        };
        assert!(prefix_outputs(&mut graph, "id", true).is_err());
        assert_eq!(graph["1"]["inputs"]["filename_prefix"], "id_x");
    }
}
