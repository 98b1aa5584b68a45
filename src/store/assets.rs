//! Records of assets: uploads, outputs, and files that lie elsewhere; many records may share one blob.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::blobs::{self, HASHED_AT_ONCE, Incoming};
use super::writer::Write;
use super::{Store, StoreError, column, jobs, keys, ms, now_ms};

/// A recorded asset.
#[derive(Debug, Clone)]
pub struct AssetRecord {
    /// A UUID.
    pub id: String,
    /// 64 hexadecimal digits; not known yet for a large output.
    pub hash: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Its media type.
    pub content_type: String,
    /// Its name; of an output its file name.
    pub file_path: String,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// When it goes; outputs go with their job.
    pub expires_at: Option<i64>,
    /// The job that made it.
    pub job_id: Option<String>,
    /// The node that made it.
    pub node_id: Option<String>,
    /// `image`, `video`...; of outputs.
    pub kind: Option<String>,
    /// Among the outputs of its job.
    pub position: i64,
    /// It lies there and is not ours.
    pub external: Option<PathBuf>,
    /// Where it was uploaded to.
    pub remote_url: Option<String>,
}

const COLUMNS: &str = "id, hash, size, content_type, file_path, created_at, expires_at, job_id, node_id, kind, position, external, remote_url";

fn record(row: &Row<'_>) -> rusqlite::Result<AssetRecord> {
    Ok(AssetRecord {
        id: row.get(0)?,
        hash: row.get(1)?,
        size: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
        content_type: row.get(3)?,
        file_path: row.get(4)?,
        created_at: row.get(5)?,
        expires_at: row.get(6)?,
        job_id: row.get(7)?,
        node_id: row.get(8)?,
        kind: row.get(9)?,
        position: row.get::<_, Option<i64>>(10)?.unwrap_or(0),
        external: row.get::<_, Option<String>>(11)?.map(PathBuf::from),
        remote_url: row.get(12)?,
    })
}

/// An upload that is to be recorded.
#[derive(Debug, Clone)]
pub struct NewAsset {
    /// Its name as given.
    pub file_path: String,
    /// Its media type.
    pub content_type: String,
    /// JSON.
    pub tags: Option<String>,
    /// Seconds until it goes, if that was said.
    pub expires_in: Option<u64>,
    /// The idempotency key.
    pub key: Option<String>,
}

/// An output that is to be recorded.
#[derive(Debug, Clone)]
pub struct NewOutput {
    /// The job.
    pub job_id: String,
    /// The node of the client's graph.
    pub node_id: String,
    /// Its name towards the client.
    pub name: String,
    /// `image`, `video`...
    pub kind: &'static str,
    /// Its media type.
    pub content_type: String,
    /// Its place among the job's outputs.
    pub position: i64,
    /// Where it was uploaded to.
    pub remote_url: Option<String>,
}

