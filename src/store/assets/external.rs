//! Assets whose bytes lie outside of the store.

use std::borrow::Cow;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, params};

use super::new::NewAsset;
use super::record::{AssetRecord, by_id};
use crate::store::{Store, StoreError, blobs, column, keys, ms, now_ms};

/// A file outside of the store that gets a record.
struct External<'a> {
    hash: String,
    size: u64,
    new: NewAsset,
    place: Cow<'a, str>,
    kind: Option<&'static str>,
}

impl External<'_> {
    fn insert(self, db: &Connection, id: &str, now: i64, expires: i64) -> rusqlite::Result<()> {
        db.execute(
            "INSERT INTO assets (id, hash, size, content_type, file_path, tags, created_at, \
             expires_at, external, kind) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                id,
                self.hash,
                column(self.size),
                self.new.content_type,
                self.new.file_path,
                self.new.tags,
                now,
                expires,
                self.place,
                self.kind
            ],
        )
        .map(drop)
    }
}

impl Store {
    /// A record of a file that lies elsewhere and is never removed by us.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn add_external(
        &self,
        path: PathBuf,
        hash: String,
        size: u64,
        new: NewAsset,
    ) -> Result<AssetRecord, StoreError> {
        let store = self.clone();
        self.write(move |write| {
            let now = now_ms();
            let expires = now + ms(store.inner.limits.asset_retention);
            let id = uuid::Uuid::new_v4().to_string();
            let place = path.to_string_lossy();
            External {
                hash,
                size,
                new,
                place,
                kind: None,
            }
            .insert(write.db, &id, now, expires)?;
            store.inner.expires(expires);
            by_id(write.db, &id)?.ok_or(StoreError::NotFound)
        })
        .await
    }

    /// A record of a model that lies in its folder and stays there.
    ///
    /// # Errors
    /// [`StoreError::KeyReuse`].
    pub async fn add_model(
        &self,
        path: PathBuf,
        hash: String,
        size: u64,
        new: NewAsset,
    ) -> Result<AssetRecord, StoreError> {
        let store = self.clone();
        self.write(move |write| {
            let now = now_ms();
            let expires = now + ms(store.inner.limits.asset_retention);
            let place = path.to_string_lossy().into_owned();
            let known = write
                .db
                .query_row(
                    "SELECT id FROM assets WHERE external = ? AND kind = 'model'",
                    [&place],
                    |row| row.get::<_, String>(0),
                )
                .optional()?;
            let id = known
                .clone()
                .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
            if let Some(key) = &new.key {
                keys::claim(write, keys::ASSETS, key, &id)?;
            }
            if known.is_none() {
                let place = place.as_str().into();
                let kind = Some("model");
                External {
                    hash,
                    size,
                    new,
                    place,
                    kind,
                }
                .insert(write.db, &id, now, expires)?;
            } else {
                write.db.execute(
                    "UPDATE assets SET expires_at = ? WHERE id = ?",
                    params![expires, id],
                )?;
            }
            store.inner.expires(expires);
            by_id(write.db, &id)?.ok_or(StoreError::NotFound)
        })
        .await
    }

    /// Hashes a large output in the background and gives its file the final name.
    pub(in crate::store) fn hash_later(&self, id: String) {
        let store = self.clone();
        tokio::spawn(async move {
            let path = store.pending_path(&id);
            let hashing = tokio::task::spawn_blocking(move || blobs::hash_file(&path)).await;
            let Ok(Ok(hash)) = hashing else { return };
            let inner = store.clone();
            let named = store
                .write(move |write| {
                    let Some(asset) = by_id(write.db, &id)? else {
                        return Ok(());
                    };
                    inner.forget_bytes(asset.size);
                    inner.place_blob(write, &inner.pending_path(&id), &hash, asset.size)?;
                    write
                        .db
                        .execute("UPDATE assets SET hash = ? WHERE id = ?", params![hash, id])?;
                    Ok(())
                })
                .await;
            if let Err(error) = named {
                tracing::warn!(%error, "an output cannot be named by its hash");
            }
        });
    }
}
