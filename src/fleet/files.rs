//! The files of a task: inputs that instances fetch, outputs that they put. An output lies under
//! the hash of its bytes, so that a name that is put twice keeps both contents, and the result says
//! which one counts.

use std::path::{Path, PathBuf};

use axum::body::Body;
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;

use super::task::Task;
use crate::error::{Code, Failure};
use crate::job::remote::{Input, OutputFile};
use crate::media;
use crate::store::blobs;
use crate::telemetry::metrics;

/// The longest name of an output, in bytes.
const LONGEST_NAME: usize = 1024;

/// An input to be sent.
#[derive(Debug)]
pub struct InputFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
}

/// Why an output was not taken.
#[derive(Debug)]
pub enum PutError {
    /// The name cannot be one.
    Name,
    /// The connection broke.
    Body,
    /// It cannot be written.
    Disk(std::io::Error),
}

/// Puts the inputs of a task where they can be fetched; returns their names.
pub(super) async fn place(dir: &Path, inputs: Vec<Input>) -> Result<Vec<String>, Failure> {
    if inputs.is_empty() {
        return Ok(Vec::new());
    }
    let dir = dir.join("in");
    let placing = move || {
        std::fs::create_dir_all(&dir)?;
        let mut names = Vec::with_capacity(inputs.len());
        for (number, input) in inputs.into_iter().enumerate() {
            let path = dir.join(number.to_string());
            names.push(match input {
                Input::Asset {
                    path: from, name, ..
                } => {
                    blobs::link_or_copy(&from, &path)
                        .map_err(|error| std::io::Error::other(error.to_string()))?;
                    name
                }
                Input::Bytes { bytes, name } => {
                    std::fs::write(&path, bytes)?;
                    name
                }
            });
        }
        Ok::<_, std::io::Error>(names)
    };
    let placed = tokio::task::spawn_blocking(placing).await;
    placed
        .map_err(|_| crate::error::panicked("keeping the inputs of a job"))?
        .map_err(|error| unwritable(&error))
}

/// The state directory is the operator's.
pub(super) fn unwritable(error: &std::io::Error) -> Failure {
    let message = format!("the gateway cannot write into its state directory: {error}");
    Failure::new(Code::Internal, message)
}

/// Takes an output, in constant memory.
pub(super) async fn put(task: &Task, name: &str, body: Body) -> Result<Value, PutError> {
    if name.is_empty()
        || name.len() > LONGEST_NAME
        || name.chars().any(char::is_control)
        || name.contains(['/', '\\'])
    {
        return Err(PutError::Name);
    }
    let dir = task.dir.join("out");
    tokio::fs::create_dir_all(&dir)
        .await
        .map_err(PutError::Disk)?;
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let temporary = Temporary(dir.join(format!(".{unique}")));
    let file = tokio::fs::File::create(&temporary.0).await;
    let mut file = file.map_err(PutError::Disk)?;
    let mut hasher = blake3::Hasher::new();
    let mut size = 0_u64;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| PutError::Body)?;
        size += chunk.len() as u64;
        hasher.update(&chunk);
        file.write_all(&chunk).await.map_err(PutError::Disk)?;
    }
    file.flush().await.map_err(PutError::Disk)?;
    drop(file);
    let hash = hasher.finalize().to_hex().to_string();
    let place = dir.join(&hash);
    tokio::fs::rename(&temporary.0, place)
        .await
        .map_err(PutError::Disk)?;
    metrics::gateway_file_bytes(size);
    Ok(json!({"name": name, "size": size, "hash": format!("blake3:{hash}")}))
}

/// Half a file goes with whoever was writing it.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// One file of a result, as it is told.
#[derive(Debug)]
struct Listed {
    name: String,
    size: u64,
    hash: String,
}

impl Listed {
    fn of(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let hash = text("hash")?
            .trim_start_matches("blake3:")
            .to_ascii_lowercase();
        let plain = hash.len() == 64 && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
        Some(Self {
            name: text("name")?.to_owned(),
            size: value.get("size").and_then(Value::as_u64)?,
            hash: plain.then_some(hash)?,
        })
    }
}

