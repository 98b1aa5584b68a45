//! What happens to a job is recorded.

use rusqlite::params;

use super::record::{JobUpdate, Logs};
use crate::store::writer::Haste;
use crate::store::{Store, StoreError, ms, now_ms};

impl Store {
    /// Notes what a job has become; at its end it gets its last day. Order is kept.
    pub fn update_job(
        &self,
        id: &str,
        update: JobUpdate,
    ) -> tokio::sync::oneshot::Receiver<Result<(), StoreError>> {
        let (store, id) = (self.clone(), id.to_owned());
        // Where a job is meanwhile is found out anew after a kill.
        let haste = match update.completed_at {
            Some(_) => Haste::Now,
            None => Haste::MayLie,
        };
        self.inner.writer.send(haste, move |write| {
            let now = now_ms();
            let expires = update
                .completed_at
                .map(|at| at + ms(store.inner.limits.retention));
            write
                .db
                .prepare_cached(
                    "UPDATE jobs SET status = ?2, updated_at = ?3, started_at = ?4, completed_at \
                     = ?5, error = ?6,
                 attempts = ?7, outputs_reused = ?8, outputs_count = ?9, progress = ?10,
                 expires_at = COALESCE(?11, expires_at) WHERE id = ?1 AND completed_at IS NULL",
                )?
                .execute(params![
                    id,
                    update.status.as_str(),
                    now,
                    update.started_at,
                    update.completed_at,
                    update.error,
                    update.attempts,
                    update.outputs_reused,
                    update.outputs_count,
                    update.progress,
                    expires
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
        self.write_with_the_next(move |write| {
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
        self.write_with_the_next(move |write| {
            write
                .db
                .prepare_cached(
                    "UPDATE job_data SET logs = ?2, logs_truncated = ?3 WHERE seq = (SELECT seq \
                     FROM jobs WHERE id = ?1)",
                )?
                .execute(params![id, logs.text, logs.truncated])?;
            Ok(())
        });
    }

    /// Some of the statistics, texts, warnings and outputs of a job, as JSON; what is known already
    /// stays.
    pub fn job_result(&self, id: &str, result: String) {
        let id = id.to_owned();
        self.write_with_the_next(move |write| {
            write
                .db
                .prepare_cached(
                    "UPDATE job_data SET result = json_patch(COALESCE(result, '{}'), ?2)
                     WHERE seq = (SELECT seq FROM jobs WHERE id = ?1)",
                )?
                .execute(params![id, result])?;
            Ok(())
        });
    }
}
