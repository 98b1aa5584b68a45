//! Records of assets: from a hash, from a path, shown, deleted.

use std::path::{Path as FilePath, PathBuf};

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::address::Base;
use super::error::{ApiError, key_reuse};
use super::{V2State, jobs, view};
use crate::job::asset_input::plain_hash;
use crate::net::http_fields::fit_media_type;
use crate::store::{NewAsset, StoreError, blobs};

const SHORTEST: u64 = 60;
const LONGEST: u64 = 604_800;
const LONGEST_PATH: usize = 1024;

pub fn bad(message: impl Into<String>) -> ApiError {
    ApiError::unprocessable("invalid_request", message)
}

/// Seconds until an asset goes, as clients write it.
pub fn expires_in(text: &str) -> Result<u64, ApiError> {
    text.trim()
        .parse()
        .ok()
        .filter(|seconds| (SHORTEST..=LONGEST).contains(seconds))
        .ok_or_else(|| {
            bad(format!(
                "\"expires_in\" must be {SHORTEST} to {LONGEST} seconds"
            ))
        })
}

/// A media type that is fit for a header.
pub fn content_type(text: &str) -> Result<String, ApiError> {
    let text = text.trim();
    if fit_media_type(text) {
        Ok(text.to_owned())
    } else {
        Err(bad(
            "\"content_type\" is not a media type such as image/png",
        ))
    }
}

/// A name that is a relative path of plain parts.
pub fn file_path(text: &str) -> Result<String, ApiError> {
    let refused = |why: &str| {
        Err(bad(format!(
            "\"file_path\" {why}: use a name such as photo.png or input/sub/photo.png"
        )))
    };
    if text.is_empty() || text.len() > LONGEST_PATH {
        return refused("is empty or too long");
    }
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return refused("has a backslash or control characters");
    }
    if text.starts_with('/')
        || text
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return refused("is not a relative path");
    }
    if text.split('/').any(|part| part.len() > 200) {
        return refused("has a part of more than 200 bytes");
    }
    Ok(text.to_owned())
}

/// Where an asset's name leads to.
pub enum Root {
    /// Into the input directory of the job that uses it.
    Input,
    /// Into a model folder, under this name.
    Model { folder: String, name: String },
}

/// What the first part of a name says.
pub fn root(path: &str, state: &V2State) -> Result<Root, ApiError> {
    let Some((first, rest)) = path.split_once('/') else {
        return Ok(Root::Input);
    };
    if first == "input" {
        return Ok(Root::Input);
    }
    let (folder, name) = if first == "models" {
        match rest.split_once('/') {
            Some(parts) => parts,
            None => {
                return Err(bad(
                    "\"file_path\" names no model folder: write models/<folder>/<name>",
                ));
            }
        }
    } else {
        (first, rest)
    };
    let catalogue = state.comfy.catalogue();
    if state.config.is_gateway && (first == "models" || catalogue.folders.contains_key(folder)) {
        return Err(ApiError::elsewhere());
    }
    let known =
        catalogue.folders.contains_key(folder) && !matches!(folder, "configs" | "custom_nodes");
    if !known {
        let shown: String = folder.chars().take(60).collect();
        return Err(bad(format!(
            "\"file_path\": \"{shown}\" is neither input nor a model folder of ComfyUI"
        )));
    }
    Ok(Root::Model {
        folder: folder.to_owned(),
        name: name.to_owned(),
    })
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, ApiError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(ApiError::invalid(format!("\"{name}\" must be a string"))),
    }
}

