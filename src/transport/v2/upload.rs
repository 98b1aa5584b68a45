//! `POST /assets`: a form whose file goes to the disk as it comes, hashed on the way.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde_json::Value;

use super::address::Base;
use super::assets::{self, Root, bad};
use super::error::{ApiError, key_reuse};
use super::{V2State, jobs, view};
use crate::job::asset_input::plain_hash;
use crate::store::arrival::{Arrival, Arrived};
use crate::store::blobs::Incoming;
use crate::store::{NewAsset, StoreError};

/// What a field that is not the file may hold.
const LONGEST_FIELD: usize = 64 * 1024;
const MOST_TAGS: usize = 100;
/// How long what is too large is read on, so that the answer reaches a client that is still
/// sending.
const POURING: Duration = Duration::from_secs(5);
/// Around the file itself.
const FORM: u64 = 64 * 1024;

/// The fields of the form.
#[derive(Default)]
struct Form {
    file: Option<Arrived>,
    file_type: Option<String>,
    content_type: Option<String>,
    file_path: Option<String>,
    expected_hash: Option<String>,
    tags: Vec<String>,
    expires_in: Option<u64>,
}

pub async fn create(
    State(state): State<V2State>,
    base: Base,
    request: Request,
) -> Result<Response, ApiError> {
    let key = jobs::idempotency_key(request.headers())?;
    check_type(request.headers())?;
    let limit = state.config.state.max_upload_bytes;
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit.saturating_add(FORM)) {
        pour_away(request.into_body()).await;
        return Err(too_large(limit));
    }
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| unreadable(&error.body_text()))?;
    let form = match read(&state, &mut form, limit).await {
        Ok(form) => form,
        Err(error) => {
            // A client that is still sending would not see the answer.
            let rest = async {
                while let Ok(Some(mut field)) = form.next_field().await {
                    while let Ok(Some(_)) = field.chunk().await {}
                }
            };
            let _ = tokio::time::timeout(POURING, rest).await;
            return Err(error);
        }
    };
    store(&state, &base, form, key).await
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_ascii_lowercase();
    if content_type.starts_with("multipart/form-data") {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "the Content-Type must be multipart/form-data",
    ))
}

async fn pour_away(body: Body) {
    let mut stream = body.into_data_stream();
    let pouring = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = tokio::time::timeout(POURING, pouring).await;
}

fn too_large(limit: u64) -> ApiError {
    let shown = limit as f64 / (1024.0 * 1024.0);
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "payload_too_large",
        format!("the file is larger than {shown} MiB, which is V2_MAX_UPLOAD_MB"),
    )
}

fn unreadable(reason: &str) -> ApiError {
    let reason: String = reason.chars().take(200).collect();
    bad(format!("the form cannot be read: {reason}"))
}

fn broken(error: &MultipartError) -> ApiError {
    unreadable(&error.body_text())
}

async fn read(state: &V2State, multipart: &mut Multipart, limit: u64) -> Result<Form, ApiError> {
    let mut form = Form::default();
    while let Some(field) = multipart
        .next_field()
        .await
        .map_err(|error| broken(&error))?
    {
        let name = field.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "file" if form.file.is_none() => {
                form.file_type = field.content_type().map(str::to_owned);
                form.file = Some(receive(state, field, limit).await?);
            }
            "content_type" => form.content_type = Some(assets::content_type(&short(field).await?)?),
            "file_path" => form.file_path = Some(assets::file_path(&short(field).await?)?),
            "expected_hash" => {
                let text = short(field).await?;
                form.expected_hash = Some(plain_hash(text.trim()).ok_or_else(|| {
                    bad("\"expected_hash\" must be blake3: and 64 hexadecimal digits")
                })?);
            }
            "tags" if form.tags.len() < MOST_TAGS => form.tags.push(short(field).await?),
            "expires_in" => form.expires_in = Some(assets::expires_in(&short(field).await?)?),
            _ => drop(short(field).await?),
        }
    }
    Ok(form)
}

async fn short(mut field: Field<'_>) -> Result<String, ApiError> {
    let mut text = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error))? {
        if text.len() + chunk.len() > LONGEST_FIELD {
            return Err(bad(format!(
                "a field of the form is longer than {LONGEST_FIELD} bytes"
            )));
        }
        text.extend_from_slice(&chunk);
    }
    String::from_utf8(text).map_err(|_| bad("a field of the form is not UTF-8"))
}

async fn receive(state: &V2State, mut field: Field<'_>, limit: u64) -> Result<Arrived, ApiError> {
    let mut arrival = Arrival::begin(state.jobs.store()).await?;
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error))? {
        if arrival.size() + chunk.len() as u64 > limit {
            return Err(too_large(limit));
        }
        arrival.take(&chunk).await?;
    }
    Ok(arrival.end().await?)
}