/// What became of an upload.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The record.
    pub asset: AssetRecord,
    /// The bytes were not here before.
    pub new_bytes: bool,
    /// The record was not here before.
    pub new_record: bool,
}

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
    pub(super) async fn add_announced(
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
        let same = write.db.prepare_cached(
            "SELECT id FROM assets WHERE hash = ? AND file_path = ? AND content_type = ? AND job_id IS NULL AND external IS NULL",
        )?
        .query_row(params![hash, new.file_path, new.content_type], |row| row.get::<_, String>(0))
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
        write.db.prepare_cached(
            "INSERT INTO assets (id, hash, size, content_type, file_path, tags, created_at, expires_at, lives) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![id, hash, column(size), new.content_type, new.file_path, new.tags, now, expires, lives])?;
        self.inner.expires(expires);
        by_id(write.db, id)?.ok_or(StoreError::NotFound)
    }

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
            write.db.execute(
                "INSERT INTO assets (id, hash, size, content_type, file_path, created_at, expires_at, external) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                params![id, hash, column(size), new.content_type, new.file_path, now, expires, path.to_string_lossy()],
            )?;
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
                .query_row("SELECT id FROM assets WHERE external = ? AND kind = 'model'", [&place], |row| row.get::<_, String>(0))
                .optional()?;
            let id = known.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
            if let Some(key) = &new.key {
                keys::claim(write, keys::ASSETS, key, &id)?;
            }
            if known.is_none() {
                write.db.execute(
                    "INSERT INTO assets (id, hash, size, content_type, file_path, tags, created_at, expires_at, external, kind)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'model')",
                    params![id, hash, column(size), new.content_type, new.file_path, new.tags, now, expires, place],
                )?;
            } else {
                write.db.execute("UPDATE assets SET expires_at = ? WHERE id = ?", params![expires, id])?;
            }
            store.inner.expires(expires);
            by_id(write.db, &id)?.ok_or(StoreError::NotFound)
        })
        .await
    }

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

    /// Commits a file as an output of a job: linked, else copied, and recorded. A large one is hashed afterwards. `link` says that
    /// nobody else will write to it.
    ///
    /// # Errors
    /// When the file cannot be read, or there is no room.
    pub async fn commit_output(
        &self,
        file: &Path,
        link: bool,
        new: NewOutput,
    ) -> Result<AssetRecord, StoreError> {
        let (incoming, from) = (self.incoming(), file.to_path_buf());
        let linked = tokio::task::spawn_blocking(move || {
            if link {
                blobs::link_or_copy(&from, incoming.path())?;
            } else {
                std::fs::copy(&from, incoming.path())?;
            }
            let size = std::fs::metadata(incoming.path())?.len();
            let hash = (size <= HASHED_AT_ONCE)
                .then(|| blobs::hash_file(incoming.path()))
                .transpose()?;
            Ok::<_, std::io::Error>((incoming, size, hash))
        });
        let (incoming, size, hash) = linked
            .await
            .map_err(|error| StoreError::Failed(error.to_string()))??;
        self.record_output(incoming, size, hash, new).await
    }

    /// Commits a text as an output of a job.
    ///
    /// # Errors
    /// When there is no room.
    pub async fn commit_text(
        &self,
        text: String,
        new: NewOutput,
    ) -> Result<AssetRecord, StoreError> {
        let incoming = self.incoming();
        let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
        let size = text.len() as u64;
        tokio::fs::write(incoming.path(), text).await?;
        self.record_output(incoming, size, Some(hash), new).await
    }

    async fn record_output(
        &self,
        incoming: Incoming,
        size: u64,
        hash: Option<String>,
        new: NewOutput,
    ) -> Result<AssetRecord, StoreError> {
        let store = self.clone();
        let asset = self
            .write(move |write| {
                let known = hash.as_deref().map(|hash| blobs::present(write.db, hash)).transpose()?.flatten();
                if known.is_none() {
                    store.make_room(write, size)?;
                }
                let id = uuid::Uuid::new_v4().to_string();
                match &hash {
                    Some(hash) => drop(store.place_blob(write, incoming.path(), hash, size)?),
                    None => {
                        std::fs::rename(incoming.path(), store.pending_path(&id))?;
                        store.inner.used.fetch_add(size, std::sync::atomic::Ordering::Relaxed);
                    }
                }
                write.db.prepare_cached(
                    "INSERT INTO assets (id, hash, size, content_type, file_path, created_at, job_id, node_id, kind, position, remote_url)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    id, hash, column(size), new.content_type, new.name, now_ms(), new.job_id, new.node_id, new.kind,
                    new.position, new.remote_url
                ])?;
                by_id(write.db, &id)?.ok_or(StoreError::NotFound)
            })
            .await?;
        if asset.hash.is_none() {
            self.hash_later(asset.id.clone());
        }
        Ok(asset)
    }

    /// Hashes a large output in the background and gives its file the final name.
    pub(super) fn hash_later(&self, id: String) {
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

    /// The outputs of a job, in order.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn outputs(&self, job: &str) -> Result<Vec<AssetRecord>, StoreError> {
        let job = job.to_owned();
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM assets WHERE job_id = ? ORDER BY position, created_at"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let rows = statement.query_map([job], record)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
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

    /// Notes that an asset was used: uploads live on from here, and its bytes are evicted later than others.
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
                        "UPDATE assets SET expires_at = MAX(expires_at, ?1 + COALESCE(lives, ?2)) WHERE id = ?3",
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

    /// Withdraws the outputs of an attempt that was lost.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn withdraw_outputs(&self, job: &str) -> Result<(), StoreError> {
        let (store, job) = (self.clone(), job.to_owned());
        self.write(move |write| store.remove_outputs(write, &job))
            .await
    }

    /// The same without waiting for it.
    pub fn withdraw_outputs_later(&self, job: &str) {
        let (store, job) = (self.clone(), job.to_owned());
        self.write_later(move |write| store.remove_outputs(write, &job));
    }

    /// Where the outputs of a job were uploaded to, in the order in which they were committed.
    pub fn outputs_uploaded(&self, ids: Vec<(String, String)>) {
        self.write_later(move |write| {
            for (id, url) in ids {
                write.db.execute(
                    "UPDATE assets SET remote_url = ? WHERE id = ?",
                    params![url, id],
                )?;
            }
            Ok(())
        });
    }

    pub(super) fn remove_outputs(
        &self,
        write: &mut Write<'_>,
        job: &str,
    ) -> Result<(), StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM assets WHERE job_id = ?");
        let outputs: Vec<AssetRecord> = write
            .db
            .prepare_cached(&sql)?
            .query_map([job], record)?
            .collect::<rusqlite::Result<_>>()?;
        for output in outputs {
            self.remove_asset(write, &output)?;
        }
        Ok(())
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

pub(super) fn by_id(db: &Connection, id: &str) -> Result<Option<AssetRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM assets WHERE id = ?");
    Ok(db
        .prepare_cached(&sql)?
        .query_row([id], record)
        .optional()?)
}
