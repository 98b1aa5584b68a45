//! What an asset is made of.

use super::record::AssetRecord;

/// An upload that is to be recorded.
#[derive(Debug, Clone)]
pub struct NewAsset {
    /// Its name as given.
    pub file_path: String,
    /// Its media type.
    pub content_type: String,
    /// JSON.
    pub tags: Option<String>,
    /// Seconds until it goes, if that was said.
    pub expires_in: Option<u64>,
    /// The idempotency key.
    pub key: Option<String>,
}

/// An output that is to be recorded.
#[derive(Debug, Clone)]
pub struct NewOutput {
    /// The job.
    pub job_id: String,
    /// The node of the client's graph.
    pub node_id: String,
    /// Its name towards the client.
    pub name: String,
    /// `image`, `video`...
    pub kind: &'static str,
    /// Its media type.
    pub content_type: String,
    /// Its place among the job's outputs.
    pub position: i64,
    /// Where it was uploaded to.
    pub remote_url: Option<String>,
}

/// What became of an upload.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The record.
    pub asset: AssetRecord,
    /// The bytes were not here before.
    pub new_bytes: bool,
    /// The record was not here before.
    pub new_record: bool,
}
