//! The files and texts in a node's output.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Place;
use crate::config::plain_text;

/// Something a node has reported.
pub(super) enum Found {
    File {
        path: PathBuf,
        shown: String,
        temp: bool,
    },
    Text(String),
}

/// Files at any depth, under any key; and the strings of lists called `text`.
pub(super) fn find(output: &Value, place: &Place, found: &mut Vec<Found>) {
    match output {
        Value::Object(members) => {
            if let Some(filename) = members.get("filename").and_then(Value::as_str) {
                found.extend(file(members, filename, place));
                return;
            }
            for (key, value) in members {
                if key == "text" {
                    found.extend(texts(value));
                }
                find(value, place, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::String(name) => {
                        // Some nodes report the bare name of what they have saved (F09).
                        if let Some(path) = resolve(&place.output_dir, "", name)
                            && path.is_file()
                        {
                            found.push(Found::File {
                                shown: format!(":{}", path.display()),
                                path,
                                temp: false,
                            });
                        }
                    }
                    item => find(item, place, found),
                }
            }
        }
        _ => {}
    }
}

/// A file as nodes report it: its name, its folder, its kind.
fn file(members: &Map<String, Value>, filename: &str, place: &Place) -> Option<Found> {
    let text = |name: &str| {
        members
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (root, temp) = match text("type") {
        "" | "output" => (&place.output_dir, false),
        "temp" => (&place.temp_dir, true),
        _ => return None,
    };
    let there = resolve(root, text("subfolder"), filename);
    let elsewhere = || {
        let can_be_had = temp && place.asked.is_some();
        let path = below(root, text("subfolder"), filename);
        path.filter(|path| can_be_had && !path.exists())
    };
    let path = there.or_else(elsewhere)?;
    Some(Found::File {
        shown: format!("{}:{}", text("type"), path.display()),
        path,
        temp,
    })
}

fn texts(value: &Value) -> Vec<Found> {
    let one = |text: &str| Found::Text(plain_text(text).into_owned());
    match value {
        Value::String(text) => vec![one(text)],
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).map(one).collect(),
        _ => Vec::new(),
    }
}

/// The path, if it lies below the root by its text and after links.
fn resolve(root: &Path, subfolder: &str, filename: &str) -> Option<PathBuf> {
    let path = below(root, subfolder, filename)?;
    let about = path.symlink_metadata().ok()?;
    if path.parent() == Some(root) && !about.is_symlink() {
        return Some(path);
    }
    match (path.canonicalize(), root.canonicalize()) {
        (Ok(real), Ok(root)) if real.starts_with(&root) => Some(path),
        _ => None,
    }
}

/// The path, if it lies below the root by its text.
fn below(root: &Path, subfolder: &str, filename: &str) -> Option<PathBuf> {
    let clean = |text: &str| text.replace('\\', "/");
    let path = root.join(clean(subfolder)).join(clean(filename));
    let mut parts = path.components();
    let leads_up = parts.any(|part| part == std::path::Component::ParentDir);
    (!leads_up && path.starts_with(root)).then_some(path)
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
