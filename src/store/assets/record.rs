//! An asset as it is recorded.

use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, Row};

use crate::store::StoreError;

/// A recorded asset.
#[derive(Debug, Clone)]
pub struct AssetRecord {
    /// A UUID.
    pub id: String,
    /// 64 hexadecimal digits; not known yet for a large output.
    pub hash: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Its media type.
    pub content_type: String,
    /// Its name; of an output its file name.
    pub file_path: String,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// When it goes; outputs go with their job.
    pub expires_at: Option<i64>,
    /// The job that made it.
    pub job_id: Option<String>,
    /// The node that made it.
    pub node_id: Option<String>,
    /// `image`, `video`...; of outputs.
    pub kind: Option<String>,
    /// Among the outputs of its job.
    pub position: i64,
    /// It lies there and is not ours.
    pub external: Option<PathBuf>,
    /// Where it was uploaded to.
    pub remote_url: Option<String>,
}

pub(super) const COLUMNS: &str = "id, hash, size, content_type, file_path, created_at, \
                                  expires_at, job_id, node_id, kind, position, external, \
                                  remote_url";

pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<AssetRecord> {
    Ok(AssetRecord {
        id: row.get(0)?,
        hash: row.get(1)?,
        size: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
        content_type: row.get(3)?,
        file_path: row.get(4)?,
        created_at: row.get(5)?,
        expires_at: row.get(6)?,
        job_id: row.get(7)?,
        node_id: row.get(8)?,
        kind: row.get(9)?,
        position: row.get::<_, Option<i64>>(10)?.unwrap_or(0),
        external: row.get::<_, Option<String>>(11)?.map(PathBuf::from),
        remote_url: row.get(12)?,
    })
}

pub(in crate::store) fn by_id(
    db: &Connection,
    id: &str,
) -> Result<Option<AssetRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM assets WHERE id = ?");
    Ok(db
        .prepare_cached(&sql)?
        .query_row([id], record)
        .optional()?)
}
