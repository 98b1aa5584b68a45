//! `GET /models`, `POST /models`, `POST /download`.

use std::path::PathBuf;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::RouterState;
use super::body::{Known, KnownObject};
use crate::comfy::client::CallError;
use crate::config::public_url;
use crate::error::{Code, Failure};
use crate::job::request::{check_auth, read, url_text};
use crate::storage::{
    Auth, Credentials, ErrorKind, Fetch, Fetched, MODEL_EXTENSIONS, PlacedModel, Replace, Storage,
    StorageError, check_file_name, model_extension, model_name,
};

/// Every model that ComfyUI lists.
pub async fn list(State(state): State<RouterState>) -> Result<Response, Failure> {
    Ok(Json(state.comfy.list_models().await?).into_response())
}

/// The bodies of both ways to download a model.
#[derive(Debug)]
pub struct DownloadFields;

impl Known for DownloadFields {
    const FIELDS: &'static [&'static str] =
        &["url", "type", "model_type", "filename", "wait", "auth"];
}

/// A checked download request.
struct Download {
    url: String,
    /// As the client calls it.
    folder: String,
    /// As ComfyUI calls it.
    known_as: String,
    /// Where ComfyUI looks for it.
    dirs: Vec<PathBuf>,
    filename: String,
    auth: Option<Auth>,
    wait: bool,
}

/// Downloads a model and waits for it.
pub async fn add(
    State(state): State<RouterState>,
    KnownObject(body, _): KnownObject<DownloadFields>,
) -> Result<Response, Failure> {
    let download = parse(&state, body, "type", "body.")?;
    let (placed, _) = fetch(&state, &download)
        .await
        .map_err(|error| match error.kind {
            ErrorKind::Invalid => Failure::invalid("body.url", error.message),
            ErrorKind::Local | ErrorKind::Defect => {
                error.into_failure(Code::DownloadFailed).at("body.url")
            }
            // Existing clients know a failed download of this endpoint as a 500.
            _ => Failure::new(Code::DownloadFailed, error.message)
                .with_status(StatusCode::INTERNAL_SERVER_ERROR)
                .at("body.url"),
        })?;
    Ok(Json(json!({"status": "ok", "path": placed.path()})).into_response())
}

/// Downloads a model, in the background unless `wait` is true.
pub async fn download(
    State(state): State<RouterState>,
    KnownObject(body, _): KnownObject<DownloadFields>,
) -> Result<Response, Failure> {
    let download = parse(&state, body, "model_type", "")?;
    let mut answer = json!({"url": public_url(&download.url), "model_type": download.folder, "filename": download.filename});
    if !download.wait {
        // What can be known to be wrong with the URL is said now, not in the log later.
        state
            .storage
            .check_url(&download.url)
            .await
            .map_err(|error| Failure::invalid("url", error.message))?;
        let state = state.clone();
        tokio::spawn(async move {
            let url = public_url(&download.url);
            match fetch(&state, &download).await {
                Ok((placed, fetched)) => {
                    info!(url, path = %placed.path().display(), size = fetched.size, "model downloaded");
                }
                Err(error) => warn!(url, error = %error, "model download failed"),
            }
        });
        answer["status"] = "started".into();
        return Ok((StatusCode::ACCEPTED, Json(answer)).into_response());
    }
    let began = Instant::now();
    let (placed, fetched) = fetch(&state, &download)
        .await
        .map_err(|error| match error.kind {
            ErrorKind::Invalid => Failure::invalid("url", error.message),
            _ => error.into_failure(Code::DownloadFailed).at("url"),
        })?;
    answer["status"] = "completed".into();
    answer["filename"] = placed.name.into();
    answer["size"] = fetched.size.into();
    answer["duration"] = began.elapsed().as_secs_f64().into();
    Ok(Json(answer).into_response())
}

fn parse(
    state: &RouterState,
    mut body: Map<String, Value>,
    type_field: &str,
    prefix: &str,
) -> Result<Download, Failure> {
    body.retain(|_, value| !value.is_null());
    let at = |field: &str| format!("{prefix}{field}");
    let url = text(&body, "url", prefix)?
        .ok_or_else(|| Failure::invalid(at("url"), "the field \"url\" is missing"))?;
    let url = url_text(&url, at("url"))?.to_owned();
    let parsed = url::Url::parse(&url).ok().filter(|_| Storage::is_url(&url));
    let Some(parsed) = parsed else {
        return Err(Failure::invalid(
            at("url"),
            "\"url\" must be a URL that begins with http://, https:// or s3://",
        ));
    };
    let folder = text(&body, type_field, prefix)?.ok_or_else(|| {
        Failure::invalid(
            at(type_field),
            format!("the field \"{type_field}\" is missing"),
        )
    })?;
    let (known_as, dirs) =
        model_dirs(state, &folder).map_err(|failure| failure.at(at(type_field)))?;
    let filename = match text(&body, "filename", prefix)? {
        Some(name) => check_file_name(&name)
            .map_err(|error| Failure::invalid(at("filename"), error.message))?,
        None => name_of(&url).ok_or_else(|| {
            Failure::invalid(
                at("filename"),
                "the URL does not end with a usable file name: give one as \"filename\"",
            )
        })?,
    };
    let wait = match body.get("wait") {
        None => false,
        Some(Value::Bool(wait)) => *wait,
        Some(_) => {
            return Err(Failure::invalid(
                at("wait"),
                "\"wait\" must be true or false",
            ));
        }
    };
    let auth = body
        .remove("auth")
        .map(|auth| read::<Auth>(auth, &at("auth")))
        .transpose()?;
    if let Some(auth) = &auth {
        check_auth(auth, &at("auth"))?;
        auth.check_added_to(&parsed)
            .map_err(|reason| Failure::invalid(at("auth.query_param"), reason))?;
    }
    Ok(Download {
        url,
        folder,
        known_as,
        dirs,
        filename,
        auth,
        wait,
    })
}

