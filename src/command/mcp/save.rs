//! `save_output`: the one tool of the bridge itself. Writes the files of a job into a directory of
//! `--files`.

use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;

use super::files::Folders;
use super::forward::Server;
use super::tool_failure;

/// What it is called.
pub const NAME: &str = "save_output";

/// Files that a result describes.
const DESCRIBED: usize = 300;

/// Lists it behind the server's own tools.
pub fn add_to(answer: &mut Value) {
    let Some(result) = answer.get_mut("result").and_then(Value::as_object_mut) else {
        return;
    };
    if result.contains_key("nextCursor") {
        return;
    }
    if let Some(Value::Array(tools)) = result.get_mut("tools") {
        tools.push(described());
    }
}

fn described() -> Value {
    json!({
        "name": NAME,
        "title": "Save the files of a job",
        "description": "Writes the files of a job, or the one with this index, into a directory \
                        of this machine, never over an existing file. Returns the paths.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "id": {"type": "string", "description": "The id of the job."},
                "index": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "Only the output with this index."
                },
                "directory": {
                    "type": "string",
                    "description": "One of the directories that were given with --files, or one in \
                                    it."
                },
            },
            "required": ["id", "directory"],
            "additionalProperties": false,
        },
        "outputSchema": {
            "type": "object",
            "properties": {"paths": {"type": "array", "items": {"type": "string"}}},
            "required": ["paths"],
        },
        "annotations": {
            "title": "Save the files of a job",
            "readOnlyHint": false,
            "destructiveHint": false,
            "idempotentHint": false,
            "openWorldHint": false,
        },
    })
}

/// Calls it; the answer is a tool's result.
pub async fn call(server: &Server, folders: &Folders, message: &Value) -> Value {
    match saved(server, folders, message).await {
        Ok(paths) => {
            let structured = json!({"paths": paths});
            json!({
                "resultType": "complete",
                "content": [{"type": "text", "text": structured.to_string()}],
                "structuredContent": structured,
            })
        }
        Err(reason) => tool_failure(&reason),
    }
}

async fn saved(server: &Server, folders: &Folders, message: &Value) -> Result<Vec<String>, String> {
    let argument = |name: &str| message.get("params")?.get("arguments")?.get(name);
    let text = |name: &str| {
        argument(name)
            .and_then(Value::as_str)
            .ok_or_else(|| format!("input.{name}: it must be a text"))
    };
    let (id, directory) = (text("id")?, text("directory")?);
    let index = match argument("index") {
        None | Some(Value::Null) => None,
        Some(index) => Some(
            index
                .as_u64()
                .ok_or("input.index: it must be a whole number")?,
        ),
    };
    let directory = folders.to_write(directory)?;
    let files = outputs(server, id).await?;
    let chosen: Vec<&Value> = files
        .iter()
        .filter(|file| index.is_none_or(|index| file["index"].as_u64() == Some(index)))
        .collect();
    if chosen.is_empty() {
        return Err(match index {
            Some(index) => format!("job {id} has no output {index}"),
            None => format!("job {id} has no files"),
        });
    }
    let mut paths = Vec::with_capacity(chosen.len());
    for file in chosen {
        let text = |name: &str| file.get(name).and_then(Value::as_str).unwrap_or_default();
        let path = fetch(server, text("url"), &directory, text("filename")).await?;
        paths.push(path.to_string_lossy().into_owned());
    }
    Ok(paths)
}

async fn outputs(server: &Server, id: &str) -> Result<Vec<Value>, String> {
    let params = Map::from_iter([
        ("name".to_owned(), json!("get_job")),
        ("arguments".to_owned(), json!({"id": id})),
    ]);
    let result = server.ask("tools/call", params).await?;
    let job = result.get("structuredContent").cloned().unwrap_or_default();
    match job.get("status").and_then(Value::as_str) {
        Some("pending" | "running") => Err(format!("job {id} has not ended yet")),
        Some(_) => {
            let files = job["outputs"].as_array().cloned().unwrap_or_default();
            if files.len() < DESCRIBED {
                return Ok(files);
            }
            // A result describes no more: the record of the run has all.
            let run = server.show("history", id).await?;
            Ok(run["outputs"].as_array().cloned().unwrap_or(files))
        }
        None => {
            let said = result.pointer("/content/0/text").and_then(Value::as_str);
            Err(said
                .unwrap_or("the server does not say what the job has made")
                .to_owned())
        }
    }
}

async fn fetch(
    server: &Server,
    url: &str,
    directory: &Path,
    name: &str,
) -> Result<PathBuf, String> {
    let response = server.download(url).await?;
    let (path, mut file) = create(directory, name).await?;
    let mut pieces = response.bytes_stream();
    let written = async {
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| error.to_string())?;
            file.write_all(&piece)
                .await
                .map_err(|error| error.to_string())?;
        }
        file.flush().await.map_err(|error| error.to_string())
    };
    if let Err(reason) = written.await {
        let _ = tokio::fs::remove_file(&path).await;
        return Err(format!("{} cannot be written: {reason}", path.display()));
    }
    Ok(path)
}

/// A new file; where there is one of this name, it gets a number.
async fn create(directory: &Path, name: &str) -> Result<(PathBuf, tokio::fs::File), String> {
    let plain = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = plain.trim_start_matches('.');
    let plain = if plain.is_empty() { "output" } else { plain };
    let (stem, extension) = plain.rsplit_once('.').unwrap_or((plain, ""));
    for number in 1..10_000 {
        let called = match (number, extension.is_empty()) {
            (1, _) => plain.to_owned(),
            (_, true) => format!("{stem}_{number}"),
            (_, false) => format!("{stem}_{number}.{extension}"),
        };
        let path = directory.join(called);
        let opened = tokio::fs::File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .await;
        match opened {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    Err(format!("{name} is there too often already"))
}
