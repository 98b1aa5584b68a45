//! Assets that jobs make.

use std::path::Path;

use rusqlite::params;

use super::new::NewOutput;
use super::record::{AssetRecord, COLUMNS, by_id, record};
use crate::store::blobs::{HASHED_AT_ONCE, Incoming};
use crate::store::writer::Write;
use crate::store::{Store, StoreError, blobs, column, now_ms};

impl Store {
    /// Commits a file as an output of a job: linked, else copied, and recorded. A large one is
    /// hashed afterwards. `link` says that nobody else will write to it; `new` may look at it.
    ///
    /// # Errors
    /// When the file cannot be read, or there is no room.
    pub async fn commit_output(
        &self,
        file: &Path,
        link: bool,
        new: impl FnOnce() -> std::io::Result<NewOutput> + Send + 'static,
    ) -> Result<AssetRecord, StoreError> {
        let (incoming, from) = (self.incoming(), file.to_path_buf());
        let linked = tokio::task::spawn_blocking(move || {
            let new = new()?;
            if link {
                blobs::link_or_copy(&from, incoming.path())?;
            } else {
                std::fs::copy(&from, incoming.path())?;
            }
            let size = std::fs::metadata(incoming.path())?.len();
            let hash = (size <= HASHED_AT_ONCE)
                .then(|| blobs::hash_file(incoming.path()))
                .transpose()?;
            Ok::<_, std::io::Error>((incoming, size, hash, new))
        });
        let (incoming, size, hash, new) = linked
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
                let known = hash
                    .as_deref()
                    .map(|hash| blobs::present(write.db, hash))
                    .transpose()?
                    .flatten();
                if known.is_none() {
                    store.make_room(write, size)?;
                }
                let id = uuid::Uuid::new_v4().to_string();
                match &hash {
                    Some(hash) => drop(store.place_blob(write, incoming.path(), hash, size)?),
                    None => {
                        std::fs::rename(incoming.path(), store.pending_path(&id))?;
                        store
                            .inner
                            .used
                            .fetch_add(size, std::sync::atomic::Ordering::Relaxed);
                    }
                }
                write
                    .db
                    .prepare_cached(
                        "INSERT INTO assets (id, hash, size, content_type, file_path, created_at, \
                         job_id, node_id, kind, position, remote_url)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    )?
                    .execute(params![
                        id,
                        hash,
                        column(size),
                        new.content_type,
                        new.name,
                        now_ms(),
                        new.job_id,
                        new.node_id,
                        new.kind,
                        new.position,
                        new.remote_url
                    ])?;
                by_id(write.db, &id)?.ok_or(StoreError::NotFound)
            })
            .await?;
        if asset.hash.is_none() {
            self.hash_later(asset.id.clone());
        }
        Ok(asset)
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

    pub(in crate::store) fn remove_outputs(
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
}
