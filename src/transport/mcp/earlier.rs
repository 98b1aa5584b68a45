//! Outputs of earlier runs as inputs of the next one: the `uri` and the `url` of an output mean the
//! asset that it is. What an agent has in its hands is good enough, and nothing is fetched from
//! ourselves.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::context::Context;
use super::resources::parts;
use super::result::ToolFailure;
use crate::limits::text::quoted;

const SCHEME: &str = "comfyui://jobs/";

/// Puts assets in the place of outputs in the graph of a request.
///
/// # Errors
/// When an output is not there (any more).
pub async fn resolve(context: &Context, body: &mut Map<String, Value>) -> Result<(), ToolFailure> {
    let own = format!("{}/api/v2/assets/", context.base.absolute);
    let Some(graph) = body.get_mut("prompt") else {
        return Ok(());
    };
    // A graph that is given as text stays one, unless it has such an input.
    if let Value::String(text) = graph {
        let may_have = text.contains(SCHEME) || text.contains(&own);
        let Some(read) = may_have.then(|| serde_json::from_str(text).ok()).flatten() else {
            return Ok(());
        };
        *graph = read;
    }
    let mut found = Vec::new();
    texts(graph, &mut |text| {
        if text.starts_with(SCHEME) || text.starts_with(&own) {
            found.push(text.clone());
        }
    });
    let mut assets = HashMap::new();
    for text in found {
        if let Some(asset) = asset_of(context, &text, &own).await? {
            assets.insert(text, format!("asset:{asset}"));
        }
    }
    texts(graph, &mut |text| {
        if let Some(asset) = assets.get(text) {
            text.clone_from(asset);
        }
    });
    Ok(())
}

async fn asset_of(context: &Context, text: &str, own: &str) -> Result<Option<String>, ToolFailure> {
    if let Some(rest) = text.strip_prefix(own) {
        let id = rest.split_once("/content").map(|(id, _)| id);
        return Ok(id
            .and_then(|id| uuid::Uuid::parse_str(id).ok())
            .map(|id| id.to_string()));
    }
    // Another text that begins like one.
    let Some((job, index)) = parts(text) else {
        return Ok(None);
    };
    let view = context.state.jobs.view_run(job).await?;
    let mut outputs = view.into_iter().flat_map(|view| view.outputs);
    let output = outputs.find(|asset| asset.position == index);
    let missing = || {
        ToolFailure::unknown(format!(
            "there is no output \"{}\": the file has expired, or never was",
            quoted(text)
        ))
    };
    output.map(|asset| Some(asset.id)).ok_or_else(missing)
}

fn texts(value: &mut Value, visit: &mut dyn FnMut(&mut String)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter_mut().for_each(|item| texts(item, visit)),
        Value::Object(members) => members.values_mut().for_each(|item| texts(item, visit)),
        _ => {}
    }
}
