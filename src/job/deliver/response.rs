//! The response body of a prompt that has ended well (http-api.md, `POST /prompt`).

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::super::origin::Handed;
use super::super::outputs::{FileCleanup, OutputFile};
use super::super::request::{Graph, PromptRequest};
use super::super::witness::{DeliveredFile, Summary};
use super::Images;
use crate::config::plain_value;
use crate::document::{Document, placeholder};
use crate::limits::text;

/// A response body, and what its variants for webhooks are made from.
#[derive(Debug, Clone)]
pub struct Response {
    /// The sync response body.
    pub document: Document,
    /// Each file of the result on its own, for the legacy webhook.
    pub files: Vec<OutputFile>,
    /// The graph, for the legacy webhook.
    pub graph: Graph,
    /// The statistics, for the legacy webhook.
    pub stats: Arc<Value>,
    /// `texts` of the body.
    pub texts: Map<String, Value>,
    /// `warnings` of the body.
    pub warnings: Vec<String>,
    /// Removes the output files when the last user of the response is gone.
    pub keeper: Arc<FileCleanup>,
}

/// What the stages have made.
pub struct Outcome {
    /// Where the files are for the client.
    pub images: Images,
    /// The files, where they were handed over to the origin of the job.
    pub handed: Option<Vec<Handed>>,
    /// The files.
    pub files: Vec<OutputFile>,
    /// `{node_id: [string]}`
    pub texts: Map<String, Value>,
    /// What went wrong without failing the request.
    pub warnings: Vec<String>,
    /// The statistics.
    pub stats: Value,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    echo: &'a Map<String, Value>,
    id: &'a str,
    prompt: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<Handed>>,
    filenames: Vec<&'a str>,
    stats: &'a Value,
    outputs: &'a [OutputFile],
    texts: &'a Map<String, Value>,
    warnings: &'a [String],
}

impl Response {
    /// Puts it together. Files are not read yet.
    pub(in crate::job) fn new(
        request: &PromptRequest,
        graph: Graph,
        outcome: Outcome,
        keeper: Arc<FileCleanup>,
    ) -> Self {
        let Outcome {
            images,
            handed,
            files,
            texts,
            warnings,
            stats,
        } = outcome;
        let stats = Arc::new(stats);
        // They repeat what clients, ComfyUI and tools have said.
        let warnings: Vec<String> = warnings
            .iter()
            .map(|warning| text::sentence(warning).into_owned())
            .collect();
        let mark = uuid::Uuid::new_v4().to_string();
        let (images, embedded) = match images {
            Images::Urls(urls) => (Some(urls), Vec::new()),
            // They stand where they were handed over.
            Images::Inline if handed.is_some() => (None, Vec::new()),
            Images::Inline => {
                let embedded: Vec<_> = files.iter().map(OutputFile::embedded).collect();
                let images = (0..embedded.len()).map(|index| placeholder(&mark, index));
                (Some(images.collect()), embedded)
            }
        };
        let texts: Map<String, Value> = texts
            .into_iter()
            .map(|(node, texts)| (node, plain_value(texts)))
            .collect();
        let filenames = files.iter().map(|file| file.filename.as_str()).collect();
        let body = Body {
            echo: &request.echo,
            id: &request.id,
            prompt: &graph,
            images,
            files: handed,
            filenames,
            stats: &stats,
            outputs: &files,
            texts: &texts,
            warnings: &warnings,
        };
        let document = Document::with_files(&body, &mark, &embedded, Some(keeper.clone()));
        Self {
            document,
            files,
            graph,
            stats,
            texts,
            warnings,
            keeper,
        }
    }

    /// What is remembered of it.
    pub(in crate::job) fn summary(&self) -> Summary {
        let file = |file: &OutputFile| DeliveredFile {
            node_id: file.node_id.clone(),
            filename: file.filename.clone(),
            content_type: file.content_type.clone(),
            size: file.size,
            asset_id: None,
        };
        Summary {
            stats: self.stats.clone(),
            texts: self.texts.clone(),
            warnings: self.warnings.clone(),
            outputs: self.files.iter().map(file).collect(),
        }
    }
}
