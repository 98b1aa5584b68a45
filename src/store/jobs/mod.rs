//! Records of jobs: what was asked for, what became of it.

mod create;
mod list;
mod record;
mod status;
mod update;

use rusqlite::OptionalExtension;

use super::{Store, StoreError};

pub use list::ListQuery;
pub(super) use record::{COLUMNS, alive, by_id, record};
pub use record::{JobRecord, JobUpdate, Logs, NewJob};
pub use status::JobStatus;

impl Store {
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
                "SELECT request, graph FROM job_data WHERE seq = (SELECT seq FROM jobs WHERE id = \
                 ?)",
                [id],
                |row| {
                    Ok((
                        row.get::<_, Option<String>>(0)?.unwrap_or_default(),
                        row.get(1)?,
                    ))
                },
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
                    "SELECT logs, logs_truncated FROM job_data WHERE seq = (SELECT seq FROM jobs \
                     WHERE id = ?)",
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
}
