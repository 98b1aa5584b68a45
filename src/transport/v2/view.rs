//! Jobs, outputs and assets as clients see them.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use super::V2State;
use super::address::Base;
use crate::durable::JobView;
use crate::store::{AssetRecord, JobRecord, JobStatus};

/// RFC 3339 in UTC with milliseconds.
pub fn time(ms: i64) -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_default()
}

fn maybe(ms: Option<i64>) -> Value {
    ms.map_or(Value::Null, |ms| time(ms).into())
}

/// The whole job.
pub fn job(state: &V2State, base: &Base, view: &JobView) -> Value {
    let record = &view.record;
    let outputs: Vec<Value> = view
        .outputs
        .iter()
        .map(|asset| output(state, base, asset))
        .collect();
    let mut job = json!({
        "id": record.id,
        "status": record.status.as_str(),
        "created_at": time(record.created_at),
        "started_at": maybe(record.started_at),
        "completed_at": maybe(record.completed_at),
        "expires_at": time(record.expires_at),
        "queue_position": view.queue_position,
        "progress": view.progress,
        "outputs": outputs,
        "error": view.error,
        "metrics": metrics(record),
        "source": record.source,
        "outputs_reused": record.outputs_reused,
        "urls": urls(state, base, record),
    });
    if let Some(members) = job.as_object_mut() {
        if let Some(metadata) = metadata(record) {
            members.insert("metadata".into(), metadata);
        }
        if let Some(priority) = record.priority {
            members.insert("priority".into(), priority.into());
        }
    }
    job
}

/// One line of a list.
pub fn item(state: &V2State, base: &Base, record: &JobRecord, status: JobStatus) -> Value {
    json!({
        "id": record.id,
        "status": status.as_str(),
        "create_time": time(record.created_at),
        "update_time": time(record.updated_at),
        "metadata": metadata(record).unwrap_or_else(|| json!({})),
        "created_at": time(record.created_at),
        "started_at": maybe(record.started_at),
        "completed_at": maybe(record.completed_at),
        "expires_at": time(record.expires_at),
        "error": record.error.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok()),
        "outputs_count": record.outputs_count,
        "urls": urls(state, base, record),
    })
}

fn metadata(record: &JobRecord) -> Option<Value> {
    record
        .metadata
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok())
}

fn metrics(record: &JobRecord) -> Value {
    let began = record.started_at;
    json!({
        "queue_ms": began.map(|began| (began - record.created_at).max(0)),
        "execution_ms": began.and_then(
            |began| record.completed_at.map(|ended| (ended - began).max(0))
        ),
    })
}

fn urls(state: &V2State, base: &Base, record: &JobRecord) -> Value {
    let own = format!("{}/api/v2/jobs/{}", base.prefix, record.id);
    let wait = state.config.state.long_poll_s;
    let me = if record.status.has_ended() || wait == 0 {
        own.clone()
    } else {
        format!("{own}?wait={wait}")
    };
    json!({
        "self": me,
        "events": format!("{own}/events"),
        "cancel": format!("{own}/cancel"),
        "logs": format!("{own}/logs"),
        "workflow": format!("{own}/workflow"),
    })
}

fn hash(asset: &AssetRecord) -> Value {
    asset
        .hash
        .as_ref()
        .map_or(Value::Null, |hash| format!("blake3:{hash}").into())
}

/// Where the bytes can be had, and until when.
fn address(state: &V2State, base: &Base, asset: &AssetRecord) -> (String, i64) {
    let (url, until) = state.jobs.address(&base.absolute, &asset.id);
    (asset.remote_url.clone().unwrap_or(url), until * 1000)
}

/// An output of a job.
pub fn output(state: &V2State, base: &Base, asset: &AssetRecord) -> Value {
    let (url, until) = address(state, base, asset);
    json!({
        "node_id": asset.node_id.clone().unwrap_or_default(),
        "name": asset.file_path,
        "type": asset.kind.as_deref().unwrap_or("file"),
        "content_type": asset.content_type,
        "size_bytes": asset.size,
        "id": asset.id,
        "hash": hash(asset),
        "url": url,
        "url_expires_at": time(until),
        "job_id": asset.job_id,
    })
}

/// An asset; `created_new` where it was just made.
pub fn asset(
    state: &V2State,
    base: &Base,
    asset: &AssetRecord,
    created_new: Option<bool>,
) -> Value {
    let (url, until) = address(state, base, asset);
    let mut body = Map::new();
    let mut add = |name: &str, value: Value| body.insert(name.to_owned(), value);
    add("id", asset.id.clone().into());
    add("hash", hash(asset));
    add("size_bytes", asset.size.into());
    add("content_type", asset.content_type.clone().into());
    add("file_path", asset.file_path.clone().into());
    if let Some(created_new) = created_new {
        add("created_new", created_new.into());
    }
    add("created_at", time(asset.created_at).into());
    add("url", url.into());
    add("url_expires_at", time(until).into());
    add("expires_at", maybe(asset.expires_at));
    add("job_id", asset.job_id.clone().into());
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_z() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(1_764_365_063_007), "2025-11-28T21:24:23.007Z");
    }
}
