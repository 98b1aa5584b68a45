//! Images that come over the websocket and are a node's result, not a sampler's preview (F28). Each
//! is written to disk at once.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::super::stats::Timeline;
use super::{FileCleanup, OutputFile, says_websocket};
use crate::comfy::message::{Preview, TextMessage};
use crate::error::{Code, Failure};
use crate::file_threads;

/// ComfyUI's own node that sends its images.
const SENDER: &str = "SaveImageWebsocket";

/// What has come so far.
#[derive(Debug)]
pub struct ReceivedImages {
    id: Arc<str>,
    cleanup: Arc<FileCleanup>,
    images: Vec<Received>,
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Received {
    file: OutputFile,
    /// Its node has been seen to be one whose result this is.
    certain: bool,
}

impl ReceivedImages {
    /// Nothing yet. `id` is what names begin with.
    pub fn new(id: Arc<str>, cleanup: Arc<FileCleanup>) -> Self {
        Self {
            id,
            cleanup,
            images: Vec::new(),
            failure: None,
        }
    }

    /// Takes in an image that came while a node ran, if it can be the node's result: a PNG image.
    /// Whether it is may only be known later ([`Self::heard`]). Returns whether it is known
    /// already, so that it is no preview.
    pub async fn take(&mut self, preview: &Preview, timeline: &Timeline) -> bool {
        // Which node an old message without its name belongs to, is only known while one of ours
        // runs.
        let node = preview.node_id.as_deref().or_else(|| timeline.working());
        let Some(node) = node.filter(|_| preview.image_type == "image/png") else {
            return false;
        };
        let node = timeline.client.of(node);
        let certain = timeline.client.class(node) == Some(SENDER);
        let (cleanup, image) = (self.cleanup.clone(), preview.image.clone());
        let size = image.len() as u64;
        let writing = file_threads::spawn(move || {
            let path = cleanup.place(Some("png"))?;
            std::fs::write(&path, image)?;
            Ok::<_, std::io::Error>(path)
        });
        let written = writing
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        match written {
            Ok(path) => {
                let file = OutputFile {
                    node_id: Some(node.to_owned()),
                    output: "images".to_owned(),
                    filename: String::new(),
                    content_type: "image/png".to_owned(),
                    size,
                    path,
                    written_to: std::path::PathBuf::new(),
                    content: None,
                };
                self.images.push(Received { file, certain });
            }
            Err(error) if certain => {
                let message = format!(
                    "cannot write an image of node {node} that came over the websocket: {error}"
                );
                let failure = Failure::new(Code::Internal, message).transient();
                self.failure.get_or_insert(failure);
            }
            Err(_) => {}
        }
        certain
    }

    /// Looks at a message: a node may say that what came was its result; and when another one runs,
    /// what has not turned out to be one was a preview.
    pub fn heard(&mut self, message: &TextMessage, timeline: &Timeline) {
        if self.images.iter().all(|image| image.certain) {
            return;
        }
        let text = |value: &Value, name: &str| {
            value
                .get("data")
                .and_then(|data| data.get(name))
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        match message.kind.as_str() {
            "executed" => {
                let value = message.value();
                if let Some(node) = text(&value, "node")
                    && value.pointer("/data/output").is_some_and(says_websocket)
                {
                    self.confirm(timeline.client.of(&node));
                }
            }
            "executing" => {
                let value = message.value();
                let node = text(&value, "display_node").or_else(|| text(&value, "node"));
                self.forget_previews(node.as_deref().map(|node| timeline.client.of(node)));
            }
            _ => {}
        }
    }

    /// The node has said that what came is its result.
    fn confirm(&mut self, node: &str) {
        let of_node = |image: &&mut Received| image.file.node_id.as_deref() == Some(node);
        self.images
            .iter_mut()
            .filter(of_node)
            .for_each(|image| image.certain = true);
    }

    /// Another node runs: what has not turned out to be a result was a preview. The files go with
    /// the others.
    fn forget_previews(&mut self, but_of: Option<&str>) {
        let stays = |image: &mut Received| {
            image.certain || but_of.is_some() && image.file.node_id.as_deref() == but_of
        };
        let gone: Vec<Received> = self.images.extract_if(.., |image| !stays(image)).collect();
        if !gone.is_empty() {
            // A sampler may show thousands.
            drop(tokio::task::spawn_blocking(move || {
                for image in gone {
                    let _ = std::fs::remove_file(image.file.path);
                }
            }));
        }
    }

    /// Whether a result has come.
    pub fn any(&self) -> bool {
        self.images.iter().any(|image| image.certain)
    }

    /// The results.
    ///
    /// # Errors
    /// When one could not be written.
    pub fn into_files(mut self) -> Result<Vec<OutputFile>, Failure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.forget_previews(None);
        let mut counts: HashMap<Option<String>, u64> = HashMap::new();
        let files = self.images.into_iter().map(|image| image.file);
        let named = files
            .map(|mut file| {
                let count = counts.entry(file.node_id.clone()).or_default();
                *count += 1;
                let node = file
                    .node_id
                    .as_deref()
                    .unwrap_or_default()
                    .replace('/', "_");
                file.filename = format!("{}_{node}_{count:05}.png", self.id);
                file
            })
            .collect();
        Ok(named)
    }
}
