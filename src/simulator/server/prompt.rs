//! Prompts, queue, history, interrupt.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Shared, json_response, json_text, ok_json, parsed, trouble};
use crate::simulator::args::Imitate;
use crate::simulator::instance::{Instance, now_ms};
use crate::simulator::python;
use crate::simulator::queue::{Finished, Item, number_json};
use crate::simulator::validation::validate;

type RawBody = Result<Bytes, BytesRejection>;

pub async fn count(State(instance): Shared) -> Response {
    ok_json(&json!({"exec_info": {"queue_remaining": instance.queue.remaining()}}))
}

pub async fn submit(State(instance): Shared, headers: HeaderMap, body: RawBody) -> Response {
    let body = match parsed(body) {
        Ok(Value::Object(body)) => body,
        Ok(_) => return trouble(),
        Err(response) => return response,
    };
    instance.log("got prompt");
    accept(&instance, &headers, body).unwrap_or_else(|()| trouble())
}

/// The number that orders the queue, and whether it is shown as a float.
fn place_in_queue(instance: &Instance, body: &Map<String, Value>) -> Result<(f64, bool), ()> {
    match body.get("number") {
        Some(given) => Ok((
            given
                .as_f64()
                .or_else(|| given.as_str()?.trim().parse().ok())
                .ok_or(())?,
            true,
        )),
        None => {
            let number = instance.counter.fetch_add(1, Ordering::Relaxed);
            #[expect(clippy::cast_precision_loss, reason = "a count of prompts")]
            let number = number as f64;
            Ok((
                if body.get("front").is_some_and(python::truthy) {
                    0.0 - number
                } else {
                    number
                },
                false,
            ))
        }
    }
}

/// The client's id, or a new one; `Err` is the answer to one that is none.
fn prompt_id(instance: &Instance, body: &Map<String, Value>) -> Result<String, Response> {
    match (instance.imitate, body.get("prompt_id")) {
        (_, None) | (Imitate::Current, Some(Value::Null)) => Ok(uuid::Uuid::new_v4().to_string()),
        (Imitate::V0_3_64, Some(given)) => Ok(python::display(given)),
        (Imitate::Current, Some(given)) => {
            let canonical = given
                .as_str()
                .filter(|text| uuid::Uuid::try_parse(text).is_ok_and(|id| id.to_string() == *text));
            let Some(id) = canonical else {
                let error = json!({
                    "type": "invalid_prompt_id",
                    "message": "prompt_id must be a UUID in canonical form",
                    "details": python::display(given),
                    "extra_info": {}
                });
                return Err(json_response(
                    StatusCode::BAD_REQUEST,
                    &json!({"error": error, "node_errors": {}}),
                ));
            };
            Ok(id.to_owned())
        }
    }
}

/// `extra_data`, with what the server adds to it.
fn extra_data(
    instance: &Instance,
    headers: &HeaderMap,
    body: &Map<String, Value>,
) -> Result<Value, ()> {
    let mut extra = body.get("extra_data").cloned().unwrap_or_else(|| json!({}));
    if let Some(client) = body.get("client_id") {
        extra
            .as_object_mut()
            .ok_or(())?
            .insert("client_id".into(), client.clone());
    }
    if instance.imitate == Imitate::Current {
        let extra = extra.as_object_mut().ok_or(())?;
        extra.insert("create_time".into(), now_ms().into());
        if let Some(source) = headers
            .get("comfy-usage-source")
            .and_then(|value| value.to_str().ok())
        {
            extra.insert("comfy_usage_source".into(), source.into());
        }
    }
    Ok(extra)
}

/// `Err` stands for an exception.
fn accept(
    instance: &Instance,
    headers: &HeaderMap,
    mut body: Map<String, Value>,
) -> Result<Response, ()> {
    let (number, float) = place_in_queue(instance, &body)?;
    let Some(prompt) = body.remove("prompt") else {
        let error = json!({
            "type": "no_prompt",
            "message": "No prompt provided",
            "details": "No prompt provided",
            "extra_info": {}
        });
        return Ok(json_response(
            StatusCode::BAD_REQUEST,
            &json!({"error": error, "node_errors": {}}),
        ));
    };
    let prompt_id = match prompt_id(instance, &body) {
        Ok(id) => id,
        Err(refusal) => return Ok(refusal),
    };
    let Value::Object(mut graph) = prompt else {
        return Err(());
    };
    let targets = body
        .get("partial_execution_targets")
        .and_then(Value::as_array);
    let verdict = validate(instance, &mut graph, targets.map(Vec::as_slice))?;
    let extra = extra_data(instance, headers, &body)?;
    if let Some(error) = verdict.error {
        instance.log("invalid prompt");
        return Ok(json_response(
            StatusCode::BAD_REQUEST,
            &json!({"error": error, "node_errors": verdict.node_errors}),
        ));
    }
    let reply = json!({
        "prompt_id": prompt_id,
        "number": number_json(number, float),
        "node_errors": verdict.node_errors
    });
    let item = Item {
        number,
        float_number: float,
        prompt_id,
        graph: Value::Object(graph),
        extra,
        outputs: verdict.outputs,
    };
    // The count goes out with the new prompt in it before the worker can take it, so that the order
    // never varies.
    if !instance
        .queue
        .put_announced(item, |remaining| instance.hub.status(remaining))
    {
        return Err(());
    }
    Ok(ok_json(&reply))
}

