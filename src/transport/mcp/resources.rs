//! Files of jobs, and the log of ComfyUI, as resources.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::content::is_text;
use super::context::Context;
use super::message::RpcError;
use super::methods::{page, text};
use super::{result, server};
use crate::config::public_text;
use crate::job::Source;
use crate::net::http_fields::media_type;
use crate::store::jobs::ListQuery;
use crate::store::now_ms;

/// The jobs whose files are listed.
const JOBS: usize = 50;
/// Resources of one page.
const PAGE: usize = 100;
/// The largest file that is sent this way.
const LARGEST: u64 = 32 << 20;
const LOG: &str = "comfyui://logs/comfyui";
const LOG_LINES: usize = 200;

/// `resources/list`
///
/// # Errors
/// When the cursor is not ours, or the store cannot be read.
pub async fn list(context: &Context, params: &Map<String, Value>) -> Result<Value, RpcError> {
    let mut all = vec![json!({
        "uri": LOG,
        "name": "comfyui.log",
        "title": "Log of ComfyUI",
        "description": "The last 200 lines that ComfyUI has printed.",
        "mimeType": "text/plain",
    })];
    let store = context.state.jobs.store();
    let query = ListQuery {
        sources: vec![Source::Mcp.as_str()],
        limit: JOBS,
        ..ListQuery::default()
    };
    let (jobs, _) = store.list_jobs(query).await.map_err(unreadable)?;
    for job in jobs {
        let outputs = store.outputs(&job.id).await.map_err(unreadable)?;
        for asset in outputs {
            all.push(json!({
                "uri": result::uri(&job.id, asset.position),
                "name": asset.file_path,
                "mimeType": asset.content_type,
                "size": asset.size,
            }));
        }
    }
    let (resources, next) = page(all, params, PAGE)?;
    let mut result = json!({
        "resources": resources,
        "ttlMs": 0,
        "cacheScope": "private",
    });
    if let Some(next) = next {
        result["nextCursor"] = next.into();
    }
    Ok(result)
}

/// `resources/templates/list`
pub fn templates(context: &Context) -> Value {
    json!({
        "resourceTemplates": [{
            "uriTemplate": "comfyui://jobs/{id}/outputs/{index}",
            "name": "output",
            "title": "File of a job",
            "description": "A file that a job has made: the id of the job, and the index of the \
                            output in its result.",
        }],
        "ttlMs": server::LISTS_LIVE_MS,
        "cacheScope": server::cache_scope(context),
    })
}

/// `resources/read`
///
/// # Errors
/// When there is no such resource, or it is too large.
pub async fn read(context: &Context, params: &Map<String, Value>) -> Result<Value, RpcError> {
    let uri = text(params, "uri")?;
    if uri == LOG {
        let contents = json!([{"uri": LOG, "mimeType": "text/plain", "text": log(context)}]);
        return Ok(json!({"contents": contents, "ttlMs": 0, "cacheScope": "private"}));
    }
    let unknown = || {
        RpcError::params(format!(
            "there is no resource \"{}\": the file has expired, or never was",
            crate::limits::text::quoted(uri)
        ))
        .with(json!({"uri": crate::limits::text::quoted(uri)}))
    };
    let (job, index) = parts(uri).ok_or_else(unknown)?;
    let view = context.state.jobs.view_run(job).await.map_err(unreadable)?;
    let view = view.ok_or_else(unknown)?;
    let asset = view
        .outputs
        .iter()
        .find(|asset| asset.position == index)
        .ok_or_else(unknown)?;
    let store = context.state.jobs.store();
    let _held = asset.hash.as_deref().map(|hash| store.hold(hash));
    let path = store.content(asset).map_err(|_| unknown())?;
    if asset.size > LARGEST {
        let (url, _) = context
            .state
            .jobs
            .address(&context.base.absolute, &asset.id);
        return Err(RpcError::params(format!(
            "the file has {} bytes, more than the {LARGEST} that are sent this way: fetch it from \
             {url}",
            asset.size
        ))
        .with(json!({"url": url})));
    }
    store.used_now(asset);
    // A few at a time: each holds its file, and that again in Base64.
    let _turn = context.state.previews.acquire().await;
    let text = is_text(&media_type(&asset.content_type));
    let reading = tokio::task::spawn_blocking(move || read_file(&path, text));
    let read = reading.await.ok().flatten().ok_or_else(unknown)?;
    let mut contents = json!({"uri": uri, "mimeType": asset.content_type});
    match read {
        Read::Text(text) => contents["text"] = text.into(),
        Read::Blob(blob) => contents["blob"] = blob.into(),
    }
    let left = (view.record.expires_at - now_ms()).max(0);
    Ok(json!({"contents": [contents], "ttlMs": left, "cacheScope": "private"}))
}

/// A file as it is sent.
enum Read {
    Text(String),
    /// Base64.
    Blob(String),
}

fn read_file(path: &std::path::Path, text: bool) -> Option<Read> {
    let bytes = std::fs::read(path).ok()?;
    Some(match String::from_utf8(bytes) {
        Ok(whole) if text => Read::Text(whole),
        Ok(whole) => Read::Blob(STANDARD.encode(whole)),
        Err(error) => Read::Blob(STANDARD.encode(error.as_bytes())),
    })
}

/// The job and the index that the address of an output names.
pub fn parts(uri: &str) -> Option<(&str, i64)> {
    let (job, index) = uri
        .strip_prefix("comfyui://jobs/")?
        .split_once("/outputs/")?;
    let number = index.bytes().all(|digit| digit.is_ascii_digit());
    number.then_some((job, index.parse().ok()?))
}

fn log(context: &Context) -> String {
    let all = context.state.rest.comfy.instances().iter();
    let text: String = all.map(|comfy| comfy.output.since(0, 1 << 20).0).collect();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    last.iter()
        .map(|line| public_text(line) + "\n")
        .collect::<String>()
}

fn unreadable(error: crate::store::StoreError) -> RpcError {
    RpcError::internal(format!("the server's store cannot be read: {error}"))
}
