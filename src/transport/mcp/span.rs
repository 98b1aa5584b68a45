//! The span of a request, and the trace context that it brings.

use serde_json::{Map, Value};

use super::revision::Revision;
use crate::limits::text::quoted;
use crate::telemetry::trace::{self, Kind, Span, names};

/// Begins it. What `_meta` says wins over the HTTP header, whose context is linked to.
pub fn begin(revision: Revision, id: &Value, method: &str, params: &Map<String, Value>) -> Span {
    let of_http = trace::current();
    let of_meta = of_meta(params);
    let linked = of_meta.is_some();
    let parent = of_meta.or_else(|| of_http.clone());
    let mut span = Span::begin("mcp", Kind::Server, parent.as_ref());
    if !span.is_recorded() {
        return span;
    }
    if let Some(of_http) = of_http.filter(|_| linked) {
        span.link(of_http);
    }
    let tool = params
        .get("name")
        .and_then(Value::as_str)
        .filter(|_| method == "tools/call")
        .map(|name| quoted(name).into_owned());
    span.set(names::MCP_METHOD, method.to_owned());
    span.set(names::MCP_VERSION, revision.as_str());
    span.set(names::NETWORK_TRANSPORT, "tcp");
    let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    span.set(names::JSONRPC_ID, id);
    match tool {
        Some(tool) => {
            span.rename(|| format!("{method} {tool}"));
            span.set(names::GEN_AI_OPERATION, "execute_tool");
            span.set(names::GEN_AI_TOOL, tool);
        }
        None => span.rename(|| method.to_owned()),
    }
    span
}

/// Notes how it ended.
pub fn end(span: &mut Span, message: &Value) {
    if !span.is_recorded() {
        return;
    }
    if let Some(code) = message.pointer("/error/code").and_then(Value::as_i64) {
        span.fail(code.to_string());
    } else if message.pointer("/result/isError") == Some(&Value::Bool(true)) {
        span.fail("tool_error");
    }
}

fn of_meta(params: &Map<String, Value>) -> Option<trace::Context> {
    let meta = params.get("_meta")?.as_object()?;
    let text = |name: &str| meta.get(name).and_then(Value::as_str);
    trace::Context::parse(text("traceparent")?, text("tracestate"))
}