async fn store(
    state: &V2State,
    base: &Base,
    form: Form,
    key: Option<String>,
) -> Result<Response, ApiError> {
    let Arrived { file, hash, size } = form.file.ok_or_else(|| bad("the form has no \"file\""))?;
    let file_path = form
        .file_path
        .ok_or_else(|| bad("the form has no \"file_path\""))?;
    if form.expected_hash.is_some_and(|expected| expected != hash) {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "hash_mismatch",
            format!(
                "the bytes have the hash blake3:{hash}, which is not \"expected_hash\": nothing \
                 was stored"
            ),
        ));
    }
    let content_type = form
        .content_type
        .or_else(|| {
            form.file_type
                .and_then(|given| assets::content_type(&given).ok())
        })
        .unwrap_or_else(|| "application/octet-stream".into());
    let tags = (!form.tags.is_empty()).then(|| Value::from(form.tags).to_string());
    let new = NewAsset {
        file_path,
        content_type,
        tags,
        expires_in: form.expires_in,
        key,
    };
    let stored = match assets::root(&new.file_path, state)? {
        Root::Input => state.jobs.store().add_upload(file, hash, size, new).await,
        Root::Model { folder, name } => {
            return model(state, base, (file, hash, size), new, &folder, &name).await;
        }
    };
    let stored = stored.map_err(|error| match error {
        StoreError::KeyReuse(made) => key_reuse("asset_id", &made),
        other => other.into(),
    })?;
    let status = if stored.new_bytes {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((
        status,
        Json(view::asset(
            state,
            base,
            &stored.asset,
            Some(stored.new_bytes),
        )),
    )
        .into_response())
}

/// A model goes into its folder and is the folder's from then on.
async fn model(
    state: &V2State,
    base: &Base,
    (file, hash, size): (Incoming, String, u64),
    new: NewAsset,
    folder: &str,
    name: &str,
) -> Result<Response, ApiError> {
    if !name.ends_with(".safetensors") {
        return Err(bad(
            "a model must be a .safetensors file: other formats can hold programs",
        ));
    }
    let catalogue = state.comfy.catalogue();
    let dir = catalogue
        .model_dir(folder)
        .ok_or_else(|| bad("ComfyUI has no such model folder"))?;
    let to = dir.join(name);
    let expected = hash.clone();
    let placed =
        tokio::task::spawn_blocking(move || place_model(file, &to, &expected).map(|new| (to, new)));
    let (path, new_bytes) = placed.await.map_err(|_| ApiError::upstream())??;
    // Usable as soon as this is answered (attack.md, A54).
    let _ = state.comfy.lists_model(folder, &dir, name).await;
    state.comfy.models_changed();
    let new = NewAsset {
        file_path: name.to_owned(),
        ..new
    };
    let asset = state
        .jobs
        .store()
        .add_model(path, hash, size, new)
        .await
        .map_err(|error| match error {
            StoreError::KeyReuse(made) => key_reuse("asset_id", &made),
            other => other.into(),
        })?;
    let status = if new_bytes {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((
        status,
        Json(view::asset(state, base, &asset, Some(new_bytes))),
    )
        .into_response())
}

/// `true` when it was not there before.
fn place_model(file: Incoming, to: &std::path::Path, hash: &str) -> Result<bool, ApiError> {
    if !is_safetensors(file.path()) {
        return Err(bad(
            "the file is not a safetensors file: its header cannot be read",
        ));
    }
    let failed = |error: std::io::Error| ApiError::from(StoreError::from(error));
    if to.exists() {
        if crate::store::blobs::hash_file(to).map_err(failed)? == hash {
            return Ok(false);
        }
        return Err(conflict());
    }
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    // Never half-written under its final name, never over another file.
    let beside = to.with_file_name(format!(".{}.part", uuid::Uuid::new_v4().simple()));
    let moved = crate::store::blobs::link_or_copy(file.path(), &beside)
        .and_then(|()| std::fs::hard_link(&beside, to));
    let _ = std::fs::remove_file(&beside);
    match moved {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(conflict()),
        Err(error) => Err(failed(error)),
    }
}

fn conflict() -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "conflict",
        "a model of that name with other bytes is there already: choose another name",
    )
}

/// The length of a JSON object, and the object.
fn is_safetensors(path: &std::path::Path) -> bool {
    use std::io::Read;
    let Ok(mut file) = std::fs::File::open(path) else {
        return false;
    };
    let total = file.metadata().map(|data| data.len()).unwrap_or(0);
    let mut length = [0_u8; 8];
    if file.read_exact(&mut length).is_err() {
        return false;
    }
    let length = u64::from_le_bytes(length);
    if length < 2 || length > total.saturating_sub(8) || length > 100 << 20 {
        return false;
    }
    let mut header = vec![0_u8; usize::try_from(length).unwrap_or(0)];
    file.read_exact(&mut header).is_ok()
        && serde_json::from_slice::<serde_json::Map<String, Value>>(&header).is_ok()
}
