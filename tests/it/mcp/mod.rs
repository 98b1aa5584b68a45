//! Tools for agents (docs/contract/mcp.md): raw HTTP, and the official clients.

mod access;
mod bridge;
mod files;
pub mod peers;
mod protocol;
mod runs;
mod seen;
mod tools;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::product::Product;

pub const STATELESS: &str = "2026-07-28";
pub const HANDSHAKES: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// A request as a client sends it.
pub struct Call {
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

/// A request of a revision.
pub fn call(revision: &str, method: &str, mut params: Value) -> Call {
    let mut headers = vec![(
        "accept".to_owned(),
        "application/json, text/event-stream".to_owned(),
    )];
    let mut add = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
    if method != "initialize" {
        add("mcp-protocol-version", revision);
    }
    if revision == STATELESS {
        add("mcp-method", method);
        for member in ["name", "uri", "taskId"] {
            if let Some(named) = params[member].as_str() {
                add("mcp-name", named);
            }
        }
        params["_meta"][META_VERSION] = revision.into();
        if params["_meta"][META_CAPABILITIES].is_null() {
            params["_meta"][META_CAPABILITIES] = json!({});
        }
    }
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    Call { headers, body }
}

impl Call {
    /// Without a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// With another value of a header.
    pub fn with(self, name: &str, value: &str) -> Self {
        let mut call = self.without(name);
        call.headers.push((name.to_owned(), value.to_owned()));
        call
    }

    /// Ready to be sent.
    pub fn request(&self, product: &Product) -> reqwest::RequestBuilder {
        let mut request = product
            .http
            .post(format!("{}/mcp", product.url))
            .header("content-type", "application/json");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(self.body.to_string())
    }

    /// Status and messages; a stream's are all of them.
    pub async fn send(&self, product: &Product) -> (u16, Vec<Value>) {
        let response = self.request(product).send().await.unwrap();
        assert!(!response.headers().contains_key("mcp-session-id"));
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type").cloned();
        let stream = kind
            .as_ref()
            .is_some_and(|kind| kind == "text/event-stream");
        if stream {
            assert_eq!(response.headers()["x-accel-buffering"], "no");
        }
        let text = response.text().await.unwrap();
        if stream {
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            return (
                status,
                data.map(|data| serde_json::from_str(data).unwrap())
                    .collect(),
            );
        }
        if text.is_empty() {
            return (status, Vec::new());
        }
        assert_eq!(kind.unwrap(), "application/json", "{text}");
        (status, vec![serde_json::from_str(&text).unwrap()])
    }
}

/// The result of a request of the newest revision.
pub async fn result(product: &Product, method: &str, params: Value) -> Value {
    let (status, messages) = call(STATELESS, method, params).send(product).await;
    let last = messages.last().unwrap();
    assert_eq!((status, &last["id"]), (200, &json!(7)), "{last}");
    assert!(last["error"].is_null(), "{last}\n{}", product.log.text());
    last["result"].clone()
}

/// The result of a tool.
pub async fn tool(product: &Product, name: &str, arguments: Value) -> Value {
    result(
        product,
        "tools/call",
        json!({"name": name, "arguments": arguments}),
    )
    .await
}

/// The structured result of a tool that succeeds.
pub async fn structured(product: &Product, name: &str, arguments: Value) -> Value {
    let result = tool(product, name, arguments).await;
    assert!(result["isError"].is_null(), "{result}");
    let text = result["content"][0]["text"].as_str().unwrap();
    let structured = result["structuredContent"].clone();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), structured);
    structured
}

/// All texts of a result.
pub fn texts(result: &Value) -> String {
    let blocks = result["content"].as_array().unwrap();
    let texts = blocks.iter().filter_map(|block| block["text"].as_str());
    texts.collect::<Vec<_>>().join("\n")
}

/// The code of an error that is the whole answer.
pub async fn refused(product: &Product, call: &Call) -> (u16, i64) {
    let (status, messages) = call.send(product).await;
    (
        status,
        messages[0]["error"]["code"].as_i64().unwrap_or_default(),
    )
}

/// Waits until a job has this status.
pub async fn until_status(product: &Product, id: &str, status: &str) -> Value {
    crate::support::product::until(&format!("{id} is {status}"), async || {
        let job = tool(product, "get_job", json!({"id": id})).await;
        (job["structuredContent"]["status"] == status).then_some(job)
    })
    .await
}

pub const MOMENT: Duration = Duration::from_millis(300);
