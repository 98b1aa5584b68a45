//! The first step of every prompt: a workflow as the editor saves it becomes a graph.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::registry::Job;
use super::request::PromptRequest;
use super::service::Inner;
use crate::error::Failure;
use crate::graph::ui::naming::{Instances, Titles};

/// What is run.
pub(super) struct Runnable {
    /// In API format.
    pub graph: Map<String, Value>,
    /// Passed to ComfyUI.
    pub extra_data: Option<Value>,
    /// Of the conversion.
    pub warnings: Vec<String>,
    /// For sentences.
    pub titles: Arc<Named>,
}

/// Names nodes in sentences by their titles.
#[derive(Default)]
pub(super) struct Named(Titles);

impl Named {
    pub fn in_sentences(&self, sentences: Vec<String>) -> Vec<String> {
        sentences
            .iter()
            .map(|sentence| self.0.in_sentence(sentence))
            .collect()
    }

    pub fn in_failure(&self, mut failure: Failure) -> Failure {
        failure.message = self.0.in_sentence(&failure.message);
        failure
    }
}

/// The graph of a request, converted if need be.
///
/// # Errors
/// 400 for a workflow that cannot be converted, 503 while ComfyUI's nodes are not known, the reason
/// for stopping.
pub(super) async fn runnable(
    inner: &Inner,
    job: &Job,
    request: &PromptRequest,
    graph: Map<String, Value>,
) -> Result<Runnable, Failure> {
    let Some(workflow) = &request.workflow else {
        return Ok(Runnable {
            titles: named(&graph, &Instances::default()),
            graph,
            extra_data: request.extra_data.clone(),
            warnings: Vec::new(),
        });
    };
    let conversion = tokio::select! {
        biased;
        () = job.cancel.cancelled() => return Err(job.stop_reason()),
        conversion = inner.comfy.convert(workflow.clone(), "prompt") => conversion?,
    };
    request.submit.check(&conversion.prompt)?;
    Ok(Runnable {
        titles: named(&conversion.prompt, &conversion.instances),
        graph: conversion.prompt,
        extra_data: Some(with_workflow(request.extra_data.clone(), workflow)),
        warnings: conversion.warnings,
    })
}

fn named(graph: &Map<String, Value>, instances: &Instances) -> Arc<Named> {
    Arc::new(Named(Titles::of(graph, instances)))
}

/// The saved workflow goes into the pictures, as the editor does it, unless the request brings
/// something else.
pub fn with_workflow(extra_data: Option<Value>, workflow: &Map<String, Value>) -> Value {
    let mut extra_data = match extra_data {
        Some(Value::Object(extra_data)) => extra_data,
        _ => Map::new(),
    };
    let brings = extra_data
        .get("extra_pnginfo")
        .is_some_and(|info| !info.is_null());
    if !brings {
        extra_data.insert("extra_pnginfo".to_owned(), json!({"workflow": workflow}));
    }
    Value::Object(extra_data)
}
