//! Kept runs of all transports: those that end with the process, and the list of all of them.

use rusqlite::{Connection, OptionalExtension, params, params_from_iter, types::Value as Sql};

use super::jobs::{COLUMNS, JobUpdate, alive, record};
use super::writer::Write;
use super::{JobRecord, JobStatus, NewJob, Store, StoreError, ms, now_ms};

/// Records removed in one write, so that nobody waits long behind it.
const AT_ONCE: usize = 200;

/// Which runs a page of the list shows.
#[derive(Debug, Clone, Default)]
pub struct RunQuery {
    /// Only this transport.
    pub source: Option<String>,
    /// Only this workflow endpoint.
    pub workflow: Option<String>,
    /// Any of them, and those that have not ended; empty for all.
    pub statuses: Vec<JobStatus>,
    /// Older than this one: when it began, and its id.
    pub before: Option<(i64, String)>,
    /// At most so many.
    pub limit: usize,
    /// The request is looked at.
    pub with_request: bool,
}

/// A kept run.
#[derive(Debug, Clone)]
pub struct RunRow {
    /// What every job has.
    pub record: JobRecord,
    /// What became of it, as JSON; see [`Store::job_result`].
    pub result: Option<String>,
    /// What was asked for, as JSON; empty unless it was wanted.
    pub request: String,
}

impl Store {
    /// Records a run that ends with this process, without waiting for it. `failed` is told when
    /// that is not possible.
    pub fn create_run_later(&self, run: NewJob, failed: impl FnOnce(StoreError) + Send + 'static) {
        let store = self.clone();
        self.write_later(move |write| {
            if let Err(error) = store.insert_job(write, &run) {
                failed(error);
            }
            Ok(())
        });
    }

    /// Notes what such a run has become: the one that began at that time (milliseconds since 1970).
    pub fn update_run(&self, id: &str, created_at: i64, update: JobUpdate, result: Option<String>) {
        let (store, id) = (self.clone(), id.to_owned());
        self.write_later(move |write| {
            let expires = update
                .completed_at
                .map(|at| at + ms(store.inner.limits.retention));
            let changed = write
                .db
                .prepare_cached(
                    "UPDATE jobs SET status = ?3, updated_at = ?4, started_at = COALESCE(?5, \
                     started_at), completed_at = ?6, error = ?7,
                 outputs_count = ?8, expires_at = COALESCE(?9, expires_at)
                 WHERE id = ?1 AND created_at = ?2 AND completed_at IS NULL",
                )?
                .execute(params![
                    id,
                    created_at,
                    update.status.as_str(),
                    now_ms(),
                    update.started_at,
                    update.completed_at,
                    update.error,
                    update.outputs_count,
                    expires
                ])?;
            if changed > 0 && result.is_some() {
                write
                    .db
                    .prepare_cached(
                        "UPDATE job_data SET result = ?2 WHERE seq = (SELECT seq FROM jobs WHERE \
                         id = ?1)",
                    )?
                    .execute(params![id, result])?;
            }
            if let Some(expires) = expires {
                store.inner.expires(expires);
            }
            Ok(())
        });
    }

    /// At the start: runs that have ended with the last process get this error.
    pub fn end_abandoned_runs(&self, error: String) {
        let store = self.clone();
        self.write_later(move |write| {
            let now = now_ms();
            let expires = now + ms(store.inner.limits.retention);
            let ended = write.db.execute(
                "UPDATE jobs SET status = 'failed', updated_at = ?1, completed_at = ?1, \
                 expires_at = ?2, error = ?3
                 WHERE completed_at IS NULL AND NOT resumes",
                params![now, expires, error],
            )?;
            if ended > 0 {
                store.inner.expires(expires);
            }
            Ok(())
        });
    }

