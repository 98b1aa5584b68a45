//! `comfyui-api mcp`: for clients that only start programs. Speaks MCP on stdin and stdout and
//! forwards to a running server.
//!
//! Each request is a connection of its own: cancelling a request, or the end of stdin, closes it,
//! and the server takes that for what it is. Nothing but messages goes to stdout.

mod events;
mod files;
mod forward;
mod graphs;
mod save;
mod stdio;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::config::Env;
use files::Folders;
use forward::Server;
use stdio::Output;

/// Where the server is, and what may be read and written here.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The server's address; by default http://127.0.0.1:$PORT/mcp. Its key is read from
    /// COMFYUI_API_KEY
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// A directory whose files may be handed to tools, and into which save_output may write; can
    /// be given several times
    #[arg(long, value_name = "DIR")]
    files: Vec<PathBuf>,
}

/// Forwards until stdin ends.
pub async fn run(arguments: Arguments, env: &dyn Env) -> ExitCode {
    match prepared(arguments, env) {
        Ok(bridge) => {
            bridge.serve().await;
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(2)
        }
    }
}

fn prepared(arguments: Arguments, env: &dyn Env) -> Result<Arc<Bridge>, String> {
    let url = match arguments.url {
        Some(url) if matches!(url.scheme(), "http" | "https") => url,
        Some(url) => {
            return Err(format!(
                "--url {url}: it must begin with http:// or https://"
            ));
        }
        None => {
            let port = env
                .get("PORT")
                .and_then(|port| port.trim().parse::<u16>().ok())
                .filter(|port| *port > 0)
                .unwrap_or(3000);
            let url = format!("http://127.0.0.1:{port}/mcp");
            Url::parse(&url).map_err(|error| error.to_string())?
        }
    };
    let key = env
        .get("COMFYUI_API_KEY")
        .map(|key| key.trim().to_owned())
        .filter(|key| !key.is_empty());
    Ok(Arc::new(Bridge {
        folders: Folders::open(&arguments.files)?,
        server: Server::new(url, key)?,
        output: Output::default(),
        in_flight: Mutex::default(),
    }))
}

/// Everything of one run.
struct Bridge {
    server: Server,
    folders: Folders,
    output: Output,
    /// By the id of the request.
    in_flight: Mutex<HashMap<String, CancellationToken>>,
}

impl Bridge {
    async fn serve(self: Arc<Self>) {
        let mut lines = stdio::lines();
        let tasks = TaskTracker::new();
        while let Some(line) = lines.recv().await {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match serde_json::from_slice(&line) {
                Ok(message) => self.take(message, &tasks),
                Err(error) => self.output.write(&json!({
                    "jsonrpc": "2.0",
                    "error": {
                        "code": -32700,
                        "message": format!("a line on stdin is not JSON: {error}")
                    },
                })),
            }
        }
        for (_, request) in self.lock().drain() {
            request.cancel();
        }
        tasks.close();
        tasks.wait().await;
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.in_flight.lock()
    }

    fn take(self: &Arc<Self>, message: Value, tasks: &TaskTracker) {
        let method = message
            .get("method")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let id = message.get("id").filter(|id| !id.is_null()).cloned();
        if method == "notifications/cancelled" {
            if let Some(request) = message.pointer("/params/requestId")
                && let Some(cancel) = self.lock().remove(&request.to_string())
            {
                cancel.cancel();
            }
            return;
        }
        let cancel = CancellationToken::new();
        let key = id.as_ref().map(Value::to_string);
        if let Some(key) = &key {
            self.lock().insert(key.clone(), cancel.clone());
        }
        let bridge = self.clone();
        tasks.spawn(async move {
            tokio::select! {
                // Whoever has cancelled wants no answer.
                () = cancel.cancelled() => {}
                () = bridge.answer(message, id) => {}
            }
            if let Some(key) = key {
                bridge.lock().remove(&key);
            }
        });
    }

    /// Sends a message on; what comes back is written as it comes.
    async fn answer(&self, mut message: Value, id: Option<Value>) {
        let method = message
            .get("method")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if method == "tools/call" {
            let name = message.pointer("/params/name").and_then(Value::as_str);
            if name == Some(save::NAME) && !self.folders.is_empty() {
                let result = save::call(&self.server, &self.folders, &message).await;
                return self.output.write(&answered(id.as_ref(), result));
            }
            if let Err(reason) = self.folders.hand_in(&self.server, &mut message).await {
                return self
                    .output
                    .write(&answered(id.as_ref(), tool_failure(&reason)));
            }
        }
        let mut write = |mut found: Value| {
            if method == "tools/list" && !self.folders.is_empty() {
                save::add_to(&mut found);
            }
            self.output.write(&found);
        };
        let sent = self.server.send(&message, &mut write).await;
        if let Err(reason) = sent {
            eprintln!("{reason}");
            if let Some(id) = id {
                self.output.write(&json!({
                    "jsonrpc": "2.0", "id": id,
                    "error": {"code": -32603, "message": reason},
                }));
            } else if message.is_array() {
                self.output.write(&refused_batch(&message, &reason));
            }
        }
    }
}

fn answered(id: Option<&Value>, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

/// A tool's result that says what went wrong here. What a later revision needs does no harm in the
/// earlier ones.
fn tool_failure(reason: &str) -> Value {
    json!({
        "resultType": "complete",
        "content": [{"type": "text", "text": reason}],
        "isError": true,
    })
}

fn refused_batch(batch: &Value, reason: &str) -> Value {
    let requests = batch.as_array().into_iter().flatten();
    let answers = requests.filter_map(|request| request.get("id")).map(
        |id| json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32603, "message": reason}}),
    );
    Value::Array(answers.collect())
}
