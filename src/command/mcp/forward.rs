//! The server behind the bridge.

use std::path::Path;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use parking_lot::Mutex;
use reqwest::{Body, Response};
use serde_json::{Map, Value, json};
use tokio_util::io::ReaderStream;
use url::Url;

use super::events::Events;
use crate::error::chain;

/// A server that has not taken the connection by then is not there.
const PATIENCE: Duration = Duration::from_secs(5);
/// After so long without an answer the server is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(6);
/// How long that may take.
const LIFE: Duration = Duration::from_secs(3);
const META_VERSION: &str = "/params/_meta/io.modelcontextprotocol~1protocolVersion";
const OWN_REVISION: &str = "2026-07-28";

/// A running server.
pub struct Server {
    http: reqwest::Client,
    url: Url,
    /// What a handshake has agreed on.
    agreed: Mutex<Option<String>>,
}

impl Server {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// When the key cannot be sent.
    pub fn new(url: Url, key: Option<String>) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        if let Some(key) = key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|_| "COMFYUI_API_KEY has characters that cannot be sent".to_owned())?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| format!("cannot set up connections: {}", chain(&error)))?;
        Ok(Self {
            http,
            url,
            agreed: Mutex::default(),
        })
    }

    /// Sends a message; everything that comes back is handed to `write`.
    ///
    /// # Errors
    /// One sentence, when the server cannot be reached or does not speak the protocol.
    pub async fn send(
        &self,
        message: &Value,
        write: &mut (dyn FnMut(Value) + Send),
    ) -> Result<(), String> {
        let sending = self
            .http
            .post(self.url.clone())
            .headers(self.headers(message))
            .json(message)
            .send();
        tokio::pin!(sending);
        let response = loop {
            tokio::select! {
                sent = &mut sending => break sent.map_err(|error| self.unreachable(&error))?,
                () = tokio::time::sleep(SILENCE) => self.check_life().await?,
            }
        };
        let status = response.status();
        let kind = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        if kind.starts_with("text/event-stream") {
            return self.stream(response, message, write).await;
        }
        let text = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(&error))?;
        if text.is_empty() && status.is_success() {
            return Ok(());
        }
        let found: Value = serde_json::from_slice(&text).unwrap_or_default();
        let speaks = found.get("jsonrpc").is_some() || found.is_array();
        if !speaks {
            return Err(self.refusal(status, &found));
        }
        if message.get("method").and_then(Value::as_str) == Some("initialize") {
            self.agree(&found);
        }
        write(found);
        Ok(())
    }

    async fn stream(
        &self,
        response: Response,
        message: &Value,
        write: &mut (dyn FnMut(Value) + Send),
    ) -> Result<(), String> {
        let mut events = Events::default();
        let mut pieces = response.bytes_stream();
        let mut answered = false;
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| self.unreachable(&error))?;
            for data in events.take(&piece) {
                let Ok(found) = serde_json::from_slice::<Value>(&data) else {
                    continue;
                };
                answered |= found.get("id").is_some() && found.get("id") == message.get("id");
                write(found);
            }
        }
        if answered {
            return Ok(());
        }
        Err(format!(
            "the server at {} has ended the connection before its answer: ask again",
            self.url
        ))
    }

    fn agree(&self, answer: &Value) {
        let version = answer
            .pointer("/result/protocolVersion")
            .and_then(Value::as_str);
        if let Some(version) = version {
            *self.agreed.lock() = Some(version.to_owned());
        }
    }

    /// The headers that repeat the message.
    fn headers(&self, message: &Value) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(&plain(value)) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        let method = message
            .get("method")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if let Some(version) = message.pointer(META_VERSION).and_then(Value::as_str) {
            add("mcp-protocol-version", version);
            add("mcp-method", method);
            let named = ["name", "uri", "taskId"]
                .iter()
                .find_map(|member| message.get("params")?.get(*member)?.as_str());
            if let Some(named) = named {
                add("mcp-name", named);
            }
        } else if method != "initialize"
            && let Some(version) = &*self.agreed.lock()
        {
            add("mcp-protocol-version", version);
        }
        headers
    }

    /// An answer may take as long as its job. Whether there is still somebody who works on it is
    /// asked beside it.
    async fn check_life(&self) -> Result<(), String> {
        let asked = self.http.get(self.beside("health")?).timeout(LIFE).send();
        match asked.await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> String {
        format!(
            "the server at {} cannot be reached ({}): start it, or say with --url where it is",
            self.url,
            chain(error)
        )
    }

    fn refusal(&self, status: StatusCode, body: &Value) -> String {
        let said = body
            .get("error")
            .and_then(Value::as_str)
            .unwrap_or("no word of the protocol");
        let what = match status {
            StatusCode::UNAUTHORIZED => {
                "it refuses the key: set COMFYUI_API_KEY to one of the server's API_KEYS"
            }
            StatusCode::NOT_FOUND => {
                "there is no MCP server at this address: check --url, and that the server runs \
                 with MCP=true"
            }
            _ => "it does not answer as an MCP server",
        };
        format!("{} said {status} ({said}): {what}", self.url)
    }

    /// Calls a method for the bridge itself.
    ///
    /// # Errors
    /// One sentence.
    pub async fn ask(&self, method: &str, mut params: Map<String, Value>) -> Result<Value, String> {
        params.insert(
            "_meta".into(),
            json!({
                "io.modelcontextprotocol/protocolVersion": OWN_REVISION,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": {
                    "name": "comfyui-api mcp",
                    "version": crate::VERSION
                },
            }),
        );
        let message = json!({"jsonrpc": "2.0", "id": 0, "method": method, "params": params});
        let mut answer = Value::Null;
        self.send(&message, &mut |found| answer = found).await?;
        if let Some(error) = answer.pointer("/error/message").and_then(Value::as_str) {
            return Err(error.to_owned());
        }
        Ok(answer
            .get_mut("result")
            .map(Value::take)
            .unwrap_or_default())
    }

    /// An address beside the server's own, such as `api/v2/assets`.
    fn beside(&self, path: &str) -> Result<Url, String> {
        self.url.join(path).map_err(|error| error.to_string())
    }

    /// Hands in a file; the answer is the asset's id.
    ///
    /// # Errors
    /// One sentence.
    pub async fn upload(&self, path: &Path, name: &str, kind: &str) -> Result<String, String> {
        let unreadable =
            |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let size = file.metadata().await.map_err(unreadable)?.len();
        let body = Body::wrap_stream(ReaderStream::new(file));
        let part =
            reqwest::multipart::Part::stream_with_length(body, size).file_name(name.to_owned());
        let form = reqwest::multipart::Form::new()
            .text("content_type", kind.to_owned())
            .text("file_path", name.to_owned())
            .part("file", part);
        let response = self
            .http
            .post(self.beside("api/v2/assets")?)
            .multipart(form)
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        match body.get("id").and_then(Value::as_str) {
            Some(id) if status.is_success() => Ok(id.to_owned()),
            _ => {
                let said = body.pointer("/error/message").and_then(Value::as_str);
                Err(format!(
                    "the server does not take {}: {status} {}",
                    path.display(),
                    said.unwrap_or_default()
                ))
            }
        }
    }

    /// Asks for something by its id, beside the protocol.
    ///
    /// # Errors
    /// One sentence.
    pub async fn show(&self, of: &str, id: &str) -> Result<Value, String> {
        let mut url = self.beside(of)?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(id);
        }
        let asked = self.http.get(url).send().await;
        let response = asked.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        if status.is_success() {
            return Ok(body);
        }
        let said = body.get("error").and_then(Value::as_str);
        let said = said.unwrap_or_default();
        Err(format!("the server said {status} for /{of}/{id}: {said}"))
    }

    /// Fetches a file by the address in a result, from the server that this bridge knows.
    ///
    /// # Errors
    /// One sentence.
    pub async fn download(&self, address: &str) -> Result<Response, String> {
        let given = Url::parse(address).map_err(|error| format!("{address}: {error}"))?;
        let path = given
            .path()
            .find("/api/v2/")
            .and_then(|at| given.path().get(at + 1..))
            .ok_or_else(|| format!("{address} is no address of an output"))?;
        let mut url = self.beside(path)?;
        url.set_query(given.query());
        let response = self
            .http
            .get(url)
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(format!(
            "the server said {} for {address}",
            response.status()
        ))
    }
}

/// What a header cannot hold goes in Base64.
fn plain(value: &str) -> String {
    let fits = value.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        && value.trim() == value
        && !(value.starts_with("=?base64?") && value.ends_with("?="));
    if fits {
        value.to_owned()
    } else {
        format!("=?base64?{}?=", STANDARD.encode(value))
    }
}
