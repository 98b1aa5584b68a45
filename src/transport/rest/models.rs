//! `GET /models`, `GET /models/{folder}`, `POST /models`, `POST /download`, `GET /downloads`,
//! `DELETE /downloads/{id}`.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::RouterState;
use super::body::{Known, KnownObject};
use super::path::PathText;
use crate::config::public_url;
use crate::error::{Code, Failure};
use crate::job::request::read;
use crate::library::{Library, ModelDownload, Wanted};
use crate::limits::text::quoted;
use crate::storage::downloads::{DownloadEntry, DownloadStatus};
use crate::storage::{Auth, ErrorKind};

/// How long a cancelled download is waited for.
const ENDING: Duration = Duration::from_secs(5);

/// Every model that ComfyUI lists.
pub async fn list(State(state): State<RouterState>) -> Result<Response, Failure> {
    Ok(Json(state.comfy.list_models().await?).into_response())
}

/// The files of one folder.
pub async fn list_folder(
    State(state): State<RouterState>,
    PathText(folder): PathText,
) -> Result<Response, Failure> {
    Ok(Json(library(&state).list(&folder).await?).into_response())
}

fn library(state: &RouterState) -> Library {
    Library::new(
        state.comfy.clone(),
        state.storage.clone(),
        state.health.clone(),
    )
}

/// The bodies of both ways to download a model.
#[derive(Debug)]
pub struct DownloadFields;

impl Known for DownloadFields {
    const FIELDS: &'static [&'static str] =
        &["url", "type", "model_type", "filename", "wait", "auth"];
}

/// Downloads a model and waits for it.
pub async fn add(
    State(state): State<RouterState>,
    KnownObject(body, _): KnownObject<DownloadFields>,
) -> Result<Response, Failure> {
    let library = library(&state);
    let (download, _) = parse(&library, body, "type", "body.")?;
    let ongoing = library.begin(&download);
    let (placed, _) =
        library
            .bring(&download, ongoing)
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
    let library = library(&state);
    let (download, wait) = parse(&library, body, "model_type", "")?;
    let mut answer = json!({
        "url": public_url(&download.url),
        "model_type": download.folder,
        "filename": download.filename
    });
    if !wait {
        // What can be known to be wrong with the URL is said now, not in the log later.
        library.check_url(&download).await?;
        answer["status"] = "started".into();
        answer["id"] = (*library.start(download)).into();
        return Ok((StatusCode::ACCEPTED, Json(answer)).into_response());
    }
    let began = Instant::now();
    let ongoing = library.begin(&download);
    answer["id"] = (**ongoing.id()).into();
    let (placed, fetched) = library
        .bring(&download, ongoing)
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

/// The downloads that run, and the last that have ended.
pub async fn downloads(State(state): State<RouterState>) -> Response {
    Json(state.storage.downloads().all()).into_response()
}

/// Ends a download.
pub async fn cancel_download(
    State(state): State<RouterState>,
    PathText(id): PathText,
) -> Result<Response, Failure> {
    let downloads = state.storage.downloads();
    let known = downloads.get(&id).ok_or_else(|| unknown_download(&id))?;
    if known.status != DownloadStatus::Running {
        return Err(ended(&known));
    }
    downloads.cancel(&id);
    let entry = downloads.wait(&id, ENDING).await;
    let entry = entry.ok_or_else(|| unknown_download(&id))?;
    match entry.status {
        DownloadStatus::Completed | DownloadStatus::Failed => Err(ended(&entry)),
        _ => Ok(Json(entry).into_response()),
    }
}

fn unknown_download(id: &str) -> Failure {
    Failure::new(
        Code::NotFound,
        format!(
            "no download with the id \"{}\" runs here, nor is it among the last 100 that ended",
            quoted(id)
        ),
    )
}

fn ended(entry: &DownloadEntry) -> Failure {
    let how = match entry.status {
        DownloadStatus::Completed => "completed",
        DownloadStatus::Cancelled => "cancelled",
        _ => "failed",
    };
    Failure::new(
        Code::Conflict,
        format!("download {} has already ended ({how})", entry.id),
    )
}

/// The download, and whether to wait for it.
fn parse(
    library: &Library,
    mut body: Map<String, Value>,
    type_field: &str,
    prefix: &str,
) -> Result<(ModelDownload, bool), Failure> {
    body.retain(|_, value| !value.is_null());
    let at = |field: &str| format!("{prefix}{field}");
    let url = text(&body, "url", prefix)?
        .ok_or_else(|| Failure::invalid(at("url"), "the field \"url\" is missing"))?;
    let folder = text(&body, type_field, prefix)?.ok_or_else(|| {
        Failure::invalid(
            at(type_field),
            format!("the field \"{type_field}\" is missing"),
        )
    })?;
    let filename = text(&body, "filename", prefix)?;
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
    let wanted = Wanted {
        url,
        folder,
        filename,
        auth,
    };
    let checked = library
        .check(wanted)
        .map_err(|failure| match failure.location.as_deref() {
            Some("folder") => failure.at(at(type_field)),
            Some(location) => {
                let location = at(location);
                failure.at(location)
            }
            None => failure,
        })?;
    Ok((checked, wait))
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
