//! The warmup prompt: loaded before ComfyUI starts, run through the ordinary pipeline before the
//! server is ready (process.md).

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};

use super::{App, Fatal};
use crate::comfy::Comfy;
use crate::config::{WarmupSource, public};
use crate::error::chain;
use crate::graph::embedded::{self, Preference};
use crate::graph::recognise::Recognised;
use crate::job::request::graph::{self, Workflow};
use crate::job::{Policy, PromptRequest, Source, Submission};
use crate::json;
use crate::limits::{is_large, off_runtime};
use crate::net::redirect;

/// A warmup prompt is a graph; tens of megabytes are a mistake.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Loads the warmup prompt, if there is one.
pub(super) async fn load(app: &App) -> Result<Option<Value>, Fatal> {
    let Some(source) = &app.config.comfy.warmup else {
        return Ok(None);
    };
    let (name, text) = match source {
        WarmupSource::File(path) => {
            let name = format!("WARMUP_PROMPT_FILE={}", path.display());
            let text = tokio::fs::read(path)
                .await
                .map_err(|error| Fatal(format!("cannot read {name}: {error}")))?;
            (name, text)
        }
        WarmupSource::Url(url) => {
            let name = format!("WARMUP_PROMPT_URL={}", public(url));
            let text = download(app, url)
                .await
                .map_err(|reason| Fatal(format!("cannot load {name}: {reason}")))?;
            (name, text)
        }
    };
    let prompt = off_runtime(is_large(text.len()), || prompt(text))
        .map_err(|reason| Fatal(format!("{name}: {reason}")))?;
    if let Some(checkpoint) = checkpoint(&prompt) {
        let _ = app.warmup_checkpoint.set(checkpoint);
    }
    Ok(Some(prompt))
}

async fn download(app: &App, url: &url::Url) -> Result<Vec<u8>, String> {
    let mut private = HeaderMap::new();
    if let Some(auth) = &app.config.storage.http_auth
        && let (Ok(name), Ok(value)) = (
            HeaderName::try_from(&auth.name),
            HeaderValue::try_from(auth.value.expose()),
        )
    {
        private.insert(name, value);
    }
    let sent = redirect::send(
        app.outbound.operator(),
        Method::GET,
        url,
        &HeaderMap::new(),
        &private,
    )
    .await;
    let (mut response, _) = sent.map_err(|error| chain(&error))?;
    if !response.status().is_success() {
        return Err(format!("the server answered {}", response.status()));
    }
    let mut text = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| chain(&error.without_url()))?
    {
        if text.len() + chunk.len() > MAX_BYTES {
            return Err(format!("it is larger than {MAX_BYTES} bytes"));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

/// A whole request body is accepted as well as a bare graph, a saved workflow, and a file that
/// holds one.
fn prompt(text: Vec<u8>) -> Result<Value, String> {
    let found = match json::members(&mut text.clone(), |_| json::Keep::All) {
        Ok(mut body) => {
            return match graph::take(&mut body) {
                Ok(Workflow::Api(document) | Workflow::Editor(document)) => Ok(document.into()),
                Err(failure) => Err(failure.to_string()),
            };
        }
        Err(_) => embedded::recognise_bytes(&text, Preference::Prompt)?,
    };
    match found {
        Recognised::Api(document) | Recognised::Ui(document) => Ok(document.into()),
    }
}

/// What workflow files know as `config.warmupCkpt`.
fn checkpoint(prompt: &Value) -> Option<String> {
    let saved = prompt
        .get("nodes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let loader = |node: &&Value| {
        node.get("type")
            .is_some_and(|t| t == "CheckpointLoaderSimple")
    };
    if let Some(node) = saved.clone().find(loader) {
        return node
            .pointer("/widgets_values/0")?
            .as_str()
            .map(str::to_owned);
    }
    let loader = prompt.as_object()?.values().find(|node| {
        node.get("class_type").and_then(Value::as_str) == Some("CheckpointLoaderSimple")
    })?;
    loader
        .pointer("/inputs/ckpt_name")?
        .as_str()
        .map(str::to_owned)
}

/// Runs it to its end.
pub(super) async fn run(app: &App, comfy: &Comfy, prompt: Value) -> Result<(), String> {
    let mut body = Map::new();
    body.insert("prompt".into(), prompt);
    let began = std::time::Instant::now();
    let request = PromptRequest::parse(body).map_err(|failure| failure.to_string())?;
    let mut running = app
        .service
        .begin(
            request,
            Submission {
                policy: Policy {
                    before_ready: true,
                    only: comfy.label(),
                    ..Policy::default()
                },
                ..Submission::new(Source::Warmup)
            },
        )
        .map_err(|failure| failure.to_string())?;
    running
        .done()
        .await
        .map_err(|failure| failure.to_string())?;
    tracing::info!(
        duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "warm"
    );
    Ok(())
}
