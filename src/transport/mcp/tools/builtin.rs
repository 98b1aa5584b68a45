//! The built-in tools as clients see them.

use serde_json::{Value, json};

use super::schemas;

/// A built-in tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    /// Runs a graph of the agent's own.
    RunGraph,
    /// State or result of a job.
    GetJob,
    /// Ends a job.
    CancelJob,
    /// The jobs of this door.
    ListJobs,
    /// What models there are.
    ListModels,
    /// Brings a model.
    DownloadModel,
    /// Finds node classes.
    SearchNodes,
    /// One node class.
    DescribeNode,
    /// An address to send a file to.
    CreateUpload,
}

impl Builtin {
    /// In the order in which they are listed.
    pub const ALL: [Self; 9] = [
        Self::RunGraph,
        Self::GetJob,
        Self::CancelJob,
        Self::ListJobs,
        Self::ListModels,
        Self::DownloadModel,
        Self::SearchNodes,
        Self::DescribeNode,
        Self::CreateUpload,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RunGraph => "run_graph",
            Self::GetJob => "get_job",
            Self::CancelJob => "cancel_job",
            Self::ListJobs => "list_jobs",
            Self::ListModels => "list_models",
            Self::DownloadModel => "download_model",
            Self::SearchNodes => "search_nodes",
            Self::DescribeNode => "describe_node",
            Self::CreateUpload => "create_upload",
        }
    }

    /// The arguments that it knows.
    pub const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::RunGraph => &[
                "graph",
                "set",
                "convert_output",
                "wait_s",
                "queue",
                "priority",
            ],
            Self::GetJob => &["id", "wait_s"],
            Self::CancelJob => &["id"],
            Self::ListJobs => &["status", "limit"],
            Self::ListModels => &["folder", "search", "limit"],
            Self::DownloadModel => &["url", "folder", "filename", "wait_s"],
            Self::SearchNodes => &["query", "limit"],
            Self::DescribeNode => &["class_type"],
            Self::CreateUpload => &["filename", "content_type"],
        }
    }

    fn reads_only(self) -> bool {
        matches!(
            self,
            Self::GetJob
                | Self::ListJobs
                | Self::ListModels
                | Self::SearchNodes
                | Self::DescribeNode
        )
    }

    const fn title(self) -> &'static str {
        match self {
            Self::RunGraph => "Run a ComfyUI graph",
            Self::GetJob => "State or result of a job",
            Self::CancelJob => "Cancel a job",
            Self::ListJobs => "List jobs",
            Self::ListModels => "List models",
            Self::DownloadModel => "Download a model",
            Self::SearchNodes => "Search node classes",
            Self::DescribeNode => "Describe a node class",
            Self::CreateUpload => "Hand in a file",
        }
    }

    fn description(self) -> String {
        let own = match self {
            Self::RunGraph => {
                "Runs a ComfyUI graph of your own: API format, or a workflow as the editor saves \
                 it. `set` changes inputs of it before it runs, by paths such as \
                 \"3.inputs.seed\". Media and model inputs may be URLs."
            }
            Self::GetJob => {
                "The state of a job, or its result once it has ended. With wait_s it waits so many \
                 seconds for the end first. Knows jobs of every door of this server; files are \
                 there only if they were kept."
            }
            Self::CancelJob => {
                "Cancels a job wherever it is, in the queue or running. Returns its id and \
                 `interrupted`, \"success\"."
            }
            Self::ListJobs => {
                "The jobs that tools of this server have started, newest first. Returns id, tool, \
                 status, position in the queue, progress and times of each."
            }
            Self::ListModels => {
                "The model files that ComfyUI lists, by folder (checkpoints, loras, vae, ...). \
                 Returns {folders, truncated}."
            }
            Self::DownloadModel => {
                "Downloads a model file into a folder of ComfyUI's. Returns at once, or after \
                 wait_s seconds, what the download has come to: id, status, bytes received, total."
            }
            Self::SearchNodes => {
                "Finds node classes of this ComfyUI by name, title, category or description. \
                 Returns {nodes}."
            }
            Self::DescribeNode => {
                "The inputs (type, default, range, choices), outputs and description of a node \
                 class."
            }
            Self::CreateUpload => {
                "Gives an address to which a file can be sent by PUT, once, within 10 minutes and \
                 without a key. Returns upload_url, and `input`: the value for a media argument of \
                 a tool once the file has been sent. `example` is a curl line."
            }
        };
        match self {
            Self::RunGraph | Self::GetJob => format!("{own} {}", schemas::WHAT_A_RUN_RETURNS),
            _ => own.to_owned(),
        }
    }

    /// As it is listed.
    pub fn described(self) -> Value {
        let downloads = matches!(self, Self::RunGraph | Self::DownloadModel);
        json!({
            "name": self.name(),
            "title": self.title(),
            "description": self.description(),
            "inputSchema": schemas::input(self),
            "outputSchema": schemas::output(self),
            "annotations": {
                "title": self.title(),
                "readOnlyHint": self.reads_only(),
                "destructiveHint": self == Self::CancelJob,
                "idempotentHint": self.reads_only() || self == Self::CancelJob,
                "openWorldHint": downloads,
            },
        })
    }
}
