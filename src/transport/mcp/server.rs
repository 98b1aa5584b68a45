//! Who we are, what we can do, and what every result has.

use rmcp::model::TASKS_EXTENSION_ID;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::revision::Revision;

const INSTRUCTIONS: &str = "This server runs ComfyUI workflows that make pictures, video and \
                            sound. Each workflow is a tool; its result holds a preview of every \
                            file, and a link to the file itself. run_graph runs a ComfyUI graph \
                            of your own: search_nodes, describe_node and list_models say what \
                            such a graph can be made of. A run that takes longer than the call \
                            answers with the status pending or running: it goes on, and get_job \
                            with its id gives the result. A file that you have is handed in with \
                            create_upload, or as a URL or data: URI; an output of an earlier run \
                            by its uri.";

/// How long lists may be kept, milliseconds.
pub const LISTS_LIVE_MS: u64 = 60_000;

fn info() -> Value {
    json!({"name": "comfyui-api", "title": "ComfyUI", "version": crate::VERSION})
}

fn capabilities() -> Value {
    json!({
        "tools": {"listChanged": true},
        "resources": {},
        "extensions": {TASKS_EXTENSION_ID: {}},
    })
}

/// Who may keep a list: with keys not everybody sees it.
pub fn cache_scope(context: &Context) -> &'static str {
    if context.state.rest.config.server.api_keys.is_empty() {
        "public"
    } else {
        "private"
    }
}

/// `initialize`; the request has said which revision.
pub fn initialize(params: &Map<String, Value>) -> Value {
    let wanted = params
        .get("protocolVersion")
        .and_then(Value::as_str)
        .unwrap_or_default();
    json!({
        "protocolVersion": Revision::of_handshake(wanted).as_str(),
        "capabilities": capabilities(),
        "serverInfo": info(),
        "instructions": INSTRUCTIONS,
    })
}

/// `server/discover`
pub fn discover(context: &Context) -> Value {
    json!({
        "supportedVersions": Revision::ALL.map(Revision::as_str),
        "capabilities": capabilities(),
        "instructions": INSTRUCTIONS,
        "ttlMs": LISTS_LIVE_MS,
        "cacheScope": cache_scope(context),
    })
}

/// A result as the revision of its request has it.
pub fn finished(context: &Context, result: Value) -> Value {
    let Value::Object(mut members) = result else {
        return result;
    };
    if context.revision.is_stateless() {
        members
            .entry("resultType")
            .or_insert_with(|| "complete".into());
        let meta = members.entry("_meta").or_insert_with(|| json!({}));
        if let Some(meta) = meta.as_object_mut() {
            meta.insert("io.modelcontextprotocol/serverInfo".into(), info());
        }
        return members.into();
    }
    for newer in ["resultType", "ttlMs", "cacheScope"] {
        members.shift_remove(newer);
    }
    if context.revision == Revision::V2025_03_26
        && let Some(Value::Array(content)) = members.get_mut("content")
    {
        content.iter_mut().for_each(without_links);
    }
    members.into()
}

/// The oldest revision has no links in results: a text says the same.
fn without_links(block: &mut Value) {
    if block.get("type").and_then(Value::as_str) != Some("resource_link") {
        return;
    }
    let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
    let size = block
        .get("size")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    let said = format!(
        "File {} ({}, {size} bytes): {}",
        text("name"),
        text("mimeType"),
        text("uri")
    );
    *block = json!({"type": "text", "text": said});
}
