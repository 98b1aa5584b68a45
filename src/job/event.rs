//! What happens to a job, for every transport that wants to know. A listener is called in the midst
//! of the pipeline, so it only takes note.

use std::sync::Arc;

use super::progress::GraphProgress;
use super::registry::Status;
use super::request::Graph;
use super::witness::Ended;
use crate::comfy::message::Preview;
use crate::store::AssetRecord;

/// Something that happened to a job.
#[derive(Debug, Clone)]
pub enum JobEvent {
    /// ComfyUI has it, under this id and as this graph.
    Accepted {
        /// ComfyUI's own id of the run.
        comfy_id: String,
        /// The graph as it runs.
        graph: Graph,
    },
    /// It is in another state.
    State(Status),
    /// Others before it have begun or gone: its place may be another one.
    Moved,
    /// An input of it is being downloaded.
    Downloading {
        /// The last part of its address.
        name: String,
        /// How much of it is here, if its length is known.
        percent: Option<u64>,
    },
    /// How far it is; each says all.
    Progress(GraphProgress),
    /// A picture that is being made.
    Preview(Preview),
    /// An output is safe in the store.
    Output(AssetRecord),
    /// Where the outputs were uploaded to: `(asset, address)`.
    Uploaded(Vec<(String, String)>),
    /// Its ComfyUI was lost; it waits for another. Whether that counts as an attempt.
    Lost(bool),
    /// It has ended, and what of it is kept is safe.
    Ended(Arc<Ended>),
    /// What was committed so far is not part of the result: the graph runs once more.
    Withdrawn,
}

/// Whoever listens to the events of a job.
pub type Listener = Arc<dyn Fn(&JobEvent) + Send + Sync>;
