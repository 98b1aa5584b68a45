//! Output names: the id goes in front of the last path segment, so that two requests never collide
//! (prompt.md, section 1).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::cleanup::Prefix;
use crate::error::Failure;

/// Longest part of a prefix, in bytes: a counter and an extension follow, and a file name may have
/// 255.
const MAX_PART: usize = 200;

/// Puts the id (as file names hold it) into every `filename_prefix` that is a text. With `keep`
/// false the prefix becomes just the id. Returns the prefixes that were made; one that comes by a
/// link, an empty or a numeric one stays as it is (U1).
///
/// # Errors
/// A 400 at a prefix that cannot be a file name in the output folder (faults.md, U3).
pub fn prefix_outputs(
    graph: &mut Map<String, Value>,
    id: &str,
    keep: bool,
) -> Result<Vec<Prefix>, Failure> {
    let mut made = Vec::new();
    for (node, description) in graph {
        let prefix = description
            .get_mut("inputs")
            .and_then(|inputs| inputs.get_mut("filename_prefix"));
        if let Some(Value::String(prefix)) = prefix
            && !prefix.is_empty()
        {
            *prefix = prefixed(prefix, id, keep);
            if let Some(reason) = unusable(prefix) {
                return Err(Failure::invalid(
                    format!("prompt.{node}.inputs.filename_prefix"),
                    format!("\"filename_prefix\" {reason}"),
                ));
            }
            made.push(Prefix::new(node, prefix, id));
        }
    }
    Ok(made)
}

/// Why files cannot be named by a prefix, if they cannot. `a/../b` is fine, and so are ComfyUI's
/// `%date:...%`.
fn unusable(prefix: &str) -> Option<String> {
    if prefix.starts_with('/') {
        return Some("must not be an absolute path: it is below the output folder".to_owned());
    }
    if prefix.chars().any(char::is_control) {
        return Some("must not have control characters: it becomes part of file names".to_owned());
    }
    let mut depth = 0_u32;
    for part in prefix.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => {
                return Some("must not lead out of the output folder".to_owned());
            }
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if part.len() > MAX_PART {
            return Some(format!(
                "has a part of {} bytes, the id included: at most {MAX_PART} leave room in a file \
                 name",
                part.len()
            ));
        }
    }
    None
}

fn prefixed(prefix: &str, id: &str, keep: bool) -> String {
    match prefix.rsplit_once('/') {
        _ if !keep => id.to_owned(),
        Some((folder, name)) => format!("{folder}/{id}_{name}"),
        None => format!("{id}_{prefix}"),
    }
}

/// Classes that end a run and write no file under a fixed name: their temporary files have random
/// names, or there are none.
const WITHOUT_NAMES: &[&str] = &[
    "Display Any (rgthree)",
    "MaskPreview",
    "PreviewAny",
    "PreviewAudio",
    "PreviewImage",
    "SaveImageWebsocket",
    "ShowText|pysssss",
    "easy showAnything",
];

/// Whether a node may write under a name that others may write to as well (F04).
pub fn may_share_names(class: &str) -> bool {
    !WITHOUT_NAMES.contains(&class)
}

/// Whether a graph may write under such a name: it has an output node whose prefix we did not make,
/// or a class that is known for names of its own.
pub fn shares_names(
    graph: &Map<String, Value>,
    made: &[Prefix],
    is_output_node: impl Fn(&str) -> bool,
    is_known_for_it: impl Fn(&str) -> bool,
) -> bool {
    graph.iter().any(|(id, node)| {
        let class = node.get("class_type").and_then(Value::as_str);
        let class = class.unwrap_or_default();
        let ours = || made.iter().any(|prefix| prefix.node == *id);
        is_known_for_it(class) || is_output_node(class) && may_share_names(class) && !ours()
    })
}

/// An input that no node knows: accepted by ComfyUI, not passed on, but part of its cache key
/// (comfyui.md 5.2).
const UNIQUE_INPUT: &str = "comfyui_api_run";

/// Makes every saving node, and those named beside, run although ComfyUI has its result in the
/// cache: the file it would report may be gone.
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

/// The beginning that the by-products of a file share with it: a video node leaves
/// `<prefix>_00001.png` and a silent `<prefix>_00001.mp4` beside its `<prefix>_00001-audio.mp4`.
/// What follows it begins with a dot or a dash.
pub fn stem(file: &str) -> Option<&str> {
    let counter = file.rfind('_')?;
    let end = counter + file[counter..].find(['.', '-'])?;
    let digits = &file[counter + 1..end];
    let counted = digits.len() >= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
    counted.then(|| &file[..end])
}

