//! The methods, by revision.

use serde_json::{Map, Value, json};

use super::context::Context;
use super::message::RpcError;
use super::revision::Revision;
use super::{resources, server, tasks, tools};

/// Whether a revision has a method.
pub fn exists(revision: Revision, method: &str) -> bool {
    match method {
        "tools/list"
        | "tools/call"
        | "resources/list"
        | "resources/read"
        | "resources/templates/list" => true,
        "initialize" | "ping" => !revision.is_stateless(),
        "server/discover"
        | "subscriptions/listen"
        | "tasks/get"
        | "tasks/update"
        | "tasks/cancel" => revision.is_stateless(),
        _ => false,
    }
}

/// Answers a request whose method [`exists`].
///
/// # Errors
/// An error of the protocol. What goes wrong with a run is a result.
pub async fn call(
    context: &Context,
    method: &str,
    params: Map<String, Value>,
) -> Result<Value, RpcError> {
    match method {
        "initialize" => Ok(server::initialize(&params)),
        "server/discover" => Ok(server::discover(context)),
        "ping" => Ok(json!({})),
        "tools/list" => tools::list(context, &params),
        "tools/call" => tools::call(context, params).await,
        "resources/list" => resources::list(context, &params).await,
        "resources/templates/list" => Ok(resources::templates(context)),
        "resources/read" => resources::read(context, &params).await,
        "tasks/get" => tasks::get(context, &params).await,
        "tasks/update" => tasks::update(context, &params).await,
        "tasks/cancel" => tasks::cancel(context, &params).await,
        other => Err(RpcError::method(other)),
    }
}

/// The text of a parameter that must be there.
///
/// # Errors
/// When it is not.
pub fn text<'a>(params: &'a Map<String, Value>, name: &str) -> Result<&'a str, RpcError> {
    params
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| RpcError::params(format!("\"{name}\" must be a text")))
}

/// One page of a list, and where the next one begins.
///
/// # Errors
/// When the cursor is not ours.
pub fn page<T>(
    mut all: Vec<T>,
    params: &Map<String, Value>,
    size: usize,
) -> Result<(Vec<T>, Option<String>), RpcError> {
    let from = match params.get("cursor") {
        None | Some(Value::Null) => 0,
        Some(cursor) => cursor
            .as_str()
            .and_then(|text| text.strip_prefix("from-")?.parse::<usize>().ok())
            .filter(|from| from % size == 0)
            .ok_or_else(|| {
                RpcError::params("\"cursor\" is not one that this server has given out")
            })?,
    };
    let next = from.saturating_add(size);
    let more = all.len() > next;
    all.truncate(next);
    let shown = all.split_off(from.min(all.len()));
    Ok((shown, more.then(|| format!("from-{next}"))))
}
