//! Files for whoever has given the job to this server.

use std::path::Path;
use std::sync::Weak;

use crate::job::origin::{Origin, unwanted};
use crate::job::registry::Job;
use crate::store::assets::NewOutput;
use crate::store::{AssetRecord, StoreError};

/// Hands one output over, and tells of it; as long as somebody waits for it.
pub(super) async fn hand_over(
    origin: &dyn Origin,
    path: &Path,
    new: NewOutput,
    job: &Weak<Job>,
) -> Result<AssetRecord, StoreError> {
    let handed = tokio::select! {
        biased;
        handed = origin.put(path, &new.name) => handed,
        () = unwanted(job) => return Err(StoreError::Failed("its job is stopped".to_owned())),
    };
    let handed = handed.map_err(|failure| StoreError::Failed(failure.message))?;
    origin.tell(
        "output",
        serde_json::json!({
            "name": handed.name, "size": handed.size, "hash": handed.hash,
            "node_id": new.node_id, "type": new.kind, "content_type": new.content_type,
        }),
    );
    Ok(AssetRecord {
        id: String::new(),
        hash: Some(handed.hash.trim_start_matches("blake3:").to_owned()),
        size: handed.size,
        content_type: new.content_type,
        file_path: handed.name,
        created_at: 0,
        expires_at: None,
        job_id: Some(new.job_id),
        node_id: Some(new.node_id),
        kind: Some(new.kind.to_owned()),
        position: new.position,
        external: None,
        remote_url: None,
    })
}
