//! The response body of a prompt that has ended well (http-api.md, `POST /prompt`).

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::outputs::{Leftovers, OutputFile};
use super::super::request::PromptRequest;
use super::Images;
use crate::document::{Document, EmbeddedFile, placeholder};

/// A response body, and what its variants for webhooks and streams are made from.
#[derive(Debug, Clone)]
pub struct Response {
    /// The sync response body.
    pub document: Document,
    /// The same without file contents, for streams that were attached later.
    pub brief: String,
    /// Each file of the result on its own, for the legacy webhook.
    pub files: Vec<OutputFile>,
    /// The graph, for the legacy webhook.
    pub graph: Map<String, Value>,
    /// The statistics, for the legacy webhook.
    pub stats: Value,
    /// Removes the output files when the last user of the response is gone.
    pub keeper: Arc<Leftovers>,
}

impl Response {
    /// Puts it together. Files are not read yet.
    #[expect(clippy::too_many_arguments, reason = "the parts of the body, each from another stage")]
    pub(in crate::prompt) fn new(
        request: &PromptRequest,
        graph: Map<String, Value>,
        images: Images,
        files: Vec<OutputFile>,
        texts: Map<String, Value>,
        warnings: Vec<String>,
        stats: Value,
        keeper: Arc<Leftovers>,
    ) -> Self {
        let mark = uuid::Uuid::new_v4().to_string();
        let (images, embedded) = match images {
            Images::Urls(urls) => (urls, Vec::new()),
            Images::Inline => {
                let embedded: Vec<EmbeddedFile> = files.iter().map(|file| EmbeddedFile { path: file.path.clone(), size: file.size }).collect();
                ((0..embedded.len()).map(|index| placeholder(&mark, index)).collect(), embedded)
            }
        };
        let mut body = request.echo.clone();
        body.insert("id".into(), (*request.id).into());
        body.insert("prompt".into(), Value::Object(graph.clone()));
        body.insert("images".into(), images.into());
        body.insert("filenames".into(), files.iter().map(|file| Value::from(file.filename.as_str())).collect());
        body.insert("stats".into(), stats.clone());
        body.insert("outputs".into(), serde_json::to_value(&files).unwrap_or_default());
        body.insert("texts".into(), Value::Object(texts));
        body.insert("warnings".into(), warnings.into());
        let body = Value::Object(body);
        let document = Document::with_files(&body, &mark, &embedded, Some(keeper.clone()));
        let brief = if embedded.is_empty() { body.to_string() } else { without_images(body).to_string() };
        Self { document, brief, files, graph, stats, keeper }
    }
}

/// The body without the contents of files.
fn without_images(mut body: Value) -> Value {
    body["images"] = json!([]);
    body
}
