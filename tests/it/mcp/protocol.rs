//! Both eras on one path: revisions, errors, what there is not.

use serde_json::{Value, json};

use super::{HANDSHAKES, META_VERSION, STATELESS, call, refused, result};
use crate::support::product::{Product, Stage};

#[tokio::test]
async fn every_revision_is_spoken_without_sessions() {
    let product = Product::start(&[]).await;
    for revision in HANDSHAKES {
        let hello = json!({
            "protocolVersion": revision,
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"}
        });
        let (status, messages) = call(revision, "initialize", hello).send(&product).await;
        let hello = &messages[0]["result"];
        assert_eq!(status, 200);
        assert_eq!(hello["protocolVersion"], revision);
        assert_eq!(hello["serverInfo"]["name"], "comfyui-api");
        assert_eq!(hello["serverInfo"]["version"], env!("CARGO_PKG_VERSION"));
        let said = hello["instructions"].as_str().unwrap();
        assert!(said.contains("run_graph") && said.contains("get_job"));
        let can = &hello["capabilities"];
        assert_eq!(can["tools"]["listChanged"], true);
        assert!(can["resources"].is_object());
        for other in ["prompts", "logging", "sampling", "roots"] {
            assert!(can[other].is_null());
        }
        // No further message is needed, and none is remembered.
        let (status, messages) = call(revision, "tools/list", json!({})).send(&product).await;
        assert_eq!(status, 200);
        assert!(messages[0]["result"]["resultType"].is_null());
        assert!(messages[0]["result"]["tools"].as_array().unwrap().len() >= 9);
        let (status, messages) = call(revision, "ping", json!({})).send(&product).await;
        assert_eq!((status, &messages[0]["result"]), (200, &json!({})));
    }
    for wanted in ["2024-11-05", "1999-01-01", STATELESS] {
        let hello = json!({
            "protocolVersion": wanted,
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"}
        });
        let (_, messages) = call(wanted, "initialize", hello).send(&product).await;
        assert_eq!(
            messages[0]["result"]["protocolVersion"], "2025-11-25",
            "{wanted}"
        );
    }
    let found = result(&product, "server/discover", json!({})).await;
    assert_eq!(found["resultType"], "complete");
    assert_eq!(
        found["supportedVersions"],
        json!(["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"])
    );
    assert!(found["capabilities"]["extensions"]["io.modelcontextprotocol/tasks"].is_object());
    assert_eq!(
        found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
        "comfyui-api"
    );
    // Without a header it is the oldest one.
    let bare = call("2025-03-26", "tools/list", json!({})).without("mcp-protocol-version");
    assert_eq!(bare.send(&product).await.0, 200);
}

#[tokio::test]
async fn errors_follow_the_revision() {
    let product = Product::start(&[("MAX_BODY_SIZE_MB", "0.1")]).await;
    let list = || call(STATELESS, "tools/list", json!({}));
    let get = || call(STATELESS, "tools/call", json!({"name": "list_jobs"}));
    let mismatch = (400, -32020);
    for (case, wrong) in [
        ("no version", list().without("mcp-protocol-version")),
        (
            "another version",
            list().with("mcp-protocol-version", "2025-11-25"),
        ),
        ("no method", list().without("mcp-method")),
        ("another method", list().with("mcp-method", "tools/call")),
        ("no name", get().without("mcp-name")),
        ("another name", get().with("mcp-name", "get_job")),
        ("bad Base64", get().with("mcp-name", "=?base64?!?=")),
    ] {
        assert_eq!(refused(&product, &wrong).await, mismatch, "{case}");
    }
    let good = get().with("mcp-name", "=?base64?bGlzdF9qb2Jz?=");
    assert_eq!(good.send(&product).await.0, 200);
    let hello = json!({
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"}
    });
    let odd = call("2025-06-18", "initialize", hello).with("mcp-protocol-version", "2025-11-25");
    assert_eq!(refused(&product, &odd).await, mismatch);

    let mut future = list().with("mcp-protocol-version", "2099-01-01");
    future.body["params"]["_meta"][META_VERSION] = "2099-01-01".into();
    let (status, messages) = future.send(&product).await;
    assert_eq!(
        (status, &messages[0]["error"]["code"]),
        (400, &json!(-32022))
    );
    assert_eq!(messages[0]["error"]["data"]["supported"][0], STATELESS);
    assert_eq!(messages[0]["id"], 7);
    let future = call("2099-01-01", "tools/list", json!({}));
    assert_eq!(refused(&product, &future).await, (400, -32022));
    let old = call("2024-11-05", "tools/list", json!({}));
    assert_eq!(refused(&product, &old).await, (400, -32022));

    let mut bare = list();
    bare.body["params"] = json!({});
    assert_eq!(refused(&product, &bare).await, (400, -32602));
    let mut half = list();
    half.body["params"]["_meta"] = json!({META_VERSION: STATELESS});
    assert_eq!(refused(&product, &half).await, (400, -32602));

    for method in [
        "prompts/list",
        "logging/setLevel",
        "roots/list",
        "sampling/createMessage",
        "initialise",
        "ping",
    ] {
        let unknown = call(STATELESS, method, json!({}));
        assert_eq!(refused(&product, &unknown).await, (404, -32601), "{method}");
    }
    for method in [
        "prompts/list",
        "logging/setLevel",
        "server/nope",
        "tasks/get",
    ] {
        let unknown = call("2025-11-25", method, json!({}));
        assert_eq!(refused(&product, &unknown).await, (200, -32601), "{method}");
    }
    let unknown = call(STATELESS, "tools/call", json!({"name": "nope"}));
    assert_eq!(refused(&product, &unknown).await, (200, -32602));
    let unknown = call(
        STATELESS,
        "resources/read",
        json!({"uri": "comfyui://nope"}),
    );
    assert_eq!(refused(&product, &unknown).await, (200, -32602));
    let unknown = call(STATELESS, "tasks/get", json!({"taskId": "nope"}));
    assert_eq!(refused(&product, &unknown).await, (200, -32602));
    let cursor = call(STATELESS, "tools/list", json!({"cursor": "nope"}));
    assert_eq!(refused(&product, &cursor).await, (200, -32602));

    for (text, expected) in [
        ("{\"jsonrpc\": ", (400, -32700)),
        ("", (400, -32700)),
        ("7", (400, -32600)),
        ("{\"id\": 1, \"method\": \"ping\"}", (400, -32600)),
        (
            "{\"jsonrpc\": \"2.0\", \"id\": 1.5, \"method\": \"ping\"}",
            (400, -32600),
        ),
        (
            "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"tools/list\", \"params\": 5}",
            (400, -32602),
        ),
    ] {
        let sent = product.http.post(format!("{}/mcp", product.url)).body(text);
        let response = sent.send().await.unwrap();
        let status = response.status().as_u16();
        assert_eq!(response.headers()["content-type"], "application/json");
        let body: Value = response.json().await.unwrap();
        assert_eq!(
            (status, body["error"]["code"].as_i64().unwrap()),
            expected,
            "{text}"
        );
    }
    let large = call(STATELESS, "tools/list", json!({"x": "y".repeat(200_000)}));
    assert_eq!(refused(&product, &large).await.0, 413);
}

