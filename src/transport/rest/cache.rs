//! `GET /cache`, `DELETE /cache/{name}`: what is cached, and taking one file out.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::RouterState;
use super::path::PathText;
use crate::error::{Code, Failure};
use crate::limits::text::quoted;
use crate::storage::Evicted;

/// `GET /cache`
pub async fn list(State(state): State<RouterState>) -> Result<Response, Failure> {
    let (entries, figures) = state
        .storage
        .cached()
        .await
        .map_err(|error| error.into_failure(Code::Internal))?;
    let answer = json!({
        "size": figures.size,
        "limit": figures.limit,
        "count": figures.count,
        "entries": entries,
    });
    Ok(Json(answer).into_response())
}

/// `DELETE /cache/{name}`
pub async fn evict(
    State(state): State<RouterState>,
    PathText(name): PathText,
) -> Result<Response, Failure> {
    let evicted = state
        .storage
        .evict(&name)
        .await
        .map_err(|error| error.into_failure(Code::Internal))?;
    match evicted {
        Evicted::Gone(size) => {
            // What was linked to it is no model any more.
            state.comfy.models_changed();
            Ok(Json(json!({"name": name, "size": size})).into_response())
        }
        Evicted::Unknown => Err(Failure::new(
            Code::NotFound,
            format!("the cache holds no file \"{}\"", quoted(&name)),
        )),
        Evicted::InUse => Err(Failure::new(
            Code::Conflict,
            format!(
                "the cached file {} is in use: try again when the prompts that need it have ended",
                quoted(&name)
            ),
        )),
    }
}
