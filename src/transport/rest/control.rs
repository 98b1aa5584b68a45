//! `POST /restart`, `POST /free`: what an operator does to ComfyUI.

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tracing::info;

use super::RouterState;
use super::body::{Known, KnownObject};
use super::query::Query;
use crate::comfy::Comfy;
use crate::comfy::life::Phase;
use crate::error::{Code, Failure};
use crate::limits::text::quoted;

/// `POST /restart`: ComfyUI is started anew; its prompts fail as when it dies.
pub async fn restart(State(state): State<RouterState>, query: Query) -> Result<Response, Failure> {
    let chosen = match query.text("instance") {
        None => None,
        Some(text) => Some(one(&state, text)?),
    };
    if state.health.now().draining {
        return Err(Failure::new(
            Code::ShuttingDown,
            "the server is shutting down: ComfyUI is not started again",
        ));
    }
    if state.config.comfy.command.is_empty() {
        return Err(Failure::new(
            Code::Conflict,
            "CMD is empty, so ComfyUI was not started by this server: restart it where it runs",
        ));
    }
    if state.comfy.several() && chosen.is_none() {
        if !state.comfy.restart_all(state.health.clone()) {
            let sentence = "ComfyUI is restarting already: wait until all are ready";
            return Err(Failure::new(Code::Conflict, sentence));
        }
        info!("all ComfyUI are started anew on request, one after the other");
        return Ok((StatusCode::ACCEPTED, Json(json!({"status": "restarting"}))).into_response());
    }
    let comfy = chosen.unwrap_or_else(|| state.comfy.instance(0));
    if !comfy.life.want_restart() {
        let sentence = match comfy.life.now().phase {
            Phase::Starting => "ComfyUI is starting already: wait until it is ready",
            _ => "ComfyUI is restarting already: wait until it is ready",
        };
        return Err(Failure::new(Code::Conflict, sentence));
    }
    info!(
        instance = comfy.label(),
        "ComfyUI is started anew on request"
    );
    Ok((StatusCode::ACCEPTED, Json(json!({"status": "restarting"}))).into_response())
}

/// The ComfyUI that is meant.
fn one<'a>(state: &'a RouterState, text: &str) -> Result<&'a Comfy, Failure> {
    let index = text.parse::<usize>().ok();
    let all = state.comfy.instances();
    index.and_then(|index| all.get(index)).ok_or_else(|| {
        Failure::new(
            Code::NotFound,
            format!(
                "there is no ComfyUI {}: they have the numbers 0 to {}",
                quoted(text),
                all.len() - 1
            ),
        )
        .at("instance")
    })
}

/// The body of `POST /free`.
#[derive(Debug)]
pub struct FreeFields;

impl Known for FreeFields {
    const FIELDS: &'static [&'static str] = &["unload_models", "free_memory"];
}

/// `POST /free`: passed to ComfyUI. Without a body all is freed.
pub async fn free(State(state): State<RouterState>, request: Request) -> Result<Response, Failure> {
    let wanted = match is_empty(&request) {
        true => json!({"unload_models": true, "free_memory": true}),
        false => {
            let KnownObject(body, _) =
                KnownObject::<FreeFields>::from_request(request, &state).await?;
            checked(body)?
        }
    };
    let (mut freed, mut failed) = (false, None);
    for comfy in state.comfy.up() {
        match comfy.client.free(&wanted).await {
            Ok(()) => freed = true,
            Err(error) => failed = Some(error),
        }
    }
    if let Some(error) = failed.filter(|_| !freed) {
        return Err(error.into());
    }
    Ok(Json(wanted).into_response())
}

/// No body, and nothing that says that there is one.
fn is_empty(request: &Request) -> bool {
    let headers = request.headers();
    let length = headers.get(CONTENT_LENGTH);
    let none = match length {
        Some(length) => length.as_bytes() == b"0",
        None => !headers.contains_key(TRANSFER_ENCODING) && !headers.contains_key(CONTENT_TYPE),
    };
    none && axum::body::HttpBody::is_end_stream(request.body())
}

fn checked(mut body: Map<String, Value>) -> Result<Value, Failure> {
    body.retain(|_, value| !value.is_null());
    for field in FreeFields::FIELDS {
        if body.get(*field).is_some_and(|value| !value.is_boolean()) {
            return Err(Failure::invalid(
                *field,
                format!("\"{field}\" must be true or false"),
            ));
        }
    }
    Ok(body.into())
}