fn text(body: &Map<String, Value>, field: &str, prefix: &str) -> Result<Option<String>, Failure> {
    match body.get(field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Failure::invalid(
            format!("{prefix}{field}"),
            format!("\"{field}\" must be a string"),
        )),
    }
}

fn model_dirs(state: &RouterState, folder: &str) -> Result<(String, Vec<PathBuf>), Failure> {
    let catalogue = state.comfy.catalogue();
    if catalogue.folders.is_empty() {
        state.health.accepts(true)?;
    }
    // The names of two folders before ComfyUI renamed them, which existing clients go on using.
    let folder = match folder {
        "clip" if !catalogue.folders.contains_key("clip") => "text_encoders",
        "unet" if !catalogue.folders.contains_key("unet") => "diffusion_models",
        folder => folder,
    };
    let known: Vec<&str> = catalogue
        .folders
        .keys()
        .map(String::as_str)
        .filter(|name| *name != "custom_nodes")
        .collect();
    match catalogue.model_dirs(folder) {
        dirs if folder != "custom_nodes" && !dirs.is_empty() => Ok((folder.to_owned(), dirs)),
        _ => {
            let shown: String = folder.chars().take(60).collect();
            Err(Failure::new(
                Code::InvalidRequest,
                format!(
                    "Unknown model type: {shown}. Available types: {}",
                    known.join(", ")
                ),
            ))
        }
    }
}

/// The last segment of a URL's path, if it can be a file's name.
fn name_of(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let last = url.path().rsplit('/').next()?;
    let decoded = percent_encoding::percent_decode_str(last)
        .decode_utf8()
        .ok()?;
    check_file_name(&decoded).ok()
}

/// Brings a model under a name that ComfyUI lists in its folder (F02).
async fn fetch(
    state: &RouterState,
    download: &Download,
) -> Result<(PlacedModel, Fetched), StorageError> {
    let fetch = Fetch {
        url: download.url.clone(),
        auth: download.auth.clone(),
        credentials: Credentials::default(),
        cancel: CancellationToken::new(),
        progress: None,
    };
    let fetched = state.storage.fetch_named(fetch, &download.filename).await?;
    let full = model_name(&fetched, Some(&download.filename)).await;
    // Some folders list files without an extension, or any.
    let plain = (full != download.filename).then(|| download.filename.clone());
    for name in [full].into_iter().chain(plain) {
        let placed = state
            .storage
            .place_model(&fetched, &download.dirs, &name, Replace::Clients)
            .await?;
        if let Some(warning) = &placed.kept {
            warn!(warning, "model not linked");
        }
        if is_listed(state, download, &placed).await || placed.kept.is_some() {
            state.comfy.models_changed();
            return Ok((placed, fetched));
        }
        if placed.new {
            state.storage.withdraw_model(&fetched, &placed).await;
        }
    }
    Err(StorageError::new(
        ErrorKind::Failed,
        format!(
            "ComfyUI does not list \"{}\" in {}: give a \"filename\" that ends in one of .{}",
            download.filename.chars().take(200).collect::<String>(),
            download.known_as,
            MODEL_EXTENSIONS.join(", .")
        ),
    ))
}

/// Whether ComfyUI lists what was placed: in the folder that was named, or in another one with the same directory, as
/// plug-ins have them for files of their own kind. A ComfyUI that does not answer is taken to list every model.
async fn is_listed(state: &RouterState, download: &Download, placed: &PlacedModel) -> bool {
    let (dir, name) = (&placed.dir, &placed.name);
    match state.comfy.lists_model(&download.known_as, dir, name).await {
        Ok(true) => return true,
        Ok(false) => {}
        Err(CallError::Unexpected { .. } | CallError::Unreachable { .. }) => {
            return model_extension(name).is_some();
        }
    }
    let catalogue = state.comfy.catalogue();
    let others = catalogue.folders.iter().filter(|(folder, dirs)| {
        **folder != download.known_as && *folder != "custom_nodes" && dirs.contains(dir)
    });
    for (folder, _) in others {
        if matches!(state.comfy.lists_model(folder, dir, name).await, Ok(true)) {
            return true;
        }
    }
    false
}
