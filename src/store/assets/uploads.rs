//! Assets that clients bring.

use rusqlite::{OptionalExtension, params};

use super::new::{NewAsset, Stored};
use super::record::{AssetRecord, by_id};
use crate::store::blobs::Incoming;
use crate::store::writer::Write;
use crate::store::{Store, StoreError, blobs, column, keys, ms, now_ms};

impl Store {
    /// Records an upload that has arrived.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::KeyReuse`].
    pub async fn add_upload(
        &self,
        file: Incoming,
        hash: String,
        size: u64,
        new: NewAsset,
    ) -> Result<Stored, StoreError> {
        let store = self.clone();
        self.write(move |write| {
            store.make_room_for_blob(write, &hash, size)?;
            let new_bytes = store.place_blob(write, file.path(), &hash, size)?;
            store.record_upload(write, &hash, size, &new, new_bytes)
        })
        .await
    }

    /// Records an announced upload that has arrived, once.
    ///
    /// # Errors
    /// [`StoreError::KeyReuse`] when it has come before, [`StoreError::Full`].
    pub(in crate::store) async fn add_announced(
        &self,
        id: String,
        file: Incoming,
        hash: String,
        size: u64,
        new: NewAsset,
    ) -> Result<AssetRecord, StoreError> {
        let store = self.clone();
        self.write(move |write| {
            keys::claim(write, keys::UPLOADS, &id, &id)?;
            let now = now_ms();
            store.inner.expires(now + 24 * 60 * 60 * 1000);
            store.make_room_for_blob(write, &hash, size)?;
            store.place_blob(write, file.path(), &hash, size)?;
            store.insert_upload(write, &id, &hash, size, &new, now)
        })
        .await
    }

    /// A record over bytes that are here.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when they are not, [`StoreError::KeyReuse`].
    pub async fn add_from_hash(&self, hash: String, new: NewAsset) -> Result<Stored, StoreError> {
        let store = self.clone();
        self.write(move |write| {
            let size = blobs::present(write.db, &hash)?.ok_or(StoreError::Gone)?;
            store.record_upload(write, &hash, size, &new, false)
        })
        .await
    }

    fn record_upload(
        &self,
        write: &mut Write<'_>,
        hash: &str,
        size: u64,
        new: &NewAsset,
        new_bytes: bool,
    ) -> Result<Stored, StoreError> {
        let now = now_ms();
        let same = write
            .db
            .prepare_cached(
                "SELECT id FROM assets WHERE hash = ? AND file_path = ? AND content_type = ? AND \
                 job_id IS NULL AND external IS NULL",
            )?
            .query_row(params![hash, new.file_path, new.content_type], |row| {
                row.get::<_, String>(0)
            })
            .optional()?;
        let new_record = same.is_none();
        let id = same.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        if let Some(key) = &new.key {
            keys::claim(write, keys::ASSETS, key, &id)?;
            self.inner.expires(now + 24 * 60 * 60 * 1000);
        }
        let asset = if new_record {
            self.insert_upload(write, &id, hash, size, new, now)?
        } else {
            // Re-use extends, never shortens.
            let expires = now + self.lives(new);
            write
                .db
                .prepare_cached("UPDATE assets SET expires_at = MAX(expires_at, ?) WHERE id = ?")?
                .execute(params![expires, id])?;
            self.inner.expires(expires);
            by_id(write.db, &id)?.ok_or(StoreError::NotFound)?
        };
        Ok(Stored {
            asset,
            new_bytes,
            new_record,
        })
    }

    /// How long an upload is kept after its last use, ms.
    fn lives(&self, new: &NewAsset) -> i64 {
        new.expires_in
            .map_or(ms(self.inner.limits.asset_retention), |seconds| {
                i64::try_from(seconds).unwrap_or(i64::MAX / 2000) * 1000
            })
    }

    fn insert_upload(
        &self,
        write: &mut Write<'_>,
        id: &str,
        hash: &str,
        size: u64,
        new: &NewAsset,
        now: i64,
    ) -> Result<AssetRecord, StoreError> {
        let lives = self.lives(new);
        let expires = now + lives;
        write
            .db
            .prepare_cached(
                "INSERT INTO assets (id, hash, size, content_type, file_path, tags, created_at, \
                 expires_at, lives) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                id,
                hash,
                column(size),
                new.content_type,
                new.file_path,
                new.tags,
                now,
                expires,
                lives
            ])?;
        self.inner.expires(expires);
        by_id(write.db, id)?.ok_or(StoreError::NotFound)
    }
}
