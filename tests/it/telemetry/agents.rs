//! Requests of agents over MCP: their span, and the context that `_meta` brings.

use serde_json::{Value, json};

use super::{CALLER, PARENT, TRACE, stage};
use crate::delivered::{failing, picture};
use crate::support::collector::{Collector, one};
use crate::support::product::Product;

/// A context in `_meta`, of another trace than the header's.
const META: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn call(product: &Product, id: u64, graph: &Value, meta: Option<&str>) -> Value {
    let mut params = json!({"name": "run_graph", "arguments": {"graph": graph}});
    if let Some(meta) = meta {
        params["_meta"] = json!({"traceparent": meta});
    }
    let answer = product
        .http
        .post(format!("{}/mcp", product.url))
        .header("mcp-protocol-version", "2025-06-18")
        .header("accept", "application/json, text/event-stream")
        .header("traceparent", PARENT)
        .json(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_has_a_span_and_its_prompt_is_below() {
    let collector = Collector::start().await;
    let product = collector.stage(stage()).start().await;
    let answer = call(&product, 7, &picture(1), Some(META)).await;
    assert!(answer["result"]["isError"] != json!(true), "{answer}");
    let spans = collector
        .wait_for("prompt and tool", |spans| {
            let has = |name: &str| spans.iter().any(|span| span.name == name);
            has("prompt") && has("tools/call run_graph")
        })
        .await;
    let tool = one(&spans, "tools/call run_graph");
    assert_eq!((&*tool.trace, &*tool.parent), (&META[3..35], &META[36..52]));
    assert_eq!(tool.links, [TRACE]);
    assert_eq!(tool.kind, "SERVER");
    for (name, value) in [
        ("mcp.method.name", "tools/call"),
        ("gen_ai.tool.name", "run_graph"),
        ("gen_ai.operation.name", "execute_tool"),
        ("mcp.protocol.version", "2025-06-18"),
        ("jsonrpc.request.id", "7"),
        ("network.transport", "tcp"),
    ] {
        tool.has(name, value);
    }
    assert!(!tool.failed);
    let prompt = one(&spans, "prompt");
    assert_eq!(prompt.parent, tool.id);
    prompt.has("comfyui.source", "mcp");
    assert!(!spans.iter().any(|span| span.name.starts_with("POST")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_fails_says_so() {
    let collector = Collector::start().await;
    let product = collector.stage(stage()).start().await;
    let answer = call(&product, 8, &failing(), None).await;
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    let spans = collector.wait("tools/call run_graph").await;
    let tool = one(&spans, "tools/call run_graph");
    assert_eq!((&*tool.trace, &*tool.parent), (TRACE, CALLER));
    assert!(tool.links.is_empty() && tool.failed);
    tool.has("error.type", "tool_error");
}
