//! VideoHelperSuite: values by name, and the names and lists of its older versions.

use serde_json::{Map, Value, json};

/// The oldest files have lists.
pub fn list(class: &str, list: &[Value]) -> Option<Map<String, Value>> {
    let names: &[&str] = match class {
        "VHS_VideoCombine" => &[
            "frame_rate",
            "loop_count",
            "filename_prefix",
            "format",
            "pingpong",
            "save_image",
        ],
        // The newer ones have numbers where the size was.
        _ if class.starts_with("VHS_LoadVideo") && list.get(2).is_some_and(Value::is_string) => &[
            "video",
            "force_rate",
            "force_size",
            "frame_load_cap",
            "skip_first_frames",
            "select_every_nth",
        ],
        _ => return None,
    };
    let named = names
        .iter()
        .zip(list)
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    Some(values(class, &named.collect()))
}

/// Names of older versions become those of today.
pub fn values(_class: &str, saved: &Map<String, Value>) -> Map<String, Value> {
    let mut values = saved.clone();
    if let Some(save) = values.shift_remove("save_image") {
        values.entry("save_output").or_insert(save);
    }
    if let Some(Value::String(size)) = values.shift_remove("force_size") {
        let (width, height) = sizes(&size);
        for (name, value) in [("custom_width", width), ("custom_height", height)] {
            if let Some(value) = value {
                values.insert(name.to_owned(), json!(value));
            }
        }
    }
    values
}

/// `512x?`, `Disabled`, `Custom Width`...: what is None stays as it is saved.
fn sizes(size: &str) -> (Option<u64>, Option<u64>) {
    match size {
        "Disabled" => return (Some(0), Some(0)),
        "Custom Width" => return (None, Some(0)),
        "Custom Height" => return (Some(0), None),
        _ => {}
    }
    let Some((width, height)) = size.split_once(['x', 'X']) else {
        return (None, None);
    };
    let number = |text: &str| match text.trim() {
        "?" => Some(0),
        text => text.parse().ok(),
    };
    match (number(width), number(height)) {
        (Some(width), Some(height)) => (Some(width), Some(height)),
        _ => (None, None),
    }
}