#[tokio::test]
async fn there_is_one_way_in() {
    let product = Product::start(&[]).await;
    for method in ["GET", "DELETE"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let response = product
            .http
            .request(method, format!("{}/mcp", product.url))
            .header("accept", "text/event-stream")
            .header("mcp-session-id", "x")
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["allow"], "POST");
    }
    for note in ["notifications/initialized", "notifications/cancelled"] {
        let mut note = call("2025-11-25", note, json!({"requestId": 1}));
        note.body.as_object_mut().unwrap().remove("id");
        assert_eq!(note.send(&product).await, (202, Vec::new()));
    }
    let off = Product::start(&[("MCP", "false")]).await;
    let (status, body) = off.post("/mcp", &json!({})).await;
    assert_eq!((status, &body["code"]), (404, &json!("not_found")));
}

#[tokio::test]
async fn the_oldest_revision_has_batches_and_no_links() {
    let product = Product::start(&[]).await;
    let graph = crate::support::graphs::picture("batch");
    let run = json!({
        "jsonrpc": "2.0",
        "id": "run",
        "method": "tools/call",
        "params": {"name": "run_graph", "arguments": {"graph": graph}}
    });
    let mut batch = call("2025-03-26", "ping", json!({}));
    batch.body = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "nope"},
        run,
    ]);
    let (status, messages) = batch.send(&product).await;
    assert_eq!(status, 200);
    let answers = messages[0].as_array().unwrap();
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0], json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    assert_eq!(answers[1]["error"]["code"], -32601);
    let content = answers[2]["result"]["content"].as_array().unwrap();
    let kinds: Vec<&str> = content
        .iter()
        .map(|block| block["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["text", "image", "text"]);
    assert!(
        content[2]["text"]
            .as_str()
            .unwrap()
            .contains("comfyui://jobs/")
    );
    batch.body = json!([]);
    assert_eq!(refused(&product, &batch).await, (400, -32600));
    batch.body = vec![json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}); 51].into();
    assert_eq!(refused(&product, &batch).await, (400, -32600));
    let mut later = call("2025-06-18", "ping", json!({}));
    later.body = json!([{"jsonrpc": "2.0", "id": 1, "method": "ping"}]);
    assert_eq!(refused(&product, &later).await, (400, -32600));
}

#[tokio::test]
async fn listeners_are_told_of_other_tools() {
    let stage = Stage::new().env("WORKFLOW_WATCH", "true");
    let product = stage.start().await;
    let filter = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true}});
    let request = call(STATELESS, "subscriptions/listen", filter).request(&product);
    let mut response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    let mut next = async || {
        loop {
            if let Some((frame, rest)) = text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                text = rest;
                if let Some(data) = frame.lines().find_map(|line| line.strip_prefix("data: ")) {
                    return Some(serde_json::from_str::<Value>(data).unwrap());
                }
                continue;
            }
            let piece = response.chunk().await.unwrap()?;
            text.push_str(&String::from_utf8_lossy(&piece));
        }
    };
    let first = next().await.unwrap();
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(
        first["params"]["notifications"],
        json!({"toolsListChanged": true})
    );
    assert_eq!(
        first["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        7
    );
    std::fs::write(
        product.path("workflows/new.json"),
        json!({
            "prompt": crate::support::graphs::picture("new"),
            "input": {"type": "object"},
            "bind": {}
        })
        .to_string(),
    )
    .unwrap();
    let second = next().await.unwrap();
    assert_eq!(second["method"], "notifications/tools/list_changed");
    assert_eq!(
        second["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        7
    );
    let tools = result(&product, "tools/list", json!({})).await;
    assert_eq!(tools["tools"][0]["name"], "new");
    assert_eq!(product.post("/restart", &json!(null)).await.0, 202);
    assert_eq!(
        next().await.unwrap()["method"],
        "notifications/tools/list_changed"
    );
    product.until_ready().await;
    product.signal(nix::sys::signal::Signal::SIGTERM);
    let last = next().await.unwrap();
    assert_eq!(
        (&last["id"], &last["result"]["resultType"]),
        (&json!(7), &json!("complete"))
    );
}
