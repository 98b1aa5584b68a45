//! The files and texts in a node's output.

use std::path::PathBuf;

use serde_json::Value;

use super::Place;
use crate::config::plain_text;
use crate::job::outputs::{Name, Place as Lies, Roots, reported};

/// Something a node has reported.
pub(super) enum Found {
    File { path: PathBuf, temp: bool },
    Text(String),
}

/// Files at any depth, under any key; then the strings of lists called `text`.
pub(super) fn find(output: &Value, place: &Place, found: &mut Vec<Found>) {
    let roots = Roots {
        output: &place.output_dir,
        temp: &place.temp_dir,
    };
    for reported in reported(output) {
        found.extend(file(&reported.name, &roots, place.asked.is_some()));
    }
    texts(output, found);
}

/// `elsewhere`: previews that are not here can be fetched.
fn file(name: &Name<'_>, roots: &Roots<'_>, elsewhere: bool) -> Option<Found> {
    let (path, temp) = match roots.find(name) {
        Lies::Found { path, temp, .. } => (path, temp),
        Lies::Missing { path, temp: true } if elsewhere => (path, true),
        Lies::Missing { .. } | Lies::Outside | Lies::Nothing => return None,
    };
    Some(Found::File { path, temp })
}

fn texts(output: &Value, found: &mut Vec<Found>) {
    match output {
        Value::Object(members) if !members.contains_key("filename") => {
            for (key, value) in members {
                if key == "text" {
                    let list = value.as_array().map(Vec::as_slice);
                    let strings = list.unwrap_or(std::slice::from_ref(value)).iter();
                    let strings = strings.filter_map(Value::as_str);
                    found.extend(strings.map(|text| Found::Text(plain_text(text).into_owned())));
                }
                texts(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        _ => {}
    }
}

/// The normalised kind of an output.
pub(super) fn kind(name: &str, content_type: &str) -> &'static str {
    if name.ends_with(".latent") {
        return "latent";
    }
    match content_type.split('/').next() {
        Some("image") => "image",
        Some("video") => "video",
        Some("audio") => "audio",
        Some("text") => "text",
        _ => "file",
    }
}
