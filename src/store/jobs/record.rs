//! A job as it is recorded.

use rusqlite::{Connection, OptionalExtension, Row};

use super::status::JobStatus;
use crate::store::{StoreError, now_ms};

/// A job that is to be recorded.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// A UUID.
    pub id: String,
    /// The transport it came through.
    pub source: &'static str,
    /// Labels as JSON: an object of strings, or a string.
    pub metadata: Option<String>,
    /// The labels one by one, to be found by.
    pub labels: Vec<(String, String)>,
    /// Echoed.
    pub priority: Option<i64>,
    /// All that is needed to run it again, as JSON; no secrets.
    pub request: String,
    /// Blobs that `request` refers to.
    pub blobs: Vec<String>,
    /// It had secrets, which are not stored: another process cannot run it again.
    pub needs_secrets: bool,
    /// What absolute addresses of its outputs begin with.
    pub base_url: String,
    /// The idempotency key.
    pub key: Option<String>,
    /// The workflow endpoint that its graph comes from.
    pub workflow: Option<String>,
    /// It is taken up again by the next process; if not, it ends with this one.
    pub resumes: bool,
    /// When it began, milliseconds since 1970; `None` for now.
    pub created_at: Option<i64>,
    /// The trace context that it came with, as text.
    pub trace: Option<String>,
}

/// A recorded job.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns; their meaning is v2.md's")]
pub struct JobRecord {
    pub seq: i64,
    pub id: String,
    pub source: String,
    pub status: JobStatus,
    pub created_at: i64,
    pub updated_at: i64,
    pub started_at: Option<i64>,
    pub completed_at: Option<i64>,
    pub expires_at: i64,
    pub metadata: Option<String>,
    pub priority: Option<i64>,
    pub error: Option<String>,
    pub attempts: i64,
    pub outputs_reused: bool,
    pub outputs_count: i64,
    pub comfy_id: Option<String>,
    pub base_url: String,
    pub needs_secrets: bool,
    pub progress: Option<String>,
    pub workflow: Option<String>,
    pub resumes: bool,
    pub trace: Option<String>,
}

pub(in crate::store) const COLUMNS: &str = "seq, id, source, status, created_at, updated_at, \
                                            started_at, completed_at, expires_at, metadata, \
                                            priority, error, attempts, outputs_reused, \
                                            outputs_count, comfy_id, base_url, needs_secrets, \
                                            progress, workflow, resumes, trace";

pub(in crate::store) fn record(row: &Row<'_>) -> rusqlite::Result<JobRecord> {
    Ok(JobRecord {
        seq: row.get(0)?,
        id: row.get(1)?,
        source: row.get(2)?,
        status: JobStatus::parse(&row.get::<_, String>(3)?).unwrap_or(JobStatus::Failed),
        created_at: row.get(4)?,
        updated_at: row.get(5)?,
        started_at: row.get(6)?,
        completed_at: row.get(7)?,
        expires_at: row.get(8)?,
        metadata: row.get(9)?,
        priority: row.get(10)?,
        error: row.get(11)?,
        attempts: row.get(12)?,
        outputs_reused: row.get(13)?,
        outputs_count: row.get(14)?,
        comfy_id: row.get(15)?,
        base_url: row.get(16)?,
        needs_secrets: row.get(17)?,
        progress: row.get(18)?,
        workflow: row.get(19)?,
        resumes: row.get(20)?,
        trace: row.get(21)?,
    })
}

/// What a job has become; written as a whole at each change of its state.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns; their meaning is v2.md's")]
pub struct JobUpdate {
    pub status: JobStatus,
    pub started_at: Option<i64>,
    pub completed_at: Option<i64>,
    pub error: Option<String>,
    pub attempts: i64,
    pub outputs_reused: bool,
    pub outputs_count: i64,
    pub progress: Option<String>,
}

/// What a job printed.
#[derive(Debug, Clone)]
pub struct Logs {
    /// The lines.
    pub text: String,
    /// There was more.
    pub truncated: bool,
}

pub(in crate::store) fn alive(job: &JobRecord) -> bool {
    job.completed_at.is_none() || job.expires_at > now_ms()
}

pub(super) fn by_seq(db: &Connection, seq: i64) -> Result<JobRecord, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE seq = ?");
    Ok(db.prepare_cached(&sql)?.query_row([seq], record)?)
}

pub(in crate::store) fn by_id(db: &Connection, id: &str) -> Result<Option<JobRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?");
    Ok(db
        .prepare_cached(&sql)?
        .query_row([id], record)
        .optional()?)
}
