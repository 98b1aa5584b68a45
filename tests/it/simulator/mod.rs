//! The built-in ComfyUI against the observed runs of comfyui.md section 11: the letters are those
//! of the runs.

mod endpoints;
mod faults;
mod process;
mod refusals;
mod runs;

use std::path::Path;
use std::time::Duration;

use comfyui_api::simulator::{Args, Simulator};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::graphs::batch;

const PATIENCE: Duration = Duration::from_secs(20);
const OLD: &[&str] = &["--imitate", "0.3.64"];

struct Stand {
    simulator: Simulator,
    http: reqwest::Client,
    base: TempDir,
}

impl Stand {
    async fn start(flags: &[&str]) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let base = TempDir::new().unwrap();
        let mut args = Args::from_words(flags.iter().copied()).unwrap();
        args.base_directory = Some(base.path().to_path_buf());
        let simulator = Simulator::start(args).await.unwrap();
        Self {
            simulator,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            base,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.base.path().join(name)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let response = self
            .http
            .get(format!("{}{path}", self.simulator.url()))
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn get_json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn post_text(&self, path: &str, body: String) -> (u16, String) {
        let response = self
            .http
            .post(format!("{}{path}", self.simulator.url()))
            .body(body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, body) = self.post_text(path, body.to_string()).await;
        (
            status,
            serde_json::from_str(&body).unwrap_or(Value::String(body)),
        )
    }

    async fn submit(&self, graph: &Value, client: &str) -> String {
        let (status, body) = self
            .post("/prompt", &json!({"prompt": graph, "client_id": client}))
            .await;
        assert_eq!((status, &body["node_errors"]), (200, &json!({})), "{body}");
        body["prompt_id"].as_str().unwrap().to_owned()
    }

    async fn listen(&self, client: &str) -> Listener {
        let stream = TcpStream::connect(self.simulator.address()).await.unwrap();
        let url = format!("ws://{}/ws?clientId={client}", self.simulator.address());
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        Listener { socket }
    }

    /// Asks until the prompt is in the history.
    async fn outcome(&self, id: &str) -> Value {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let mut entry = self.get_json(&format!("/history/{id}")).await;
                if let Some(entry) = entry.get_mut(id) {
                    return entry.take();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("no history entry in time")
    }

    /// Asks until that many prompts are running or waiting.
    async fn until_running(&self, id: &str) {
        tokio::time::timeout(PATIENCE, async {
            while self.get_json("/queue").await["queue_running"][0][1] != id {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the prompt never ran");
    }
}

struct Listener {
    socket: WebSocketStream<TcpStream>,
}

impl Listener {
    async fn next(&mut self) -> Option<Message> {
        tokio::time::timeout(PATIENCE, self.socket.next())
            .await
            .expect("no message in time")
            .and_then(Result::ok)
    }

    async fn json(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.next().await.expect("the socket ended") {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// Everything up to the end of a prompt.
    async fn run(&mut self, id: &str) -> Vec<Value> {
        let mut messages = Vec::new();
        loop {
            let message = self.json().await;
            let over = message["type"] == "executing"
                && message["data"]["node"].is_null()
                && message["data"]["prompt_id"] == id;
            messages.push(message);
            if over {
                return messages;
            }
        }
    }
}

/// A message in the short form of section 11.
fn short(message: &Value) -> String {
    let (kind, data) = (message["type"].as_str().unwrap(), &message["data"]);
    match kind {
        "status" => format!("status {}", data["status"]["exec_info"]["queue_remaining"]),
        "executing" | "executed" => format!("{kind} {}", data["node"].as_str().unwrap_or("null")),
        "execution_cached" => format!("cached {}", data["nodes"]),
        "progress" => format!("progress {}/{}", data["value"], data["max"]),
        "progress_state" => {
            let nodes = data["nodes"].as_object().unwrap();
            let states: Vec<String> = nodes
                .iter()
                .map(|(id, node)| format!("{id} {}", node["state"].as_str().unwrap()))
                .collect();
            format!("state {}", states.join(", "))
        }
        kind => kind.to_owned(),
    }
}

fn shorts(messages: &[Value]) -> Vec<String> {
    messages.iter().map(short).collect()
}

fn without_states(messages: &[Value]) -> Vec<String> {
    shorts(messages)
        .into_iter()
        .filter(|text| !text.starts_with("state"))
        .collect()
}

fn simple(prefix: &str) -> Value {
    json!({"1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}
    },
           "2": {
               "class_type": "SaveImage",
               "inputs": {"images": ["1", 0], "filename_prefix": prefix}
           }})
}

fn sleeper(seconds: f64, steps: u32) -> Value {
    json!({"7": {"class_type": "SimSleep", "inputs": {"seconds": seconds, "steps": steps}}})
}

fn sampling(steps: u32) -> Value {
    batch(steps, 2, "ComfyUI")
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}
