//! Records of jobs: what was asked for, what became of it.

use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter, types::Value as Sql};

use super::writer::Write;
use super::{Store, StoreError, keys, ms, now_ms};

/// Where a job is in its life (v2.md, "States").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the words of v2.md")]
pub enum JobStatus {
    Queued,
    Running,
    Canceling,
    Succeeded,
    Failed,
    Canceled,
    Expired,
}

impl JobStatus {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Canceling,
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
        Self::Expired,
    ];

    /// The word in bodies and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
        }
    }

    /// The status of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// It changes no more.
    pub const fn has_ended(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Canceled | Self::Expired
        )
    }
}

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

pub(super) const COLUMNS: &str = "seq, id, source, status, created_at, updated_at, started_at, completed_at, \
    expires_at, metadata, priority, error, attempts, outputs_reused, outputs_count, comfy_id, base_url, \
    needs_secrets, progress, workflow, resumes, trace";

pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<JobRecord> {
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

/// Which jobs a page of a list shows.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Only these transports; empty for all.
    pub sources: Vec<&'static str>,
    /// All of them must match.
    pub labels: Vec<(String, String)>,
    /// Any of them; empty for all.
    pub statuses: Vec<JobStatus>,
    /// Older than this one.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: usize,
}

/// What a job printed.
#[derive(Debug, Clone)]
pub struct Logs {
    /// The lines.
    pub text: String,
    /// There was more.
    pub truncated: bool,
}

impl Store {
    /// Records a job together with its idempotency key. Resolves when it is safe.
    ///
    /// # Errors
    /// [`StoreError::KeyReuse`], [`StoreError::TooManyJobs`], or that the database cannot be written.
    pub async fn create_job(&self, job: NewJob) -> Result<JobRecord, StoreError> {
        let store = self.clone();
        self.write(move |write| store.insert_job(write, &job)).await
    }

    /// Inside a write: records a job. One of the same id that has ended, or that was given up, makes room for it.
    pub(super) fn insert_job(
        &self,
        write: &mut Write<'_>,
        job: &NewJob,
    ) -> Result<JobRecord, StoreError> {
        self.make_room_for_a_job(write)?;
        self.make_room(write, job.request.len() as u64)?;
        let now = job.created_at.unwrap_or_else(now_ms);
        if let Some(key) = &job.key {
            keys::claim(write, keys::JOBS, key, &job.id)?;
        }
        if by_id(write.db, &job.id)?.is_some() {
            self.remove_job(write, &job.id)?;
        }
        let expires = now + ms(self.inner.limits.retention);
        write.db.prepare_cached(
            "INSERT INTO jobs (id, source, status, created_at, updated_at, expires_at, metadata, priority, base_url, needs_secrets, workflow, resumes, trace)
             VALUES (?1, ?2, 'queued', ?3, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            job.id, job.source, now, expires, job.metadata, job.priority, job.base_url, job.needs_secrets,
            job.workflow, job.resumes, job.trace
        ])?;
        let seq = write.db.last_insert_rowid();
        write
            .db
            .prepare_cached("INSERT INTO job_data (seq, request) VALUES (?, ?)")?
            .execute(params![seq, job.request])?;
        for (key, value) in &job.labels {
            write
                .db
                .prepare_cached("INSERT INTO labels (key, value, seq) VALUES (?, ?, ?)")?
                .execute(params![key, value, seq])?;
        }
        for hash in &job.blobs {
            write
                .db
                .prepare_cached("INSERT OR IGNORE INTO job_blobs (seq, hash) VALUES (?, ?)")?
                .execute(params![seq, hash])?;
        }
        if job.key.is_some() {
            self.inner.expires(now_ms() + 24 * 60 * 60 * 1000);
        }
        self.inner.jobs.fetch_add(1, Ordering::Relaxed);
        by_seq(write.db, seq)
    }

    /// Takes a job back that never was: its key is free again.
    pub async fn revoke_job(&self, id: &str) -> Result<(), StoreError> {
        let (store, id) = (self.clone(), id.to_owned());
        self.write(move |write| {
            keys::release(write, keys::JOBS, &id)?;
            store.remove_job(write, &id)
        })
        .await
    }

    /// Removes an ended job and the outputs nobody else uses.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or [`StoreError::InUse`] while it has not ended.
    pub async fn delete_job(&self, id: &str) -> Result<(), StoreError> {
        let (store, id) = (self.clone(), id.to_owned());
        self.write(move |write| {
            let job = by_id(write.db, &id)?.ok_or(StoreError::NotFound)?;
            if !job.status.has_ended() {
                return Err(StoreError::InUse);
            }
            store.remove_job(write, &id)
        })
        .await
    }

