//! What an input takes, by ComfyUI's own description of its class (`/object_info`).

use serde_json::Value;

/// The flags that mark an input as a file in the input directory (comfyui.md 7.1).
const UPLOAD_FLAGS: &[&str] = &[
    "image_upload",
    "video_upload",
    "audio_upload",
    "file_upload",
    "mask_upload",
    "animated_image_upload",
];

/// What an input takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// A file in the input directory.
    Upload,
    /// One of a list.
    Choice,
    /// Any text.
    Text,
    /// A number, a switch, a link, a widget of its own.
    Other,
}

impl InputKind {
    /// Reads a specification.
    pub fn of(spec: &Value) -> Self {
        let flagged = |flag: &&str| spec.pointer(&format!("/1/{flag}")) == Some(&Value::Bool(true));
        if UPLOAD_FLAGS.iter().any(flagged) {
            return Self::Upload;
        }
        match spec.get(0) {
            Some(Value::Array(_)) => Self::Choice,
            Some(Value::String(kind)) if kind == "COMBO" => Self::Choice,
            Some(Value::String(kind)) if kind == "STRING" => Self::Text,
            _ => Self::Other,
        }
    }
}

/// The options of a combo in either shape: `[[options], {...}]` or `["COMBO", {"options": [...]}]`.
/// `None` where the list is not in the description, as of one that the editor asks for by a route
/// of its own.
pub fn options(spec: &Value) -> Option<Vec<String>> {
    let list = spec
        .get(0)
        .and_then(Value::as_array)
        .or_else(|| spec.pointer("/1/options").and_then(Value::as_array))?;
    if spec
        .pointer("/1/remote")
        .is_some_and(|remote| !remote.is_null())
    {
        return None;
    }
    Some(
        list.iter()
            .filter_map(|option| option.as_str().map(str::to_owned))
            .collect(),
    )
}