/// A record over bytes that are here.
pub async fn from_hash(
    State(state): State<V2State>,
    base: Base,
    request: Request,
) -> Result<Response, ApiError> {
    let key = jobs::idempotency_key(request.headers())?;
    let body = jobs::json_body(&state, request).await?;
    let given = text(&body, "hash")?.ok_or_else(|| ApiError::invalid("\"hash\" is missing"))?;
    let gone = || {
        let shown: String = given.chars().take(100).collect();
        ApiError::new(
            StatusCode::NOT_FOUND,
            "blob_not_found",
            format!("no bytes with the hash \"{shown}\" are here: upload them"),
        )
    };
    let hash = plain_hash(given).ok_or_else(gone)?;
    let store = state.jobs.store();
    let known = store.asset_by_hash(&hash).await?;
    let known_type = known.as_ref().map(|asset| asset.content_type.clone());
    let file_path = match text(&body, "file_path")? {
        Some(path) => file_path(path)?,
        None => known.map_or_else(|| hash.clone(), |asset| asset.file_path),
    };
    let content_type = match text(&body, "content_type")? {
        Some(given) => content_type(given)?,
        None => known_type.unwrap_or_else(|| "application/octet-stream".into()),
    };
    let expires_in = match body.get("expires_in") {
        None | Some(Value::Null) => None,
        Some(value) => Some(expires_in(&value.to_string())?),
    };
    let tags = match body.get("tags") {
        None | Some(Value::Null) => None,
        Some(Value::Array(tags)) if tags.iter().all(Value::is_string) => {
            Some(Value::from(tags.clone()).to_string())
        }
        Some(_) => return Err(ApiError::invalid("\"tags\" must be a list of strings")),
    };
    let new = NewAsset {
        file_path,
        content_type,
        tags,
        expires_in,
        key,
    };
    let stored = store
        .add_from_hash(hash, new)
        .await
        .map_err(|error| match error {
            StoreError::Gone => gone(),
            StoreError::KeyReuse(made) => key_reuse("asset_id", &made),
            other => other.into(),
        })?;
    let status = if stored.new_record {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((
        status,
        Json(view::asset(&state, &base, &stored.asset, Some(false))),
    )
        .into_response())
}

/// Whether bytes are here.
pub async fn head_by_hash(State(state): State<V2State>, Path(hash): Path<String>) -> StatusCode {
    let Some(hash) = plain_hash(&hash.to_ascii_lowercase()) else {
        return StatusCode::NOT_FOUND;
    };
    match state.jobs.store().has_blob(&hash).await {
        Ok(true) => StatusCode::OK,
        Ok(false) => StatusCode::NOT_FOUND,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

pub async fn show(
    State(state): State<V2State>,
    base: Base,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let asset = state
        .jobs
        .store()
        .asset(&id)
        .await?
        .ok_or_else(|| ApiError::not_found("asset", &id))?;
    Ok(Json(view::asset(&state, &base, &asset, None)).into_response())
}

pub async fn delete(
    State(state): State<V2State>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    match state.jobs.store().delete_asset(&id).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(StoreError::NotFound) => Err(ApiError::not_found("asset", &id)),
        Err(error) => Err(error.into()),
    }
}

/// A file that lies on this machine, without a copy.
pub async fn from_path(
    State(state): State<V2State>,
    base: Base,
    request: Request,
) -> Result<Response, ApiError> {
    let body = jobs::json_body(&state, request).await?;
    let given = text(&body, "path")?
        .ok_or_else(|| bad("\"path\" is missing"))?
        .to_owned();
    let config = state.config.clone();
    let found = tokio::task::spawn_blocking(move || {
        let path = allowed(&given, &config)?;
        let hash = blobs::hash_file(&path)
            .map_err(|error| bad(format!("the file cannot be read: {error}")))?;
        let size = path.metadata().map(|data| data.len()).unwrap_or(0);
        let head = crate::media::head(&path).unwrap_or_default();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let guessed = crate::media::content_type(&name, &head);
        Ok::<_, ApiError>((path, hash, size, name, guessed))
    });
    let (path, hash, size, name, guessed) = found.await.map_err(|_| ApiError::upstream())??;
    let file_path = match text(&body, "file_path")? {
        Some(path) => file_path(path)?,
        None => name,
    };
    let content_type = match text(&body, "content_type")? {
        Some(given) => content_type(given)?,
        None => guessed,
    };
    let new = NewAsset {
        file_path,
        content_type,
        tags: None,
        expires_in: None,
        key: None,
    };
    let asset = state
        .jobs
        .store()
        .add_external(path, hash, size, new)
        .await?;
    Ok((
        StatusCode::CREATED,
        Json(view::asset(&state, &base, &asset, Some(true))),
    )
        .into_response())
}

fn allowed(given: &str, config: &crate::config::Config) -> Result<PathBuf, ApiError> {
    let shown: String = given.chars().take(200).collect();
    let path = FilePath::new(given);
    let real = path
        .is_absolute()
        .then(|| path.canonicalize().ok())
        .flatten()
        .filter(|path| path.is_file())
        .ok_or_else(|| bad(format!("\"{shown}\" is not the absolute path of a file")))?;
    let comfy = &config.comfy;
    let mut roots = vec![
        comfy.home.clone(),
        comfy.input_dir.clone(),
        comfy.output_dir.clone(),
        comfy.model_dir.clone(),
    ];
    roots.extend(config.prompt.allowed_input_paths.iter().cloned());
    let inside = roots
        .iter()
        .any(|root| root.canonicalize().is_ok_and(|root| real.starts_with(root)));
    if inside {
        Ok(real)
    } else {
        Err(bad(format!(
            "\"{shown}\" lies in none of the allowed directories: see ALLOWED_INPUT_PATHS"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_and_plain() {
        for good in [
            "x.png",
            "input/sub/x.png",
            "a b/ü.png",
            "models/loras/x.safetensors",
        ] {
            assert!(file_path(good).is_ok(), "{good}");
        }
        for bad in [
            "", "/x", "../x", "a/../b", "a//b", "a\\b", "a\nb", "./x", "x/",
        ] {
            assert!(file_path(bad).is_err(), "{bad}");
        }
        assert!(
            expires_in("59").is_err() && expires_in("604801").is_err() && expires_in("60").is_ok()
        );
    }
}
