//! Records come and go.

use std::sync::atomic::Ordering;

use rusqlite::{OptionalExtension, params};

use super::record::{JobRecord, NewJob, by_id, by_seq};
use crate::store::writer::Write;
use crate::store::{Store, StoreError, keys, ms, now_ms};

impl Store {
    /// Records a job together with its idempotency key. Resolves when it is safe.
    ///
    /// # Errors
    /// [`StoreError::KeyReuse`], [`StoreError::TooManyJobs`], or that the database cannot be
    /// written.
    pub async fn create_job(&self, job: NewJob) -> Result<JobRecord, StoreError> {
        let store = self.clone();
        self.write(move |write| store.insert_job(write, &job)).await
    }

    /// Inside a write: records a job. One of the same id that has ended, or that was given up,
    /// makes room for it.
    pub(in crate::store) fn insert_job(
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
        write
            .db
            .prepare_cached(
                "INSERT INTO jobs (id, source, status, created_at, updated_at, expires_at, \
                 metadata, priority, base_url, needs_secrets, workflow, resumes, trace)
             VALUES (?1, ?2, 'queued', ?3, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                job.id,
                job.source,
                now,
                expires,
                job.metadata,
                job.priority,
                job.base_url,
                job.needs_secrets,
                job.workflow,
                job.resumes,
                job.trace
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
    pub(in crate::store) fn remove_job(
        &self,
        write: &mut Write<'_>,
        id: &str,
    ) -> Result<(), StoreError> {
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
}