pub async fn queue(State(instance): Shared) -> Response {
    if let Some(answer) = instance.faults.read(|faults| faults.queue_answer.clone()) {
        return json_text(StatusCode::OK, answer);
    }
    let (running, pending) = instance.queue.snapshot();
    let shown = |item: &Arc<Item>| {
        let mut json = item.json();
        if instance.imitate == Imitate::Current
            && let Some(extra) = json.get_mut(3).and_then(Value::as_object_mut)
        {
            extra.remove("auth_token_comfy_org");
            extra.remove("api_key_comfy_org");
        }
        json
    };
    let (running, pending): (Vec<Value>, Vec<Value>) = (
        running.iter().map(shown).collect(),
        pending.iter().map(shown).collect(),
    );
    ok_json(&json!({"queue_running": running, "queue_pending": pending}))
}

/// The ids of a `delete` list.
fn deleted(body: &Value) -> Vec<String> {
    body.get("delete")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(python::display)
        .collect()
}

pub async fn change_queue(State(instance): Shared, body: RawBody) -> Response {
    let body = match parsed(body) {
        Ok(body) => body,
        Err(response) => return response,
    };
    if body.get("clear").is_some_and(python::truthy) {
        instance.queue.clear();
        instance.announce_queue();
    }
    for id in deleted(&body) {
        if instance.queue.delete(&id) {
            instance.announce_queue();
        }
    }
    StatusCode::OK.into_response()
}

pub async fn interrupt(State(instance): Shared, body: RawBody) -> Response {
    let body = body
        .ok()
        .and_then(|body| python::parse(&body).ok())
        .unwrap_or_else(|| json!({}));
    let Some(fields) = body.as_object() else {
        return trouble();
    };
    match fields.get("prompt_id").filter(|id| python::truthy(id)) {
        Some(id) if instance.queue.running_id() != Some(python::display(id)) => {
            instance.log(&format!(
                "Prompt {} is not currently running, skipping interrupt",
                python::display(id)
            ));
        }
        _ => instance.interrupt.store(true, Ordering::Release),
    }
    StatusCode::OK.into_response()
}

pub async fn free(State(instance): Shared, body: RawBody) -> Response {
    match parsed(body) {
        Ok(body) => {
            let flag = |name| body.get(name).is_some_and(python::truthy);
            instance
                .queue
                .free(flag("unload_models"), flag("free_memory"));
            StatusCode::OK.into_response()
        }
        Err(response) => response,
    }
}

fn entries(finished: &[Finished]) -> Response {
    let mut out = String::from("{");
    for (index, finished) in finished.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        python::write_string(&finished.item.prompt_id, &mut out);
        out.push_str(": ");
        let mut entry = finished.json();
        if let Some(extra) = entry
            .pointer_mut("/prompt/3")
            .and_then(Value::as_object_mut)
        {
            extra.remove("auth_token_comfy_org");
            extra.remove("api_key_comfy_org");
        }
        python::write(&entry, &mut out);
    }
    out.push('}');
    json_text(StatusCode::OK, out)
}

pub async fn history(
    State(instance): Shared,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let number = |name: &str| {
        query
            .get(name)
            .map(|text| text.parse::<i64>())
            .transpose()
            .map(|n| n.and_then(|n| usize::try_from(n).ok()))
    };
    match (number("max_items"), number("offset")) {
        (Ok(limit), Ok(offset)) => entries(&instance.queue.history(limit, offset)),
        _ => trouble(),
    }
}

pub async fn history_entry(State(instance): Shared, Path(id): Path<String>) -> Response {
    entries(instance.queue.finished(&id).as_slice())
}

pub async fn change_history(State(instance): Shared, body: RawBody) -> Response {
    let body = match parsed(body) {
        Ok(body) => body,
        Err(response) => return response,
    };
    if body.get("clear").is_some_and(python::truthy) {
        instance.queue.forget_all();
    }
    for id in deleted(&body) {
        instance.queue.forget(&id);
    }
    StatusCode::OK.into_response()
}
