//! What the output of a node names, whatever its shape: objects with `filename` at any depth, and
//! texts in lists that may be names of files (F09; comfyui.md 4.2).

use serde_json::Value;

/// Deeper than this nothing is looked for.
const DEPTH: usize = 64;
/// Longer texts are no names of files.
const LONGEST_NAME: usize = 4096;

/// What was named.
#[derive(Debug, PartialEq)]
pub struct Reported<'a> {
    /// The key of the output under which it stands.
    pub key: &'a str,
    /// By what it was named.
    pub name: Name<'a>,
}

/// How a file was named.
#[derive(Debug, PartialEq)]
pub enum Name<'a> {
    /// By an object.
    File {
        filename: &'a str,
        subfolder: &'a str,
        /// `None`: not said.
        kind: Option<&'a str>,
    },
    /// By a text in a list, which may be nothing but a text. `mixed`: the list holds more than
    /// texts.
    Text { text: &'a str, mixed: bool },
}

/// Everything that a node's output names, in its order.
pub fn reported(output: &Value) -> Vec<Reported<'_>> {
    let mut found = Vec::new();
    for (key, value) in output.as_object().into_iter().flatten() {
        walk(value, 0, &mut |name| found.push(Reported { key, name }));
    }
    found
}

fn walk<'a>(value: &'a Value, depth: usize, found: &mut impl FnMut(Name<'a>)) {
    if depth > DEPTH {
        return;
    }
    match value {
        Value::Array(list) => {
            let mixed = !list.iter().all(Value::is_string);
            for item in list {
                match item {
                    Value::String(text) if may_be_a_name(text) => {
                        found(Name::Text { text, mixed });
                    }
                    other => walk(other, depth + 1, found),
                }
            }
        }
        Value::Object(object) => match object.get("filename").and_then(Value::as_str) {
            Some(filename) => {
                let text = |name: &str| object.get(name).and_then(Value::as_str);
                let (filename, suffix) = annotated(filename);
                found(Name::File {
                    filename,
                    subfolder: text("subfolder").unwrap_or_default(),
                    kind: suffix.or(text("type")).filter(|kind| !kind.is_empty()),
                });
            }
            None => object
                .values()
                .for_each(|value| walk(value, depth + 1, found)),
        },
        _ => {}
    }
}

fn may_be_a_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_NAME && !text.contains(['\n', '\0'])
}

/// A name with ComfyUI's own suffix for the kind of directory.
fn annotated(filename: &str) -> (&str, Option<&str>) {
    for (suffix, kind) in [
        (" [output]", "output"),
        (" [temp]", "temp"),
        (" [input]", "input"),
    ] {
        if let Some(name) = filename.strip_suffix(suffix) {
            return (name, Some(kind));
        }
    }
    (filename, None)
}

/// Whether a node says that its result is what came over the websocket (F28).
pub fn says_websocket(output: &Value) -> bool {
    let items = output
        .as_object()
        .into_iter()
        .flat_map(|output| output.values());
    let mut items = items.filter_map(Value::as_array).flatten();
    items.any(|item| item.get("source").and_then(Value::as_str) == Some("websocket"))
}

/// Whether a node says that its run goes on under another id (F27).
pub fn says_unfinished(output: &Value) -> bool {
    let said = output.get("unfinished_batch");
    said.and_then(Value::as_array)
        .is_some_and(|list| list.iter().any(|item| item.as_bool() == Some(true)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_shape_is_read() {
        let output = json!({
            "files": [{"filename": "a.txt"}, {"filename": "b.txt", "subfolder": "s", "type": null}],
            "deep": {"x": [[{"filename": "c.png", "type": ""}], 5, {"filename": "d.png [temp]"}]},
            "result": ["3d/x.glb", {"position": ["no"]}, null],
            "text": ["hello\nyou", "", "e.txt"], "animated": [true], "odd": "f.txt",
        });
        let file = |filename, subfolder, kind| Name::File {
            filename,
            subfolder,
            kind,
        };
        let text = |text, mixed| Name::Text { text, mixed };
        let found: Vec<_> = reported(&output)
            .into_iter()
            .map(|one| (one.key, one.name))
            .collect();
        assert_eq!(
            found,
            [
                ("files", file("a.txt", "", None)),
                ("files", file("b.txt", "s", None)),
                ("deep", file("c.png", "", None)),
                ("deep", file("d.png", "", Some("temp"))),
                ("result", text("3d/x.glb", true)),
                ("result", text("no", false)),
                ("text", text("e.txt", false)),
            ]
        );
        assert!(says_websocket(
            &json!({"images": [{"source": "websocket"}]})
        ));
        assert!(says_unfinished(&json!({"unfinished_batch": [true]})));
        assert!(!says_unfinished(&output) && !says_websocket(&output));
        let mut nested = json!([{"filename": "x"}]);
        for _ in 0..1000 {
            nested = json!([nested]);
        }
        assert_eq!(reported(&json!({"a": nested})), []);
    }
}
