//! The jobs API of newer versions.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Shared, json_response, ok_json, parsed};
use crate::simulator::instance::Instance;
use crate::simulator::queue::{Finished, Item};

fn base(item: &Item, status: &str) -> Map<String, Value> {
    let mut job = Map::new();
    job.insert("id".into(), item.prompt_id.clone().into());
    job.insert("status".into(), status.into());
    job.insert("priority".into(), item.number_json());
    job.insert("create_time".into(), item.extra["create_time"].clone());
    job.insert("outputs_count".into(), 0.into());
    job.insert("previewable_outputs_count".into(), 0.into());
    job.insert(
        "workflow_id".into(),
        item.extra
            .pointer("/extra_pnginfo/workflow/id")
            .cloned()
            .unwrap_or_default(),
    );
    job
}

fn of_finished(finished: &Finished) -> Map<String, Value> {
    let messages = finished.status["messages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let last = messages.last().cloned().unwrap_or_default();
    let status = match last[0].as_str() {
        Some("execution_success") => "completed",
        Some("execution_interrupted") => "cancelled",
        _ => "failed",
    };
    let mut job = base(&finished.item, status);
    job.insert(
        "execution_start_time".into(),
        messages
            .first()
            .map(|first| first[1]["timestamp"].clone())
            .unwrap_or_default(),
    );
    job.insert("execution_end_time".into(), last[1]["timestamp"].clone());
    if status == "failed" {
        job.insert("execution_error".into(), last[1].clone());
    }
    let files: Vec<Value> = finished
        .outputs
        .iter()
        .flat_map(|(node, output)| {
            let keys = output.as_object().into_iter().flatten();
            keys.flat_map(move |(key, items)| {
                items
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(|item| item.get("filename").is_some())
                    .map(move |item| {
                        let mut item = item.clone();
                        item["nodeId"] = node.clone().into();
                        item["mediaType"] = key.clone().into();
                        item
                    })
            })
        })
        .collect();
    job.insert("outputs_count".into(), files.len().into());
    job.insert("previewable_outputs_count".into(), files.len().into());
    job.insert(
        "preview_output".into(),
        files.last().cloned().unwrap_or_default(),
    );
    job
}

fn without_nulls(mut job: Map<String, Value>) -> Value {
    job.retain(|_, value| !value.is_null());
    Value::Object(job)
}

/// All jobs, oldest first.
fn jobs(instance: &Instance) -> Vec<Map<String, Value>> {
    let (running, pending) = instance.queue.snapshot();
    let finished = instance.queue.history(None, None);
    finished
        .iter()
        .map(of_finished)
        .chain(
            running
                .iter()
                .map(|item: &Arc<Item>| base(item, "in_progress")),
        )
        .chain(pending.iter().map(|item| base(item, "pending")))
        .collect()
}

pub async fn list(
    State(instance): Shared,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let mut jobs = jobs(&instance);
    if let Some(wanted) = query.get("status") {
        let wanted: Vec<&str> = wanted.split(',').map(str::trim).collect();
        if let Some(unknown) = wanted.iter().find(|status| {
            !["pending", "in_progress", "completed", "failed", "cancelled"].contains(status)
        }) {
            return json_response(
                StatusCode::BAD_REQUEST,
                &json!({"error": format!("Invalid status value(s): {unknown}")}),
            );
        }
        jobs.retain(|job| wanted.iter().any(|status| job["status"] == *status));
    }
    if let Some(workflow) = query.get("workflow_id") {
        jobs.retain(|job| job["workflow_id"].as_str() == Some(workflow));
    }
    let by_duration = query
        .get("sort_by")
        .is_some_and(|by| by == "execution_duration");
    let number =
        |job: &Map<String, Value>, name: &str| job.get(name).and_then(Value::as_u64).unwrap_or(0);
    jobs.sort_by_key(|job| {
        if by_duration {
            number(job, "execution_end_time").saturating_sub(number(job, "execution_start_time"))
        } else {
            number(job, "create_time")
        }
    });
    if query.get("sort_order").is_none_or(|order| order == "desc") {
        jobs.reverse();
    }
    let total = jobs.len();
    let offset = query
        .get("offset")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let limit = query
        .get("limit")
        .and_then(|text| text.parse::<usize>().ok());
    let page: Vec<Value> = jobs
        .into_iter()
        .skip(offset)
        .take(limit.unwrap_or(usize::MAX))
        .map(without_nulls)
        .collect();
    let more = offset + page.len() < total;
    ok_json(&json!({
        "jobs": page,
        "pagination": {"offset": offset, "limit": limit, "total": total, "has_more": more}
    }))
}

pub async fn one(State(instance): Shared, Path(id): Path<String>) -> Response {
    let job = match instance.queue.finished(&id) {
        Some(finished) => {
            let mut job = of_finished(&finished);
            job.insert("outputs".into(), finished.outputs.clone().into());
            job.insert("execution_status".into(), finished.status.clone());
            job.insert(
                "workflow".into(),
                json!({"prompt": finished.item.graph, "extra_data": finished.item.extra}),
            );
            Some(job)
        }
        None => {
            let (running, pending) = instance.queue.snapshot();
            let running = running
                .filter(|item| item.prompt_id == id)
                .map(|item| (item, "in_progress"));
            running
                .or_else(|| {
                    pending
                        .into_iter()
                        .find(|item| item.prompt_id == id)
                        .map(|item| (item, "pending"))
                })
                .map(|(item, status)| {
                    let mut job = base(&item, status);
                    job.insert(
                        "workflow".into(),
                        json!({"prompt": item.graph, "extra_data": item.extra}),
                    );
                    job
                })
        }
    };
    job.map_or_else(
        || json_response(StatusCode::NOT_FOUND, &json!({"error": "Job not found"})),
        |job| ok_json(&without_nulls(job)),
    )
}

/// Ends a job in whatever state it is.
fn cancel_one(instance: &Instance, id: &str) -> bool {
    if instance.queue.delete(id) {
        instance.announce_queue();
        return true;
    }
    let running = instance.queue.running_id().as_deref() == Some(id);
    if running {
        instance.interrupt.store(true, Ordering::Release);
    }
    running
}

fn is_id(id: &str) -> bool {
    uuid::Uuid::try_parse(id).is_ok_and(|parsed| parsed.to_string() == id)
}

fn malformed() -> Response {
    json_response(
        StatusCode::BAD_REQUEST,
        &json!({"error": "job ids must be UUIDs in canonical form"}),
    )
}

pub async fn cancel(State(instance): Shared, Path(id): Path<String>) -> Response {
    if !is_id(&id) {
        return malformed();
    }
    ok_json(&json!({"cancelled": cancel_one(&instance, &id)}))
}

pub async fn cancel_many(State(instance): Shared, body: Result<Bytes, BytesRejection>) -> Response {
    let Ok(body) = parsed(body) else {
        return malformed();
    };
    let ids: Option<Vec<&str>> = body["job_ids"].as_array().and_then(|ids| {
        ids.iter()
            .map(|id| id.as_str().filter(|id| is_id(id)))
            .collect()
    });
    let Some(ids) = ids else { return malformed() };
    let mut cancelled = false;
    for id in ids {
        cancelled |= cancel_one(&instance, id);
    }
    ok_json(&json!({"cancelled": cancelled}))
}
