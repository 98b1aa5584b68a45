//! Whoever remembers all jobs, of every transport: told of each beginning, change and end. The
//! pipeline knows no more of it.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::registry::{Job, JobSnapshot};
use super::request::{Graph, PromptRequest};
use crate::error::Failure;
use crate::store::AssetRecord;

/// Told of all jobs, in the midst of the pipeline: it only takes note.
pub trait Witness: Send + Sync + std::fmt::Debug {
    /// A job has begun; its graph is still in the request.
    fn begun(&self, job: &Job, request: &PromptRequest);
    /// ComfyUI has it, as this graph.
    fn accepted(&self, job: &Job, graph: &Graph);
    /// It is in another state.
    fn changed(&self, job: &Job);
    /// It has ended. `comes_again`: this attempt was not the last one.
    fn ended(&self, job: &Job, ended: &Ended, comes_again: bool);
    /// What of it is kept is safe in the store now.
    fn kept(&self, job: &Job, ended: &Ended);
}

/// How a job has ended, and what there is of it then.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The entry of `/queue`.
    pub snapshot: JobSnapshot,
    /// What was made, or why not.
    pub result: Result<Summary, Failure>,
}

impl Ended {
    /// Notes which of what was delivered is kept, in its order.
    pub(super) fn keep(&mut self, kept: &[AssetRecord]) {
        if let Ok(summary) = &mut self.result
            && kept.len() == summary.outputs.len()
        {
            for (output, asset) in summary.outputs.iter_mut().zip(kept) {
                output.asset_id = Some(asset.id.clone());
            }
        }
    }
}

/// What a job has made, without its files.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// `stats` of the answer.
    pub stats: Arc<Value>,
    /// `texts` of the answer.
    pub texts: Map<String, Value>,
    /// `warnings` of the answer.
    pub warnings: Vec<String>,
    /// What was delivered, in the order of `images`.
    pub outputs: Vec<DeliveredFile>,
}

/// A delivered file.
#[derive(Debug, Clone)]
pub struct DeliveredFile {
    /// The node it comes from; none of an archive.
    pub node_id: Option<String>,
    /// Its name towards the client.
    pub filename: String,
    /// Its media type.
    pub content_type: String,
    /// Bytes.
    pub size: u64,
    /// Its record in the store, if it is kept.
    pub asset_id: Option<String>,
}