/// Whether one file is a by-product of another by their names.
pub fn is_by_product(file: &str, of: &str) -> bool {
    file != of
        && stem(of)
            .and_then(|stem| file.strip_prefix(stem))
            .is_some_and(|rest| rest.starts_with(['.', '-']))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn prefixed(inputs: Value, keep: bool) -> (Value, Vec<Prefix>) {
        let Value::Object(mut graph) = json!({"9": {"class_type": "SaveImage", "inputs": inputs}})
        else {
            panic!()
        };
        let made = prefix_outputs(&mut graph, "id", keep).unwrap();
        (graph["9"]["inputs"]["filename_prefix"].take(), made)
    }

    #[test]
    fn the_id_goes_before_the_last_segment() {
        for (prefix, keep, made, folder) in [
            ("ComfyUI", true, "id_ComfyUI", ""),
            ("video/take", true, "video/id_take", "video"),
            ("a/b/c", true, "a/b/id_c", "a/b"),
            ("a/../b/c", true, "a/../b/id_c", "b"),
            ("a/b/c", false, "id", ""),
        ] {
            let (text, prefixes) = prefixed(json!({"filename_prefix": prefix}), keep);
            assert_eq!(text, made);
            assert_eq!(prefixes[0].folder, Path::new(folder), "{prefix}");
        }
    }

    /// U1: what ComfyUI takes is left as it is. F04: such a graph may write where others write.
    #[test]
    fn prefixes_that_are_no_texts_stay_and_make_a_graph_share_names() {
        for prefix in [json!(""), json!(["1", 0]), json!(null), json!(5)] {
            let (text, made) = prefixed(json!({"filename_prefix": prefix}), true);
            assert_eq!((text, made.len()), (prefix, 0));
        }
        let graph =
            |class: &str| json!({"9": {"class_type": class, "inputs": {"filename_prefix": "x"}}});
        let shares = |class: &str, made: &[Prefix], output: bool| {
            let graph = graph(class);
            shares_names(
                graph.as_object().unwrap(),
                made,
                |_| output,
                |class| class == "Known",
            )
        };
        let made = [Prefix::new("9", "id_x", "id")];
        assert!(shares("Save", &[], true) && !shares("Save", &made, true));
        assert!(!shares("Save", &[], false) && !shares("PreviewImage", &[], true));
        assert!(shares("Known", &made, true));
    }

    #[test]
    fn by_products_of_a_video_are_known_by_their_names() {
        let video = "a-b_clip_00001-audio.mp4";
        for (file, expected) in [
            ("a-b_clip_00001.mp4", true),
            ("a-b_clip_00001.png", true),
            ("a-b_clip_00002.mp4", false),
            ("a-b_clip_00001_.png", false),
            ("other_00001.png", false),
            (video, false),
        ] {
            assert_eq!(is_by_product(file, video), expected, "{file}");
        }
        for none in ["a-b.png", "a-b", "x_00001_y.png", "ä_0001.png"] {
            assert_eq!(stem(none), None, "{none}");
        }
    }

    /// U3
    #[test]
    fn prefixes_that_cannot_be_file_names_are_refused() {
        for prefix in [
            "../x",
            "/abs/x",
            "a/../../b",
            "./../b",
            "a\0b",
            "a\nb",
            &"x".repeat(250),
            &"x".repeat(198),
            &"é".repeat(99),
            &format!("{}/x", "y".repeat(201)),
        ] {
            let mut graph = Map::new();
            graph.insert("9".into(), json!({"inputs": {"filename_prefix": prefix}}));
            let failure = prefix_outputs(&mut graph, "id", true).unwrap_err();
            assert_eq!(
                failure.location.as_deref(),
                Some("prompt.9.inputs.filename_prefix"),
                "{prefix}"
            );
            assert!(failure.message.len() < 200, "{failure}");
        }
        for prefix in [
            "a/../b",
            "%date:yyyy-MM-dd%/x",
            "..x",
            "video/",
            "..",
            "C:\\x",
            &"x".repeat(197),
            &format!("{}/x", "y".repeat(200)),
        ] {
            let (_, made) = prefixed(json!({"filename_prefix": prefix}), true);
            assert_eq!(made.len(), 1, "{prefix}");
        }
        // Nothing of it is left.
        assert_eq!(prefixed(json!({"filename_prefix": "../x"}), false).0, "id");
    }
}