    /// Inside a write: a job, its outputs, and the bytes that nobody else needs.
    pub(super) fn remove_job(&self, write: &mut Write<'_>, id: &str) -> Result<(), StoreError> {
        let Some(job) = by_id(write.db, id)? else {
            return Ok(());
        };
        self.remove_outputs(write, id)?;
        let hashes: Vec<String> = write
            .db
            .prepare_cached("SELECT hash FROM job_blobs WHERE seq = ?")?
            .query_map([job.seq], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        write
            .db
            .prepare_cached("DELETE FROM jobs WHERE seq = ?")?
            .execute([job.seq])?;
        for hash in hashes {
            self.drop_blob_if_unused(write, &hash)?;
        }
        let _ = self
            .inner
            .jobs
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |jobs| {
                Some(jobs.saturating_sub(1))
            });
        Ok(())
    }

    /// At most `V2_MAX_JOBS` records: the oldest ended go first.
    fn make_room_for_a_job(&self, write: &mut Write<'_>) -> Result<(), StoreError> {
        if self.inner.jobs.load(Ordering::Relaxed) < self.inner.limits.max_jobs {
            return Ok(());
        }
        let oldest: Option<String> = write
            .db
            .prepare_cached(
                "SELECT id FROM jobs WHERE completed_at IS NOT NULL ORDER BY seq LIMIT 1",
            )?
            .query_row([], |row| row.get(0))
            .optional()?;
        match oldest {
            Some(id) => self.remove_job(write, &id),
            None => Err(StoreError::TooManyJobs),
        }
    }

    /// Notes what a job has become; at its end it gets its last day. Order is kept.
    pub fn update_job(
        &self,
        id: &str,
        update: JobUpdate,
    ) -> tokio::sync::oneshot::Receiver<Result<(), StoreError>> {
        let (store, id) = (self.clone(), id.to_owned());
        self.inner.writer.send(move |write| {
            let now = now_ms();
            let expires = update.completed_at.map(|at| at + ms(store.inner.limits.retention));
            write.db.prepare_cached(
                "UPDATE jobs SET status = ?2, updated_at = ?3, started_at = ?4, completed_at = ?5, error = ?6,
                 attempts = ?7, outputs_reused = ?8, outputs_count = ?9, progress = ?10,
                 expires_at = COALESCE(?11, expires_at) WHERE id = ?1 AND completed_at IS NULL",
            )?
            .execute(params![
                id, update.status.as_str(), now, update.started_at, update.completed_at, update.error,
                update.attempts, update.outputs_reused, update.outputs_count, update.progress, expires
            ])?;
            if let Some(expires) = expires {
                store.inner.expires(expires);
            }
            Ok(())
        })
    }

    /// ComfyUI has it: under which id, and as which graph.
    pub fn job_accepted(&self, id: &str, comfy_id: String, graph: String) {
        let id = id.to_owned();
        self.write_later(move |write| {
            let seq: i64 = write
                .db
                .prepare_cached("SELECT seq FROM jobs WHERE id = ?")?
                .query_row([&id], |row| row.get(0))?;
            write
                .db
                .prepare_cached("UPDATE jobs SET comfy_id = ? WHERE seq = ?")?
                .execute(params![comfy_id, seq])?;
            write
                .db
                .prepare_cached("UPDATE job_data SET graph = ? WHERE seq = ?")?
                .execute(params![graph, seq])?;
            Ok(())
        });
    }

    /// What ComfyUI printed meanwhile.
    pub fn job_logs(&self, id: &str, logs: Logs) {
        let id = id.to_owned();
        self.write_later(move |write| {
            write.db.execute(
                "UPDATE job_data SET logs = ?2, logs_truncated = ?3 WHERE seq = (SELECT seq FROM jobs WHERE id = ?1)",
                params![id, logs.text, logs.truncated],
            )?;
            Ok(())
        });
    }

    /// Some of the statistics, texts, warnings and outputs of a job, as JSON; what is known already stays.
    pub fn job_result(&self, id: &str, result: String) {
        let id = id.to_owned();
        self.write_later(move |write| {
            write.db.execute(
                "UPDATE job_data SET result = json_patch(COALESCE(result, '{}'), ?2)
                 WHERE seq = (SELECT seq FROM jobs WHERE id = ?1)",
                params![id, result],
            )?;
            Ok(())
        });
    }

