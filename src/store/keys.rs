//! Idempotency keys: single use, kept for a day, over restarts too.

use rusqlite::{OptionalExtension, params};

use super::writer::Write;
use super::{Store, StoreError, now_ms};

/// How long a key is known.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;

/// What keys are for: each has its own space.
pub const JOBS: &str = "job";
/// See [`JOBS`].
pub const ASSETS: &str = "asset";
/// Announced uploads that have come.
pub(super) const UPLOADS: &str = "upload";

/// Takes a key for what is made in the same write.
///
/// # Errors
/// [`StoreError::KeyReuse`] with what it made.
pub(super) fn claim(
    write: &mut Write<'_>,
    scope: &str,
    key: &str,
    made: &str,
) -> Result<(), StoreError> {
    let now = now_ms();
    let known = write
        .db
        .prepare_cached("SELECT made, created_at FROM keys WHERE scope = ? AND key = ?")?
        .query_row(params![scope, key], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })
        .optional()?;
    if let Some((made, created)) = known
        && created + KEPT_MS > now
    {
        return Err(StoreError::KeyReuse(made));
    }
    write
        .db
        .prepare_cached(
            "INSERT OR REPLACE INTO keys (scope, key, made, created_at) VALUES (?, ?, ?, ?)",
        )?
        .execute(params![scope, key, made, now])?;
    Ok(())
}

pub(super) fn release(write: &mut Write<'_>, scope: &str, made: &str) -> Result<(), StoreError> {
    write
        .db
        .prepare_cached("DELETE FROM keys WHERE scope = ? AND made = ?")?
        .execute(params![scope, made])?;
    Ok(())
}

/// Forgets old ones; returns when the next is due.
pub(super) fn expire(write: &mut Write<'_>, now: i64) -> Result<Option<i64>, StoreError> {
    write
        .db
        .execute("DELETE FROM keys WHERE created_at <= ?", [now - KEPT_MS])?;
    let oldest: Option<i64> =
        write
            .db
            .query_row("SELECT MIN(created_at) FROM keys", [], |row| row.get(0))?;
    Ok(oldest.map(|oldest| oldest + KEPT_MS))
}

impl Store {
    /// What a key has made, if it was used.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn key_made(
        &self,
        scope: &'static str,
        key: &str,
    ) -> Result<Option<String>, StoreError> {
        let key = key.to_owned();
        self.read(move |db| {
            Ok(db
                .query_row(
                    "SELECT made FROM keys WHERE scope = ? AND key = ? AND created_at > ?",
                    params![scope, key, now_ms() - KEPT_MS],
                    |row| row.get(0),
                )
                .optional()?)
        })
        .await
    }
}
