//! Node classes, model folders and their files.

use std::collections::HashMap;
use std::time::UNIX_EPOCH;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::{Shared, ok_json};

pub async fn all_classes(State(instance): Shared) -> Response {
    let classes: Map<String, Value> = instance
        .classes
        .iter()
        .map(|class| {
            (
                class.name.to_owned(),
                class.info(&instance.folders, instance.imitate),
            )
        })
        .collect();
    ok_json(&Value::Object(classes))
}

pub async fn one_class(State(instance): Shared, Path(name): Path<String>) -> Response {
    let class = instance
        .classes
        .get(&name)
        .map(|class| (name, class.info(&instance.folders, instance.imitate)));
    ok_json(&Value::Object(class.into_iter().collect()))
}

/// What the list of model folders leaves out.
const NOT_MODELS: [&str; 1] = ["configs"];

pub async fn folders(State(instance): Shared) -> Response {
    let names: Vec<Value> = instance
        .folders
        .models()
        .into_iter()
        .map(|folder| folder.name.into())
        .collect();
    ok_json(&Value::Array(names))
}

pub async fn folder(State(instance): Shared, Path(name): Path<String>) -> Response {
    match instance.folders.model_folder(&name) {
        Some(_) => ok_json(&json!(instance.folders.list(&name))),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub async fn experiment_folders(State(instance): Shared) -> Response {
    let folders = instance.folders.models().into_iter().filter(|folder| {
        !NOT_MODELS.contains(&folder.name.as_str()) && folder.name != "custom_nodes"
    });
    ok_json(
        &folders
            .map(|folder| json!({"name": folder.name, "folders": folder.directories}))
            .collect(),
    )
}

pub async fn experiment_folder(State(instance): Shared, Path(name): Path<String>) -> Response {
    let Some(folder) = instance.folders.model_folder(&name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut files: HashMap<String, Value> = HashMap::new();
    for file in instance.folders.list(&name) {
        for (index, directory) in folder.directories.iter().enumerate() {
            let Ok(metadata) = std::fs::metadata(directory.join(&file)) else {
                continue;
            };
            let seconds = |time: std::io::Result<std::time::SystemTime>| {
                time.ok()
                    .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                    .map_or(0.0, |since| since.as_secs_f64())
            };
            let about = json!({
                "name": file,
                "pathIndex": index,
                "modified": seconds(metadata.modified()),
                "created": seconds(metadata.created()),
                "size": metadata.len()
            });
            files.entry(file.clone()).or_insert(about);
        }
    }
    ok_json(&files.into_values().collect())
}

pub async fn embeddings(State(instance): Shared) -> Response {
    ok_json(
        &instance
            .folders
            .list("embeddings")
            .into_iter()
            .map(|name| {
                name.rsplit_once('.')
                    .map_or(name.clone(), |(stem, _)| stem.to_owned())
            })
            .collect(),
    )
}

pub async fn folder_paths(State(instance): Shared) -> Response {
    let folders: Map<String, Value> = instance
        .folders
        .models()
        .into_iter()
        .map(|folder| (folder.name, json!(folder.directories)))
        .collect();
    ok_json(&Value::Object(folders))
}
