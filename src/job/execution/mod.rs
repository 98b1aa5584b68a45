//! One run of a graph in ComfyUI: submitted, watched to its end whatever happens, cancelled on
//! request (prompt.md, sections 2, 3, 6).

mod follow;
mod seen;
mod shown;
mod stopping;
mod submit;

use super::outputs::NodeOutput;
use crate::comfy::client::CallError;
use crate::error::{Code, Failure};

pub use follow::{Followed, follow};
pub use shown::{show_preview, weight};
pub use submit::{Queued, submit};

/// What came of a run.
#[derive(Debug)]
pub struct Execution {
    /// What the client's nodes have reported, in ComfyUI's order.
    pub outputs: Vec<NodeOutput>,
    /// `None` is success. The outputs of branches that finished before a failure are there all the
    /// same.
    pub failure: Option<Failure>,
    /// What went wrong without failing it.
    pub warnings: Vec<String>,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::new(
            Code::ComfyuiUnavailable,
            format!("{error}; try again in a moment"),
        )
    }
}
