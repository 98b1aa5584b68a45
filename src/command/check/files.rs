//! What the start will read and write, looked at beforehand (faults.md, F18). Nothing is left
//! behind.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::{AmqpTlsConfig, Config, Env, WarmupSource};
use crate::net::tls;

/// Every problem with a file or folder that a variable names.
pub fn problems(config: &Config, env: &dyn Env) -> Vec<String> {
    let is_set = |name: &str| env.get(name).is_some_and(|value| !value.trim().is_empty());
    let mut problems = Vec::new();
    let mut note = |result: Result<(), String>| problems.extend(result.err());
    if let Some(WarmupSource::File(path)) = &config.comfy.warmup {
        note(
            graph(path)
                .map_err(|reason| format!("WARMUP_PROMPT_FILE={}: {reason}", path.display())),
        );
    }
    if is_set("FFMPEG_PATH") {
        note(program(&config.media.ffmpeg, env.get("PATH").as_deref()));
    }
    note(writable("CACHE_DIR", &config.storage.cache.dir));
    if let Some(dir) = &config.webhook.spool_dir {
        note(writable("WEBHOOK_SPOOL_DIR", dir));
    }
    if is_set("STATE_DIR")
        && let Some(dir) = &config.state.dir
    {
        note(writable("STATE_DIR", dir));
    }
    if is_set("COMFY_HOME") && !config.comfy.command.is_empty() && !config.comfy.home.is_dir() {
        note(Err(format!(
            "COMFY_HOME={} is not a folder: ComfyUI is started in it",
            config.comfy.home.display()
        )));
    }
    for (name, path) in [
        ("INPUT_DIR", &config.comfy.input_dir),
        ("OUTPUT_DIR", &config.comfy.output_dir),
        ("MODEL_DIR", &config.comfy.model_dir),
        ("WORKFLOW_DIR", &config.workflow.dir),
    ] {
        if path.exists() && !path.is_dir() {
            note(Err(format!("{name}={} is not a folder", path.display())));
        }
    }
    if let Some(path) = &config.storage.azure.federated_token_file {
        note(
            readable(path).map_err(|reason| {
                format!("AZURE_FEDERATED_TOKEN_FILE={}: {reason}", path.display())
            }),
        );
    }
    problems.extend(tls_problems(config));
    problems
}

/// The files of the connection to RabbitMQ: without them the start would try for ever.
pub fn tls_problems(config: &Config) -> Vec<String> {
    let AmqpTlsConfig {
        ca_file, identity, ..
    } = &config.amqp_tls;
    let mut problems = Vec::new();
    if let Some(path) = ca_file {
        let found = tls::certificates(path).err();
        problems
            .extend(found.map(|reason| format!("AMQP_TLS_CA_FILE (or AMQP_CA_FILE): {reason}")));
    }
    if let Some((certificate, key)) = identity {
        let found = tls::certificates(certificate).err();
        problems.extend(found.map(|reason| format!("AMQP_TLS_CERT_FILE: {reason}")));
        let found = tls::private_key(key).err();
        problems.extend(found.map(|reason| format!("AMQP_TLS_KEY_FILE: {reason}")));
    }
    problems
}

fn readable(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        return Err("it is a folder, not a file".to_owned());
    }
    std::fs::File::open(path)
        .map(drop)
        .map_err(|error| format!("cannot be read: {error}"))
}

/// A graph, a request body around one, or a workflow as the editor saves it.
fn graph(path: &Path) -> Result<(), String> {
    readable(path)?;
    let text = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let value: Value =
        serde_json::from_slice(text).map_err(|error| format!("is not JSON: {error}"))?;
    let inner = ["prompt", "workflow"]
        .into_iter()
        .find_map(|name| value.get(name));
    let inner = match inner {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
        Some(inner) => inner.clone(),
        None => value,
    };
    let is_node = |node: &Value| node.get("class_type").is_some_and(Value::is_string);
    let holds_graph = inner
        .as_object()
        .is_some_and(|graph| graph.values().any(is_node));
    if holds_graph || inner.get("nodes").is_some_and(Value::is_array) {
        return Ok(());
    }
    Err("holds neither a graph (API format) nor a workflow".to_owned())
}

fn program(path: &Path, search: Option<&str>) -> Result<(), String> {
    let runs = |path: &Path| {
        std::fs::metadata(path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let found = if path.components().count() > 1 {
        runs(path)
    } else {
        std::env::split_paths(search.unwrap_or_default()).any(|dir| runs(&dir.join(path)))
    };
    if found {
        return Ok(());
    }
    Err(format!("FFMPEG_PATH={} cannot be executed", path.display()))
}

/// Whether a folder can be made and written. What is made for this is removed again.
fn writable(name: &str, dir: &Path) -> Result<(), String> {
    let made: Vec<PathBuf> = dir
        .ancestors()
        .take_while(|ancestor| !ancestor.exists())
        .map(Path::to_path_buf)
        .collect();
    let file = dir.join(format!(".check-{}", uuid::Uuid::new_v4().simple()));
    let tried = std::fs::create_dir_all(dir).and_then(|()| std::fs::File::create_new(&file));
    let _ = std::fs::remove_file(&file);
    for dir in made {
        let _ = std::fs::remove_dir(dir);
    }
    tried.map(drop).map_err(|error| {
        format!(
            "{name}={} cannot be made or written: {error}",
            dir.display()
        )
    })
}