    /// What [`Store::job_result`] has kept, if anything.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn result_of(&self, id: &str) -> Result<Option<String>, StoreError> {
        let id = id.to_owned();
        self.read(move |db| {
            let found: Option<Option<String>> = db
                .query_row(
                    "SELECT result FROM job_data WHERE seq = (SELECT seq FROM jobs WHERE id = ?)",
                    [id],
                    |row| row.get(0),
                )
                .optional()?;
            Ok(found.flatten())
        })
        .await
    }

    /// One job, unless its time is over.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn job(&self, id: &str) -> Result<Option<JobRecord>, StoreError> {
        let id = id.to_owned();
        self.read(move |db| Ok(by_id(db, &id)?.filter(alive))).await
    }

    /// `(submitted request, graph as run)` as JSON.
    ///
    /// # Errors
    /// When there is no such job.
    pub async fn job_request(&self, id: &str) -> Result<(String, Option<String>), StoreError> {
        let id = id.to_owned();
        self.read(move |db| {
            Ok(db.query_row(
                "SELECT request, graph FROM job_data WHERE seq = (SELECT seq FROM jobs WHERE id = ?)",
                [id],
                |row| Ok((row.get::<_, Option<String>>(0)?.unwrap_or_default(), row.get(1)?)),
            )?)
        })
        .await
    }

    /// What a job printed, if it printed anything.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn logs_of(&self, id: &str) -> Result<Option<Logs>, StoreError> {
        let id = id.to_owned();
        self.read(move |db| {
            let found: Option<(Option<String>, bool)> = db
                .query_row(
                    "SELECT logs, logs_truncated FROM job_data WHERE seq = (SELECT seq FROM jobs WHERE id = ?)",
                    [id],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            Ok(found.and_then(|(text, truncated)| text.map(|text| Logs { text, truncated })))
        })
        .await
    }

    /// The jobs that had not ended when the last process did, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn unfinished(&self) -> Result<Vec<JobRecord>, StoreError> {
        self.read(|db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM jobs WHERE completed_at IS NULL AND resumes ORDER BY seq"
            );
            let mut statement = db.prepare(&sql)?;
            let rows = statement.query_map([], record)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// One page, newest first, and whether there is more.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list_jobs(&self, query: ListQuery) -> Result<(Vec<JobRecord>, bool), StoreError> {
        self.read(move |db| list(db, &query)).await
    }
}

pub(super) fn alive(job: &JobRecord) -> bool {
    job.completed_at.is_none() || job.expires_at > now_ms()
}

fn by_seq(db: &Connection, seq: i64) -> Result<JobRecord, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE seq = ?");
    Ok(db.prepare_cached(&sql)?.query_row([seq], record)?)
}

pub(super) fn by_id(db: &Connection, id: &str) -> Result<Option<JobRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?");
    Ok(db
        .prepare_cached(&sql)?
        .query_row([id], record)
        .optional()?)
}

fn list(db: &Connection, query: &ListQuery) -> Result<(Vec<JobRecord>, bool), StoreError> {
    let mut values: Vec<Sql> = Vec::new();
    // The first label leads, so that a rare one is found without a look at all jobs.
    let (from, seq) = match query.labels.first() {
        Some((key, value)) => {
            values.extend([Sql::from(key.clone()), Sql::from(value.clone())]);
            (
                "labels l JOIN jobs j ON j.seq = l.seq WHERE l.key = ? AND l.value = ?",
                "l.seq",
            )
        }
        None => ("jobs j WHERE 1", "j.seq"),
    };
    let columns = COLUMNS
        .split(", ")
        .map(|name| format!("j.{}", name.trim()))
        .collect::<Vec<_>>();
    let mut sql = format!("SELECT {} FROM {from}", columns.join(", "));
    for (key, value) in query.labels.iter().skip(1) {
        sql.push_str(" AND EXISTS (SELECT 1 FROM labels m WHERE m.key = ? AND m.value = ? AND m.seq = j.seq)");
        values.extend([Sql::from(key.clone()), Sql::from(value.clone())]);
    }
    let mut one_of = |column: &str, words: Vec<String>| {
        if !words.is_empty() {
            let marks = vec!["?"; words.len()].join(", ");
            sql.push_str(&format!(" AND {column} IN ({marks})"));
            values.extend(words.into_iter().map(Sql::from));
        }
    };
    one_of(
        "j.source",
        query
            .sources
            .iter()
            .map(|word| (*word).to_owned())
            .collect(),
    );
    one_of(
        "j.status",
        query
            .statuses
            .iter()
            .map(|status| status.as_str().to_owned())
            .collect(),
    );
    sql.push_str(" AND (j.completed_at IS NULL OR j.expires_at > ?)");
    values.push(Sql::from(now_ms()));
    if let Some(before) = query.before {
        sql.push_str(&format!(" AND {seq} < ?"));
        values.push(Sql::from(before));
    }
    sql.push_str(&format!(" ORDER BY {seq} DESC LIMIT ?"));
    values.push(Sql::from(
        i64::try_from(query.limit).unwrap_or(i64::MAX - 1) + 1,
    ));
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), record)?;
    let mut jobs: Vec<JobRecord> = rows.collect::<rusqlite::Result<_>>()?;
    let more = jobs.len() > query.limit;
    jobs.truncate(query.limit);
    Ok((jobs, more))
}
