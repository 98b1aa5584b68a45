//! Records of assets: uploads, outputs, and files that lie elsewhere; many records may share one
//! blob.

mod external;
mod new;
mod outputs;
mod record;
mod uploads;

use std::path::PathBuf;

use record::{COLUMNS, record};
use rusqlite::{OptionalExtension, params};

use super::writer::Write;
use super::{Store, StoreError, jobs, ms, now_ms};

pub use new::{NewAsset, NewOutput, Stored};
pub use record::AssetRecord;
pub(super) use record::by_id;

impl Store {
    /// Keeps a text beside the records; its hash is the answer.
    ///
    /// # Errors
    /// When there is no room.
    pub async fn add_text_blob(&self, text: String) -> Result<String, StoreError> {
        let (store, incoming) = (self.clone(), self.incoming());
        let path = incoming.path().to_path_buf();
        let size = text.len() as u64;
        let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
        let name = hash.clone();
        tokio::fs::write(path, text).await?;
        self.write(move |write| {
            store.make_room_for_blob(write, &name, size)?;
            store
                .place_blob(write, incoming.path(), &name, size)
                .map(drop)
        })
        .await?;
        Ok(hash)
    }

    /// One asset, unless its time is over.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn asset(&self, id: &str) -> Result<Option<AssetRecord>, StoreError> {
        let id = id.to_owned();
        self.read(move |db| {
            Ok(by_id(db, &id)?.filter(|asset| asset.expires_at.is_none_or(|at| at > now_ms())))
        })
        .await
    }

    /// Any asset with these bytes.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn asset_by_hash(&self, hash: &str) -> Result<Option<AssetRecord>, StoreError> {
        let hash = hash.to_owned();
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM assets WHERE hash = ? ORDER BY created_at DESC LIMIT 1"
            );
            Ok(db
                .prepare_cached(&sql)?
                .query_row([hash], record)
                .optional()?)
        })
        .await
    }

    /// Where an asset's bytes are.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when they are not here any more.
    pub fn content(&self, asset: &AssetRecord) -> Result<PathBuf, StoreError> {
        let path = match (&asset.external, &asset.hash) {
            (Some(external), _) => external.clone(),
            (None, Some(hash)) => self.blob_path(hash),
            (None, None) => self.pending_path(&asset.id),
        };
        if path.is_file() {
            Ok(path)
        } else {
            Err(StoreError::Gone)
        }
    }

    /// Notes that an asset was used: uploads live on from here, and its bytes are evicted later
    /// than others.
    pub fn used_now(&self, asset: &AssetRecord) {
        let (id, hash, store) = (asset.id.clone(), asset.hash.clone(), self.clone());
        let upload = asset.job_id.is_none();
        self.write_later(move |write| {
            let now = now_ms();
            if upload {
                let usual = ms(store.inner.limits.asset_retention);
                write
                    .db
                    .prepare_cached(
                        "UPDATE assets SET expires_at = MAX(expires_at, ?1 + COALESCE(lives, ?2)) \
                         WHERE id = ?3",
                    )?
                    .execute(params![now, usual, id])?;
            }
            if let Some(hash) = hash {
                write
                    .db
                    .prepare_cached("UPDATE blobs SET used_at = ? WHERE hash = ?")?
                    .execute(params![now, hash])?;
            }
            Ok(())
        });
    }

    /// Removes a record, and the bytes if nobody else uses them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::InUse`] for an output of a job that has not ended.
    pub async fn delete_asset(&self, id: &str) -> Result<(), StoreError> {
        let (store, id) = (self.clone(), id.to_owned());
        self.write(move |write| {
            let asset = by_id(write.db, &id)?.ok_or(StoreError::NotFound)?;
            if let Some(job) = &asset.job_id
                && let Some(job) = jobs::by_id(write.db, job)?
            {
                if !job.status.has_ended() {
                    return Err(StoreError::InUse);
                }
                write.db.execute(
                    "UPDATE jobs SET outputs_count = outputs_count - 1 WHERE seq = ?",
                    [job.seq],
                )?;
            }
            store.remove_asset(write, &asset)
        })
        .await
    }

    pub(super) fn remove_asset(
        &self,
        write: &mut Write<'_>,
        asset: &AssetRecord,
    ) -> Result<(), StoreError> {
        write
            .db
            .prepare_cached("DELETE FROM assets WHERE id = ?")?
            .execute([&asset.id])?;
        match &asset.hash {
            _ if asset.external.is_some() => Ok(()),
            Some(hash) => self.drop_blob_if_unused(write, hash),
            None => {
                self.forget_bytes(asset.size);
                write.remove.push(self.pending_path(&asset.id));
                Ok(())
            }
        }
    }
}