/// The files of a result.
///
/// # Errors
/// When one is not here. Blocks.
pub(super) fn collect(
    task: &Task,
    data: &mut Map<String, Value>,
) -> Result<Vec<OutputFile>, Failure> {
    let described = match data.remove("outputs") {
        Some(Value::Array(outputs)) => outputs,
        _ => Vec::new(),
    };
    let broken = |error: std::io::Error| unwritable(&error);
    let dir = task.dir.join("result");
    let mut files = Vec::new();
    if let Some(Value::Array(listed)) = data.remove("files") {
        std::fs::create_dir_all(&dir).map_err(broken)?;
        for (number, value) in listed.iter().enumerate() {
            let missing = || {
                let message = "an instance has reported an output that it has not put here";
                Failure::new(Code::Internal, message)
            };
            let one = Listed::of(value).ok_or_else(missing)?;
            files.push(
                one.file(task, &dir, number, described.get(number))
                    .ok_or_else(missing)?,
            );
        }
        return Ok(files);
    }
    // Without an address for files they came in the message; or they were uploaded, and are told of
    // alone.
    let Some(Value::Array(images)) = data.get("images") else {
        return Ok(files);
    };
    let names = data.get("filenames").and_then(Value::as_array);
    for (number, image) in images.iter().enumerate() {
        let text = image.as_str().unwrap_or_default();
        let Some((bytes, _)) = crate::job::remote::decode(text) else {
            continue;
        };
        std::fs::create_dir_all(&dir).map_err(broken)?;
        let path = dir.join(number.to_string());
        std::fs::write(&path, &bytes).map_err(broken)?;
        let name = names.and_then(|names| names.get(number)?.as_str());
        let name = name.map_or_else(|| number.to_string(), str::to_owned);
        files.push(output(
            path,
            name,
            bytes.len() as u64,
            described.get(number),
        ));
    }
    if files.is_empty() {
        data.insert("outputs".to_owned(), Value::Array(described));
    } else {
        data.remove("images");
    }
    Ok(files)
}

impl Listed {
    /// A name of its own for the file, because two of one content are two files.
    fn file(
        &self,
        task: &Task,
        dir: &Path,
        number: usize,
        described: Option<&Value>,
    ) -> Option<OutputFile> {
        let from = task.dir.join("out").join(&self.hash);
        if from.metadata().ok()?.len() != self.size {
            return None;
        }
        let path = dir.join(format!("{number}"));
        let _ = std::fs::remove_file(&path);
        std::fs::hard_link(&from, &path)
            .or_else(|_| std::fs::copy(&from, &path).map(drop))
            .ok()?;
        Some(self.known_as(output(path, self.name.clone(), self.size, described)))
    }

    /// By which the result knows an output that was told of before.
    fn known_as(&self, file: OutputFile) -> OutputFile {
        OutputFile {
            written_to: PathBuf::from(format!("{}/{}", self.hash, self.name)),
            ..file
        }
    }
}

fn output(path: PathBuf, name: String, size: u64, described: Option<&Value>) -> OutputFile {
    let text = |key: &str| {
        let value = described.and_then(|described| described.get(key)?.as_str());
        value.map(str::to_owned)
    };
    let head = media::head(&path).unwrap_or_default();
    OutputFile {
        node_id: text("node_id"),
        output: text("output").unwrap_or_else(|| "images".to_owned()),
        content_type: text("content_type").unwrap_or_else(|| media::content_type(&name, &head)),
        filename: name,
        size,
        written_to: path.clone(),
        path,
        content: None,
    }
}

/// An output that was put while its node's graph still runs.
pub(super) fn early(task: &Task, value: &Value) -> Option<OutputFile> {
    let one = Listed::of(value)?;
    let dir = task.dir.join("early");
    std::fs::create_dir_all(&dir).ok()?;
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let from = task.dir.join("out").join(&one.hash);
    let path = dir.join(unique);
    std::fs::hard_link(&from, &path)
        .or_else(|_| std::fs::copy(&from, &path).map(drop))
        .ok()?;
    let file = output(path, one.name.clone(), one.size, Some(value));
    Some(one.known_as(file))
}

/// Removes the folder of a task in the background.
pub(super) fn remove(dir: &Path) {
    let dir = dir.to_path_buf();
    tokio::task::spawn_blocking(move || drop(std::fs::remove_dir_all(dir)));
}
