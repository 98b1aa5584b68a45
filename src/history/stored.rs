//! Runs as their records in the store tell of them.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Inner;
use super::item::{Details, RunView};
use crate::durable::unpack;
use crate::job::Source;
use crate::job::media_inputs;
use crate::job::registry::{JobSnapshot, Status};
use crate::job::request::shown_body;
use crate::job::witness::DeliveredFile;
use crate::store::runs::RunRow;
use crate::store::{AssetRecord, JobStatus, StoreError};

/// The state of a record in the words of `/queue`.
pub(super) const fn status(status: JobStatus) -> Status {
    match status {
        JobStatus::Queued => Status::Pending,
        JobStatus::Running | JobStatus::Canceling => Status::Running,
        JobStatus::Succeeded => Status::Succeeded,
        JobStatus::Failed | JobStatus::Expired => Status::Failed,
        JobStatus::Canceled => Status::Interrupted,
    }
}

fn parsed(text: Option<&str>) -> Value {
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// As one item of a list. `result` is the record's, parsed.
fn view_with(row: &RunRow, result: &Value) -> RunView {
    let record = &row.record;
    let ms = |at: i64| u64::try_from(at).unwrap_or(0);
    let error = parsed(record.error.as_deref());
    let snapshot = JobSnapshot {
        id: Arc::from(record.id.as_str()),
        status: status(record.status),
        position: None,
        instance: None,
        source: Source::word(&record.source),
        created_at: ms(record.created_at),
        started_at: record.started_at.map(ms),
        finished_at: record.completed_at.map(ms),
        progress: None,
        error: error
            .get("message")
            .and_then(Value::as_str)
            .map(str::to_owned),
        code: None,
    };
    RunView {
        snapshot,
        workflow: record.workflow.clone(),
        outputs: outputs(result),
        details: None,
    }
}

/// As one item of a list.
pub(super) fn view(row: &RunRow) -> RunView {
    view_with(row, &parsed(row.result.as_deref()))
}

fn outputs(result: &Value) -> Vec<DeliveredFile> {
    let list = result.get("outputs").and_then(Value::as_array);
    let list = list.into_iter().flatten();
    list.map(|file| {
        let text = |name: &str| file.get(name).and_then(Value::as_str).map(str::to_owned);
        DeliveredFile {
            node_id: text("node_id"),
            filename: text("filename").unwrap_or_default(),
            content_type: text("content_type").unwrap_or_default(),
            size: file.get("size").and_then(Value::as_u64).unwrap_or(0),
            asset_id: text("asset_id"),
        }
    })
    .collect()
}

/// Assets as outputs: those that are files.
pub(super) fn as_outputs(assets: Vec<AssetRecord>) -> Vec<DeliveredFile> {
    let files = assets.into_iter().filter(|asset| asset.job_id.is_some());
    files
        .map(|asset| DeliveredFile {
            node_id: asset.node_id,
            filename: asset.file_path,
            content_type: asset.content_type,
            size: asset.size,
            asset_id: Some(asset.id),
        })
        .collect()
}

/// Everything that is known of a run.
pub(super) async fn whole(inner: &Inner, row: RunRow) -> Result<RunView, StoreError> {
    let store = inner.durable.store();
    let mut result = parsed(row.result.as_deref());
    let mut view = view_with(&row, &result);
    let assets = store.outputs(&row.record.id).await?;
    if view.outputs.is_empty() && result.get("outputs").is_none() {
        view.outputs = as_outputs(assets);
    } else {
        // An output whose asset was deleted has no address any more.
        let known = |id: &String| assets.iter().any(|asset| asset.id == *id);
        for output in &mut view.outputs {
            output.asset_id = output.asset_id.take().filter(known);
        }
    }
    let (_, graph) = store.job_request(&row.record.id).await?;
    let request = request(inner, &row).await;
    let mut part = |name: &str| result.get_mut(name).map(Value::take).unwrap_or_default();
    let mut error = part("error");
    if error.is_null() && row.record.error.is_some() {
        error = as_failure(&parsed(row.record.error.as_deref()));
    }
    let prompt = parsed(graph.as_deref());
    view.details = Some(Details {
        request,
        prompt: shown_prompt(inner, prompt),
        stats: part("stats"),
        texts: part("texts"),
        warnings: part("warnings"),
        error: crate::config::public_value(error),
    });
    Ok(view)
}

/// The error of a record that was no answer, in the form of one.
fn as_failure(error: &Value) -> Value {
    let mut body = json!({"error": error.get("message"), "code": error.get("code")});
    if error.get("node_id").is_some_and(|node| !node.is_null()) {
        body["details"] = json!({
            "node_id": error.get("node_id"),
            "node_type": error.get("class_type"),
            "exception_message": error.get("message"),
            "traceback": error.get("traceback"),
        });
    }
    body
}

fn shown_prompt(inner: &Inner, prompt: Value) -> Value {
    let Value::Object(graph) = prompt else {
        return Value::Null;
    };
    let mut body = Map::new();
    body.insert("prompt".into(), Value::Object(graph));
    let catalogue = inner.comfy.catalogue();
    let is_media = |class: &str, input: &str| media_inputs::takes_media(class, input, &catalogue);
    let mut shown = parsed(Some(&shown_body(&body, false, &is_media)));
    shown.get_mut("prompt").map(Value::take).unwrap_or_default()
}

async fn request(inner: &Inner, row: &RunRow) -> Value {
    if !row.record.resumes {
        // It was recorded as it is shown.
        return parsed(Some(&row.request));
    }
    match unpack(&row.request, inner.durable.store()).await {
        Ok(body) => recorded(inner, body, row),
        Err(_) => Value::Null,
    }
}

fn recorded(inner: &Inner, mut body: Map<String, Value>, row: &RunRow) -> Value {
    if crate::durable::record::is_job(&row.record.source) {
        body.shift_remove("id");
    }
    let catalogue = inner.comfy.catalogue();
    let is_media = |class: &str, input: &str| media_inputs::takes_media(class, input, &catalogue);
    let shown = shown_body(&body, row.record.workflow.is_some(), &is_media);
    parsed(Some(&shown))
}

/// Whether the text of a query is in a record. What is secret in a request is not searched.
pub(super) fn found(row: &RunRow, query: &super::HistoryQuery) -> bool {
    if query.text.is_none() {
        return true;
    }
    let record = &row.record;
    let short = [
        Some(record.id.as_str()),
        record.workflow.as_deref(),
        record.error.as_deref(),
    ];
    if query.finds(short.into_iter().flatten()) {
        return true;
    }
    if !query.finds([row.request.as_str()]) {
        return false;
    }
    if !row.record.resumes {
        return true;
    }
    let Value::Object(body) = parsed(Some(&row.request)) else {
        return false;
    };
    let public = shown_body(&body, record.workflow.is_some(), &|_, _| false);
    query.finds([public.as_str()])
}
