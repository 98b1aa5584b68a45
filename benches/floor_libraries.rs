//! The floor of `benches/floor.rs` once more, on the libraries that the product stands on: what a
//! wrapper takes that somebody would really write. It tells how much of our distance to the floor
//! is theirs.
//!
//! `floor_libraries PORT COMFYUI_PORT COMFYUI_HOME`
#![allow(
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "a measuring tool may stop at the first problem"
)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<()>>>>;

struct Wrapper {
    comfy: String,
    output: String,
    client: reqwest::Client,
    waiting: Waiting,
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().collect();
    let (port, comfy): (u16, u16) = (words[1].parse().unwrap(), words[2].parse().unwrap());
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .unwrap();
    let wrapper = Arc::new(Wrapper {
        comfy: format!("http://127.0.0.1:{comfy}"),
        output: format!("{}/output", words[3]),
        client: reqwest::Client::new(),
        waiting: watch(comfy).await,
    });
    let router = Router::new()
        .route("/ready", get(|| async { "ok" }))
        .route("/prompt", post(prompt))
        .with_state(wrapper);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
        .await
        .unwrap();
    axum::serve(listener, router).await.unwrap();
}

async fn prompt(State(wrapper): State<Arc<Wrapper>>, body: Bytes) -> Json<Value> {
    let mut request: Map<String, Value> = serde_json::from_slice(&body).unwrap();
    let id = uuid::Uuid::new_v4().to_string();
    let (ended, end) = oneshot::channel();
    wrapper.waiting.lock().unwrap().insert(id.clone(), ended);
    let graph = request.remove("prompt").unwrap();
    let submission = json!({"prompt": graph, "client_id": "libraries", "prompt_id": id});
    let Wrapper { comfy, client, .. } = &*wrapper;
    let accepted = client.post(format!("{comfy}/prompt")).json(&submission);
    accepted.send().await.unwrap().bytes().await.unwrap();
    end.await.unwrap();
    let history = client.get(format!("{comfy}/history/{id}")).send().await;
    let history: Value = history.unwrap().json().await.unwrap();
    let (mut names, mut images) = (Vec::new(), Vec::new());
    for node in history[&id]["outputs"].as_object().unwrap().values() {
        for image in node["images"].as_array().unwrap() {
            let name = image["filename"].as_str().unwrap();
            let path = format!("{}/{name}", wrapper.output);
            let bytes = tokio::fs::read(&path).await.unwrap();
            images.push(base64_simd::STANDARD.encode_to_string(bytes));
            names.push(name.to_owned());
            tokio::fs::remove_file(&path).await.unwrap();
        }
    }
    let delete = client.post(format!("{comfy}/history"));
    let delete = delete.json(&json!({"delete": [id]}));
    delete.send().await.unwrap().bytes().await.unwrap();
    Json(json!({"id": id, "prompt": submission["prompt"], "filenames": names, "images": images}))
}

/// The one websocket: tells who waits that his prompt has ended.
async fn watch(port: u16) -> Waiting {
    let waiting = Waiting::default();
    let url = format!("ws://127.0.0.1:{port}/ws?clientId=libraries");
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let known = waiting.clone();
    tokio::spawn(async move {
        while let Some(Ok(message)) = socket.next().await {
            let Ok(text) = message.to_text() else {
                continue;
            };
            let Ok(message) = serde_json::from_str::<Value>(text) else {
                continue;
            };
            if message["type"] == "executing"
                && message["data"]["node"].is_null()
                && let Some(id) = message["data"]["prompt_id"].as_str()
                && let Some(ended) = known.lock().unwrap().remove(id)
            {
                let _ = ended.send(());
            }
        }
    });
    waiting
}
