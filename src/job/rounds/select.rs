//! Which outputs a run is for.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::comfy::Comfy;
use crate::error::{Code, Failure};
use crate::job::cleanup::FileCleanup;
use crate::job::outputs;
use crate::job::outputs::{Collected, OutputFile};
use crate::job::pipeline::Pipeline;
use crate::job::preprocess::names;
use crate::job::request::Graph;

/// The nodes that must run although ComfyUI knows their results. Of a kept job these are its
/// previews too: their files went with the job that made them.
pub(super) fn anew(pipeline: &Pipeline<'_>, graph: &Graph) -> Option<BTreeSet<String>> {
    let mut nodes = BTreeSet::new();
    if pipeline.job.keeping.is_some() {
        let catalogue = pipeline.inner.comfy.catalogue();
        let is_output = |node: &Value| {
            let class = node.get("class_type").and_then(Value::as_str);
            class.is_some_and(|class| catalogue.is_output(class))
        };
        let outputs = graph.iter().filter(|(_, node)| is_output(node));
        nodes = names::not_saving(graph, outputs.map(|(id, _)| id));
    }
    (pipeline.job.repeated || !nodes.is_empty()).then_some(nodes)
}

/// Outputs; where there are none, previews; where there are none either, texts (U1).
pub(super) async fn select(
    comfy: &Comfy,
    made: Collected,
    received: Vec<OutputFile>,
    cleanup: &Arc<FileCleanup>,
    warnings: &mut Vec<String>,
) -> Result<(Vec<OutputFile>, Map<String, Value>), Failure> {
    let mut files = made.files;
    files.extend(received);
    let mut missing = made.missing;
    if files.is_empty() {
        files = made.previews;
        for file in made.elsewhere {
            let what = format!("node {} reported the file \"{}\"", file.node, file.filename);
            match outputs::view(&comfy.client, file, cleanup).await {
                Ok(file) => files.push(file),
                Err(reason) => missing.push(format!("{what}, which cannot be had: {reason}")),
            }
        }
    }
    if files.is_empty() && made.texts.is_empty() {
        let reasons = [missing, std::mem::take(warnings)].concat();
        let why = if reasons.is_empty() {
            "no node has saved a file".to_owned()
        } else {
            reasons.join("; ")
        };
        return Err(Failure::new(
            Code::ExecutionError,
            format!("ComfyUI finished the prompt, but there is no output to deliver: {why}"),
        ));
    }
    warnings.extend(missing);
    Ok((files, made.texts))
}
