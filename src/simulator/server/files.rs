//! Files: shown, listed, uploaded.

use std::collections::HashMap;
use std::io::SeekFrom;
use std::path::{Component, Path as FilePath};

use axum::body::Body;
use axum::extract::{FromRequest as _, Multipart, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::{Shared, json_response, ok_json, trouble};
use crate::paths::normal;
use crate::simulator::picture::{Picture, animated_webp, jpeg};

pub async fn view(
    State(instance): Shared,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let Some(name) = query.get("filename") else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let annotated = [
        (" [output]", "output"),
        (" [input]", "input"),
        (" [temp]", "temp"),
    ]
    .into_iter()
    .find_map(|(suffix, kind)| Some((name.strip_suffix(suffix)?, kind)));
    let (name, kind) =
        annotated.unwrap_or((name, query.get("type").map_or("output", String::as_str)));
    if name.starts_with('/') || name.contains("..") || name.is_empty() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let Some(root) = instance.folders.by_type(kind) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let directory = normal(&root.join(query.get("subfolder").map_or("", String::as_str)));
    if !directory.starts_with(normal(root)) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let base = FilePath::new(name)
        .file_name()
        .map(std::ffi::OsStr::to_os_string)
        .unwrap_or_default();
    let path = directory.join(base);
    if !path.is_file() {
        return StatusCode::NOT_FOUND.into_response();
    }
    if let Some(preview) = query.get("preview") {
        return shown_small(&path, preview);
    }
    send(&path, &headers)
        .await
        .unwrap_or_else(|_| StatusCode::NOT_FOUND.into_response())
}

fn shown_small(path: &FilePath, preview: &str) -> Response {
    let Some(picture) = std::fs::read(path)
        .ok()
        .and_then(|bytes| Picture::decoded(&bytes))
    else {
        return trouble();
    };
    let (format, quality) = preview.split_once(';').unwrap_or((preview, "90"));
    let (kind, content) = match format {
        "jpeg" => ("image/jpeg", jpeg(&picture, quality.parse().unwrap_or(90))),
        _ => ("image/webp", animated_webp(&[picture], 100)),
    };
    content.map_or_else(
        |_| trouble(),
        |content| ([(header::CONTENT_TYPE, kind)], content).into_response(),
    )
}

fn media_type(path: &FilePath) -> &'static str {
    match path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default()
    {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "wav" => "audio/x-wav",
        "flac" => "audio/flac",
        "txt" => "text/plain",
        "json" => "application/json",
        _ => "application/octet-stream",
    }
}

async fn send(path: &FilePath, headers: &HeaderMap) -> std::io::Result<Response> {
    let mut file = tokio::fs::File::open(path).await?;
    let metadata = file.metadata().await?;
    let size = metadata.len();
    let range = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| span(text, size));
    let (from, to) = range.unwrap_or((0, size));
    file.seek(SeekFrom::Start(from)).await?;
    let mut response = Response::builder()
        .status(if range.is_some() {
            StatusCode::PARTIAL_CONTENT
        } else {
            StatusCode::OK
        })
        .header(header::CONTENT_TYPE, media_type(path))
        .header(header::CONTENT_LENGTH, to - from)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(
            header::LAST_MODIFIED,
            httpdate::fmt_http_date(metadata.modified()?),
        )
        .header(
            header::CONTENT_DISPOSITION,
            format!(
                "filename=\"{}\"",
                path.file_name().unwrap_or_default().to_string_lossy()
            ),
        );
    if range.is_some() {
        response = response.header(
            header::CONTENT_RANGE,
            format!("bytes {from}-{}/{size}", to.saturating_sub(1)),
        );
    }
    response
        .body(Body::from_stream(ReaderStream::with_capacity(
            file.take(to - from),
            1 << 16,
        )))
        .map_err(std::io::Error::other)
}

