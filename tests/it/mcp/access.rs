//! Who may ask: keys, pages in browsers, and which tools there are.

use serde_json::json;

use super::{STATELESS, call, refused, result, tool};
use crate::support::product::{Product, Stage};

#[tokio::test]
async fn a_key_is_asked_for_and_no_other_login() {
    let product = Product::start(&[("API_KEYS", "sesame")]).await;
    let list = || call(STATELESS, "tools/list", json!({}));
    let response = list().request(&product).send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["code"], "unauthorized");
    let wrong = list().with("authorization", "Bearer no").request(&product);
    assert_eq!(wrong.send().await.unwrap().status(), 401);
    for (name, value) in [("authorization", "Bearer sesame"), ("x-api-key", "sesame")] {
        let (status, messages) = list().with(name, value).send(&product).await;
        assert_eq!(status, 200);
        assert_eq!(messages[0]["result"]["cacheScope"], "private");
    }
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
    ] {
        assert_eq!(product.get(path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn only_our_own_pages_and_named_ones_may_ask() {
    let origin = "https://app.example";
    let product = Product::start(&[("CORS_ALLOWED_ORIGINS", origin)]).await;
    let own = product.url.clone();
    let list = |origin: &str| call(STATELESS, "tools/list", json!({})).with("origin", origin);
    for good in [own.as_str(), &own.replace("http:", "https:"), origin] {
        assert_eq!(list(good).send(&product).await.0, 200, "{good}");
    }
    for bad in [
        "https://evil.example",
        "http://127.0.0.1:1",
        "http://localhost",
        "null",
    ] {
        let response = list(bad).request(&product).send().await.unwrap();
        assert_eq!(response.status(), 403, "{bad}");
        assert_eq!(response.headers()["content-type"], "application/json");
    }
    let elsewhere = call(STATELESS, "tools/list", json!({})).with("host", "api.example");
    assert_eq!(elsewhere.send(&product).await.0, 200);
}

#[tokio::test]
async fn the_operator_says_which_tools_there_are() {
    let workflow = json!({
        "summary": "Mine",
        "prompt": crate::support::graphs::picture("mine"),
        "input": {"type": "object"},
        "bind": {}
    });
    let product = Stage::new()
        .env("MCP_TOOLS", "*,-run_graph,-*_model*")
        .file("workflows/mine.json", workflow.to_string())
        .start()
        .await;
    let tools = result(&product, "tools/list", json!({})).await;
    assert_eq!(
        (&tools["ttlMs"], &tools["cacheScope"]),
        (&json!(60_000), &json!("public"))
    );
    let names: Vec<&str> = tools["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "mine",
            "get_job",
            "cancel_job",
            "list_jobs",
            "search_nodes",
            "describe_node",
            "create_upload"
        ]
    );
    let hidden = call(
        STATELESS,
        "tools/call",
        json!({"name": "run_graph", "arguments": {"graph": {}}}),
    );
    assert_eq!(refused(&product, &hidden).await, (200, -32602));
    let mine = tool(&product, "mine", json!({})).await;
    assert_eq!(mine["structuredContent"]["status"], "succeeded");
}

#[tokio::test]
async fn no_argument_names_credentials_webhooks_or_targets() {
    let product = Product::start(&[]).await;
    let graph = crate::support::graphs::picture("x");
    for odd in [
        "credentials",
        "webhook",
        "webhook_v2",
        "s3",
        "http_upload",
        "extra_data",
        "id",
    ] {
        let refused = tool(&product, "run_graph", json!({"graph": graph, odd: {}})).await;
        assert_eq!(refused["isError"], true, "{odd}");
        assert!(
            super::texts(&refused).contains(&format!("input.{odd}: ")),
            "{refused}"
        );
    }
}
