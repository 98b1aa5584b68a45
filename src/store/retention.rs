//! What goes, and when: what is past its time, and what is used least when room is needed. Nothing
//! that a job in flight needs.

use std::time::Duration;

use nix::sys::statvfs::statvfs;
use rusqlite::OptionalExtension;
use std::sync::atomic::Ordering;

use super::writer::Write;
use super::{Store, StoreError, assets, keys, now_ms};

/// What expires together goes together.
const GATHERING: Duration = Duration::from_secs(1);
/// Records removed in one write, so that nobody waits long behind it.
const AT_ONCE: i64 = 500;

impl Store {
    /// Runs for ever: removes what is past its time. Sleeps until the next thing is due.
    pub async fn keep_clean(&self) {
        for id in self.unhashed().await {
            self.hash_later(id);
        }
        loop {
            let due = self.inner.due.load(Ordering::Relaxed);
            let wait = u64::try_from(due.saturating_sub(now_ms())).unwrap_or(0);
            tokio::select! {
                () = tokio::time::sleep(
                    Duration::from_millis(wait.min(86_400_000)) + GATHERING
                ) => {}
                () = self.inner.due_changed.notified() => continue,
            }
            if self.inner.due.load(Ordering::Relaxed) > now_ms() {
                continue;
            }
            self.inner.due.store(i64::MAX, Ordering::Relaxed);
            let store = self.clone();
            match self.write(move |write| store.expire(write)).await {
                Ok(Some(next)) => self.inner.expires(next),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "what has expired cannot be removed from the store");
                    self.inner.expires(now_ms() + 60_000);
                }
            }
        }
    }

    async fn unhashed(&self) -> Vec<String> {
        let found = self.read(|db| {
            let mut statement = db.prepare("SELECT id FROM assets WHERE hash IS NULL")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        });
        found.await.unwrap_or_default()
    }

    /// Removes some of what is past its time; returns when the next is due.
    fn expire(&self, write: &mut Write<'_>) -> Result<Option<i64>, StoreError> {
        let now = now_ms();
        let ids = |write: &Write<'_>, sql: &str| -> Result<Vec<String>, StoreError> {
            let mut statement = write.db.prepare_cached(sql)?;
            let rows = statement.query_map(rusqlite::params![now, AT_ONCE], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        for id in ids(
            write,
            "SELECT id FROM jobs WHERE completed_at IS NOT NULL AND expires_at <= ? LIMIT ?",
        )? {
            self.remove_job(write, &id)?;
        }
        for id in ids(write, "SELECT id FROM assets WHERE expires_at <= ? LIMIT ?")? {
            if let Some(asset) = assets::by_id(write.db, &id)? {
                self.remove_asset(write, &asset)?;
            }
        }
        let mut next = keys::expire(write, now)?;
        for sql in [
            "SELECT MIN(expires_at) FROM jobs WHERE completed_at IS NOT NULL",
            "SELECT MIN(expires_at) FROM assets WHERE expires_at IS NOT NULL",
        ] {
            let due: Option<i64> = write.db.query_row(sql, [], |row| row.get(0))?;
            next = [next, due].into_iter().flatten().min();
        }
        Ok(next)
    }

    /// Makes room for so many bytes more; inside a write.
    ///
    /// # Errors
    /// [`StoreError::Full`] when everything that is left is needed.
    pub(super) fn make_room(&self, write: &mut Write<'_>, needed: u64) -> Result<(), StoreError> {
        let mut removed_on_disk = 0_u64;
        loop {
            let limit = self.inner.limits.max_bytes;
            let room = limit.saturating_sub(self.in_use(write)?);
            let disk = self.free_on_disk().saturating_add(removed_on_disk);
            let free = room.min(disk.saturating_sub(self.inner.limits.reserve));
            if needed <= free {
                return Ok(());
            }
            let freed = match self.evict_a_blob(write)? {
                Some(size) => size,
                None => self
                    .evict_a_job(write)?
                    .ok_or(StoreError::Full { needed, free })?,
            };
            removed_on_disk += freed;
        }
    }

    /// Blobs and the pages of the database that hold something.
    fn in_use(&self, write: &Write<'_>) -> Result<u64, StoreError> {
        // Asked before every output, so parsed only once.
        let mut statement = write.db.prepare_cached(
            "SELECT (page_count - freelist_count) * page_size
             FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
        )?;
        let bytes: i64 = statement.query_row([], |row| row.get(0))?;
        let database = u64::try_from(bytes).unwrap_or(0);
        Ok(self.inner.used.load(Ordering::Relaxed) + database)
    }

    /// Bytes free on the disk of the store.
    pub fn free_on_disk(&self) -> u64 {
        statvfs(&self.inner.dir).map_or(u64::MAX / 2, |disk| {
            disk.blocks_available() * disk.fragment_size()
        })
    }

    /// The blob that was not used for the longest time and that no job in flight needs.
    fn evict_a_blob(&self, write: &mut Write<'_>) -> Result<Option<u64>, StoreError> {
        let mut statement = write.db.prepare_cached(
            "SELECT hash, size FROM blobs b WHERE present
             AND NOT EXISTS (SELECT 1 FROM job_blobs r JOIN jobs j ON j.seq = r.seq
                             WHERE r.hash = b.hash AND j.completed_at IS NULL)
             AND NOT EXISTS (SELECT 1 FROM assets a JOIN jobs j ON j.id = a.job_id
                             WHERE a.hash = b.hash AND j.completed_at IS NULL)
             ORDER BY used_at LIMIT 64",
        )?;
        let candidates: Vec<(String, i64)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        drop(statement);
        let held = self.inner.held.lock();
        let Some((hash, size)) = candidates
            .into_iter()
            .find(|(hash, _)| !held.contains_key(hash))
        else {
            return Ok(None);
        };
        drop(held);
        let size = u64::try_from(size).unwrap_or(0);
        self.drop_thumbnails(write, &hash)?;
        write
            .db
            .execute("UPDATE blobs SET present = 0 WHERE hash = ?", [&hash])?;
        self.forget_bytes(size);
        write.remove.push(self.blob_path(&hash));
        Ok(Some(size))
    }

    /// The oldest job that has ended: graphs and logs fill the database.
    fn evict_a_job(&self, write: &mut Write<'_>) -> Result<Option<u64>, StoreError> {
        let oldest: Option<String> = write
            .db
            .query_row(
                "SELECT id FROM jobs WHERE completed_at IS NOT NULL ORDER BY seq LIMIT 1",
                [],
                |row| row.get(0),
            )
            .optional()?;
        let Some(id) = oldest else {
            return Ok(None);
        };
        self.remove_job(write, &id)?;
        Ok(Some(0))
    }
}
