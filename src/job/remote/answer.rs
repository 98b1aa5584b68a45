//! The answer of whoever ran the graph.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Done;
use crate::error::Failure;
use crate::job::cleanup::FileCleanup;
use crate::job::deliver::{Images, Outcome, Response};
use crate::job::event::JobEvent;
use crate::job::outputs::OutputFile;
use crate::job::registry::Job;
use crate::job::request::PromptRequest;
use crate::job::service::Inner;
use crate::job::{deliver, pipeline};

pub(super) fn strings(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// Files of a result that were uploaded and are not here, as they were described.
fn uploaded(answer: &Map<String, Value>) -> Vec<OutputFile> {
    let described = answer.get("outputs").and_then(Value::as_array);
    let described = described.map(Vec::as_slice).unwrap_or_default();
    let file = |(number, filename): (usize, String)| {
        let of = |name: &str| described.get(number).and_then(|one| one.get(name));
        let text = |name: &str| of(name).and_then(Value::as_str).map(str::to_owned);
        OutputFile {
            node_id: text("node_id"),
            output: text("output").unwrap_or_else(|| "images".to_owned()),
            content_type: text("content_type").unwrap_or_default(),
            size: of("size").and_then(Value::as_u64).unwrap_or_default(),
            filename,
            path: PathBuf::new(),
            written_to: PathBuf::new(),
            content: None,
        }
    };
    let names = strings(answer.get("filenames"));
    names.into_iter().enumerate().map(file).collect()
}

/// The answer, from that of whoever has run it.
pub(super) async fn answer(
    inner: &Inner,
    job: &Job,
    request: &PromptRequest,
    mut done: Done,
    warnings: Vec<String>,
    began: std::time::Instant,
) -> Result<Response, Failure> {
    let keeper = Arc::new(FileCleanup::of_folder(
        inner.cleaner.clone(),
        done.folder.clone(),
    ));
    let graph = match done.answer.remove("prompt") {
        Some(Value::Object(graph)) => Arc::new(graph),
        _ => Arc::new(request.sent()),
    };
    if job.keeping.is_some() {
        job.tell(&JobEvent::Accepted {
            comfy_id: job.id.to_string(),
            graph: graph.clone(),
        });
    }
    let images = match done.answer.get("images") {
        Some(Value::Array(_)) if request.upload.is_some() => {
            Images::Urls(strings(done.answer.get("images")))
        }
        _ => Images::Inline,
    };
    if let Images::Urls(urls) = &images {
        deliver::announce(inner, job, urls, began);
    }
    let images = pipeline::keep(job, &done.files, images).await?;
    if done.files.is_empty() {
        done.files = uploaded(&done.answer);
    }
    let texts = match done.answer.remove("texts") {
        Some(Value::Object(texts)) => texts,
        _ => Map::new(),
    };
    let outcome = Outcome {
        images,
        handed: None,
        files: done.files,
        texts,
        warnings: [request.warnings.clone(), warnings].concat(),
        stats: done.answer.remove("stats").unwrap_or_default(),
    };
    Ok(Response::new(request, graph, outcome, keeper))
}