/// The bytes of a `Range` header: from the first to behind the last.
fn span(text: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    match (from.parse::<u64>().ok(), to.parse::<u64>().ok()) {
        (Some(from), to) if from < size => {
            Some((from, to.map_or(size, |to| (to + 1).min(size)).max(from)))
        }
        (None, Some(last)) => Some((size.saturating_sub(last), size)),
        _ => None,
    }
}

pub async fn view_metadata(
    State(instance): Shared,
    Path(folder): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let path = query
        .get("filename")
        .filter(|name| name.ends_with(".safetensors") && !name.contains(".."))
        .and_then(|name| instance.folders.find_model(&folder, name));
    let metadata = path.and_then(|path| {
        let bytes = std::fs::read(path).ok()?;
        let length = usize::try_from(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)).ok()?;
        let header: Value = serde_json::from_slice(bytes.get(8..length.checked_add(8)?)?).ok()?;
        header.get("__metadata__").cloned()
    });
    metadata.map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        |metadata| ok_json(&metadata),
    )
}

pub async fn listing(State(instance): Shared, Path(kind): Path<String>) -> Response {
    let Some(directory) = instance.folders.by_type(&kind) else {
        return json_response(
            StatusCode::BAD_REQUEST,
            &json!({"error": "Invalid directory type"}),
        );
    };
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| {
            Some((
                entry.metadata().ok()?.modified().ok()?,
                entry.file_name().into_string().ok()?,
            ))
        })
        .collect();
    files.sort_by(|a, b| b.cmp(a));
    ok_json(
        &files
            .into_iter()
            .map(|(_, name)| Value::from(name))
            .collect(),
    )
}

pub async fn upload(State(instance): Shared, request: Request) -> Response {
    let Ok(mut form) = Multipart::from_request(request, &()).await else {
        return trouble();
    };
    let (mut fields, mut file) = (HashMap::new(), None);
    loop {
        match form.next_field().await {
            Ok(Some(field)) => {
                let name = field.name().unwrap_or_default().to_owned();
                let file_name = field.file_name().map(str::to_owned);
                let content = match field.bytes().await {
                    Ok(content) => content,
                    Err(error) => return (error.status(), error.body_text()).into_response(),
                };
                if name == "image" {
                    file = file_name.map(|file_name| (file_name, content));
                } else {
                    fields.insert(name, String::from_utf8_lossy(&content).into_owned());
                }
            }
            Ok(None) => break,
            Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                return (
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "Maximum request body size exceeded",
                )
                    .into_response();
            }
            Err(_) => return trouble(),
        }
    }
    let Some((name, content)) = file.filter(|(name, _)| !name.is_empty()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let kind = fields.get("type").map_or("input", String::as_str);
    let Some(root) = instance.folders.by_type(kind).map(normal) else {
        return trouble();
    };
    let subfolder = fields.get("subfolder").cloned().unwrap_or_default();
    let directory = normal(&root.join(&subfolder));
    if !normal(&directory.join(&name)).starts_with(&root)
        || FilePath::new(&name)
            .components()
            .any(|part| part == Component::ParentDir)
    {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let overwrite = matches!(
        fields.get("overwrite").map(String::as_str),
        Some("true" | "1")
    );
    match store(&directory, &name, &content, overwrite) {
        Ok(name) => ok_json(&json!({"name": name, "subfolder": subfolder, "type": kind})),
        Err(_) => trouble(),
    }
}

/// Writes the file, under another name if one of the same name has other content.
fn store(
    directory: &FilePath,
    name: &str,
    content: &[u8],
    overwrite: bool,
) -> std::io::Result<String> {
    std::fs::create_dir_all(directory)?;
    let (stem, extension) = name
        .rfind('.')
        .filter(|at| *at > 0)
        .map_or((name, ""), |at| name.split_at(at));
    let mut chosen = name.to_owned();
    let mut number = 1;
    while !overwrite && directory.join(&chosen).exists() {
        if std::fs::read(directory.join(&chosen))? == content {
            return Ok(chosen);
        }
        chosen = format!("{stem} ({number}){extension}");
        number += 1;
    }
    std::fs::write(directory.join(&chosen), content)?;
    Ok(chosen)
}