    /// One page, newest first, of the runs that `shows` agrees to, and whether there is more.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list_runs(
        &self,
        query: RunQuery,
        shows: impl Fn(&RunRow) -> bool + Send + 'static,
    ) -> Result<(Vec<RunRow>, bool), StoreError> {
        self.read(move |db| list(db, &query, shows)).await
    }

    /// One run, unless its time is over.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn run(&self, id: &str) -> Result<Option<RunRow>, StoreError> {
        let id = id.to_owned();
        self.read(move |db| {
            let sql = format!("{} WHERE j.id = ?", select(true));
            let found = db.prepare_cached(&sql)?.query_row([id], row).optional()?;
            Ok(found.filter(|run| alive(&run.record)))
        })
        .await
    }

    /// Removes ended runs with the outputs that nobody else uses; says how many there were.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn delete_runs(&self, ids: Vec<String>) -> Result<usize, StoreError> {
        let mut removed = 0;
        let mut left = ids.into_iter().peekable();
        while left.peek().is_some() {
            let some: Vec<String> = left.by_ref().take(AT_ONCE).collect();
            let store = self.clone();
            removed += self
                .write(move |write| {
                    let mut removed = 0;
                    for id in some {
                        removed += usize::from(store.delete_ended(write, &id)?);
                    }
                    Ok(removed)
                })
                .await?;
        }
        Ok(removed)
    }

    fn delete_ended(&self, write: &mut Write<'_>, id: &str) -> Result<bool, StoreError> {
        let ended: Option<bool> = write
            .db
            .prepare_cached("SELECT completed_at IS NOT NULL FROM jobs WHERE id = ?")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        if ended != Some(true) {
            return Ok(false);
        }
        self.remove_job(write, id)?;
        Ok(true)
    }
}

/// The columns of a record, then result and request.
fn select(with_request: bool) -> String {
    let columns: Vec<String> = COLUMNS
        .split(", ")
        .map(|name| format!("j.{}", name.trim()))
        .collect();
    let request = if with_request { "d.request" } else { "''" };
    format!(
        "SELECT {}, d.result, {request} FROM jobs j LEFT JOIN job_data d ON d.seq = j.seq",
        columns.join(", ")
    )
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<RunRow> {
    let first = COLUMNS.split(", ").count();
    Ok(RunRow {
        record: record(row)?,
        result: row.get(first)?,
        request: row.get::<_, Option<String>>(first + 1)?.unwrap_or_default(),
    })
}

fn list(
    db: &Connection,
    query: &RunQuery,
    shows: impl Fn(&RunRow) -> bool,
) -> Result<(Vec<RunRow>, bool), StoreError> {
    let mut sql = format!(
        "{} WHERE (j.completed_at IS NULL OR j.expires_at > ?)",
        select(query.with_request)
    );
    let mut values: Vec<Sql> = vec![now_ms().into()];
    for (column, value) in [("j.source", &query.source), ("j.workflow", &query.workflow)] {
        if let Some(value) = value {
            sql.push_str(&format!(" AND {column} = ?"));
            values.push(value.clone().into());
        }
    }
    if !query.statuses.is_empty() {
        let marks = vec!["?"; query.statuses.len()].join(", ");
        sql.push_str(&format!(
            " AND (j.completed_at IS NULL OR j.status IN ({marks}))"
        ));
        let words = query.statuses.iter().map(|status| status.as_str());
        values.extend(words.map(|word| Sql::from(word.to_owned())));
    }
    if let Some((at, id)) = &query.before {
        sql.push_str(" AND (j.created_at, j.id) < (?, ?)");
        values.extend([Sql::from(*at), Sql::from(id.clone())]);
    }
    sql.push_str(" ORDER BY j.created_at DESC, j.id DESC");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut runs = Vec::new();
    while let Some(next) = rows.next()? {
        let run = row(next)?;
        if !shows(&run) {
            continue;
        }
        if runs.len() == query.limit {
            return Ok((runs, true));
        }
        runs.push(run);
    }
    Ok((runs, false))
}
