//! The tables, and how an older database becomes a newer one.

use rusqlite::{Connection, Result};

/// Each entry leads from the version of its index to the next; none is ever changed once released.
const MIGRATIONS: &[&str] = &[
    // 1
    "
    CREATE TABLE jobs (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        source TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        started_at INTEGER,
        completed_at INTEGER,
        expires_at INTEGER NOT NULL,
        metadata TEXT,
        priority INTEGER,
        error TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        outputs_reused INTEGER NOT NULL DEFAULT 0,
        outputs_count INTEGER NOT NULL DEFAULT 0,
        comfy_id TEXT,
        base_url TEXT NOT NULL DEFAULT '',
        needs_secrets INTEGER NOT NULL DEFAULT 0,
        progress TEXT
    );
    CREATE INDEX jobs_by_status ON jobs (status, seq);
    CREATE INDEX jobs_by_expiry ON jobs (expires_at) WHERE completed_at IS NOT NULL;
    CREATE TABLE job_data (
        seq INTEGER PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
        request TEXT,
        graph TEXT,
        result TEXT,
        logs TEXT,
        logs_truncated INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE labels (
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        seq INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
        PRIMARY KEY (key, value, seq)
    ) WITHOUT ROWID;
    CREATE INDEX labels_by_job ON labels (seq);
    CREATE TABLE blobs (
        hash TEXT PRIMARY KEY,
        size INTEGER NOT NULL,
        used_at INTEGER NOT NULL,
        present INTEGER NOT NULL DEFAULT 1
    ) WITHOUT ROWID;
    CREATE INDEX blobs_by_use ON blobs (used_at) WHERE present;
    CREATE TABLE job_blobs (
        seq INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
        hash TEXT NOT NULL,
        PRIMARY KEY (seq, hash)
    ) WITHOUT ROWID;
    CREATE INDEX job_blobs_by_hash ON job_blobs (hash);
    CREATE TABLE assets (
        id TEXT PRIMARY KEY,
        hash TEXT,
        size INTEGER NOT NULL,
        content_type TEXT NOT NULL,
        file_path TEXT NOT NULL,
        tags TEXT,
        created_at INTEGER NOT NULL,
        expires_at INTEGER,
        lives INTEGER,
        job_id TEXT,
        node_id TEXT,
        kind TEXT,
        position INTEGER,
        external TEXT,
        remote_url TEXT
    ) WITHOUT ROWID;
    CREATE INDEX assets_by_hash ON assets (hash);
    CREATE INDEX assets_by_job ON assets (job_id, position);
    CREATE INDEX assets_by_expiry ON assets (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE keys (
        scope TEXT NOT NULL,
        key TEXT NOT NULL,
        made TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        PRIMARY KEY (scope, key)
    ) WITHOUT ROWID;
    CREATE INDEX keys_by_age ON keys (created_at);
    CREATE INDEX keys_by_what ON keys (made);
    ",
    // 2: thumbnails beside blobs; runs of every transport, of which not all are taken up again
    "
    ALTER TABLE blobs ADD COLUMN beside INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN workflow TEXT;
    ALTER TABLE jobs ADD COLUMN resumes INTEGER NOT NULL DEFAULT 1;
    CREATE INDEX jobs_by_time ON jobs (created_at, id);
    ",
    // 3: the trace goes on in the next process
    "
    ALTER TABLE jobs ADD COLUMN trace TEXT;
    ",
];

/// Why a database cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A newer program has written it.
    #[error("it was written by a newer version of comfyui-api (schema {0})")]
    Newer(i64),
    /// SQLite cannot make sense of it.
    #[error("{0}")]
    Damaged(#[from] rusqlite::Error),
}

/// Brings a database up to date; a new one gets all tables.
pub fn migrate(connection: &mut Connection) -> std::result::Result<(), SchemaError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let Ok(done) = usize::try_from(version) else {
        return Err(SchemaError::Newer(version));
    };
    if done > MIGRATIONS.len() {
        return Err(SchemaError::Newer(version));
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", index as i64 + 1)?;
        transaction.commit()?;
    }
    check(connection)?;
    Ok(())
}

/// A quick look that finds a file which is no database, or whose pages are damaged at the places
/// that are used first.
fn check(connection: &Connection) -> Result<()> {
    for table in ["jobs", "job_data", "assets", "blobs", "keys", "labels"] {
        connection.query_row(
            &format!("SELECT COUNT(*) FROM (SELECT 1 FROM {table} LIMIT 1)"),
            [],
            |_| Ok(()),
        )?;
    }
    Ok(())
}

/// What every connection needs.
pub fn configure(connection: &Connection) -> Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // The process may die, not the machine (v2.md, "What survives").
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cache_size", -2000)?;
    connection.pragma_update(None, "journal_size_limit", 8 * 1024 * 1024)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}
