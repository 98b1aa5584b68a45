//! Which version it is, and whether it is here or half of it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::{Download, OTHERS_TURN, origin_name};
use crate::config::public;
use crate::storage::backend::{ObjectInfo, ObjectStream};
use crate::storage::cache::sidecar::{Sidecar, rfc3339};
use crate::storage::cache::{Entry, locks, naming};
use crate::storage::content::Names;
use crate::storage::download::partial::{Claim, Partial};
use crate::storage::download::ranges::BrokenTransfer;
use crate::storage::{ErrorKind, content};

/// A download that has begun.
struct Begun {
    pub(super) first: ObjectStream,
    pub(super) info: ObjectInfo,
    /// What it is cached as.
    pub(super) key: String,
    pub(super) name: String,
    pub(super) partial: Partial,
}

/// What is cached by now.
pub(super) enum Brought {
    Nothing,
    /// What the origin has for us.
    This(Box<Entry>),
    /// Another version.
    Other,
}

impl Download {
    /// Downloads the version of the file that is there now.
    pub(super) async fn version(&self) -> Result<Entry, BrokenTransfer> {
        let Begun {
            first,
            info,
            key,
            name,
            mut partial,
        } = self.begin().await?;
        let received = self.receive(&info, first, &partial).await;
        let written = partial.finish().await;
        if let Err(error) = written {
            return Err(BrokenTransfer::Final(self.disk_error(&info, &error)));
        }
        let size = received?;
        let sha256 = self.verify(&info, size, &partial).await?;
        self.judge(&info, partial.path().to_owned()).await?;
        let sidecar = Sidecar {
            auth_required: self.source.auth.is_some(),
            url: Some(public(&self.source.url)),
            cached_at: rfc3339(SystemTime::now()),
            etag: info.etag.clone().or_else(|| info.weak_etag.clone()),
            last_modified: info.last_modified.clone(),
            content_type: info.content_type.clone(),
            size: Some(size),
            sha256,
            origin_name: origin_name(&self.source.url, &info),
        };
        let cache = Arc::clone(&self.cache);
        // Moved into the thread: when this future is dropped meanwhile, the file is kept or removed
        // all the same.
        let admitted = tokio::task::spawn_blocking(move || {
            partial.share();
            let entry = cache.admit(partial.path(), &key, &name, sidecar)?;
            partial.keep();
            Ok(entry)
        });
        admitted
            .await
            .map_err(io::Error::other)
            .and_then(|entry| entry)
            .map_err(|error| BrokenTransfer::Final(self.disk_error(&info, &error)))
    }

    /// The origin's answer, and a file for it that is ours alone. While somebody else downloads the
    /// same, its end is waited for.
    async fn begin(&self) -> Result<Begun, BrokenTransfer> {
        let mut alone = false;
        loop {
            let first = self.first().await.map_err(BrokenTransfer::Final)?;
            let info = first.info.clone();
            self.meter.restart(0, info.size);
            let mut key = self.key.clone();
            let mut found = self.brought(&key, &info).await;
            if matches!(found, Brought::Other) {
                // Links may lead there already: what the origin has for us gets a place of its own
                // (A02).
                key = naming::version_key(&key, &info, &self.source);
                found = self.brought(&key, &info).await;
            }
            if let Brought::This(entry) = found {
                return Err(BrokenTransfer::There(entry));
            }
            let name = naming::base(&key) + &naming::extension_of(&self.source.url, &info);
            let cache = Arc::clone(&self.cache);
            let room = Arc::new(move || cache.has_room());
            let claim = Partial::create(self.cache.dir.join(&name), room, alone).await;
            match claim.map_err(BrokenTransfer::Final)? {
                Claim::Theirs(file) => {
                    drop(first);
                    alone = !self.wait_for(file, &name).await;
                }
                Claim::Ours(partial) => {
                    if let Brought::This(entry) = self.brought(&key, &info).await {
                        return Err(BrokenTransfer::There(entry));
                    }
                    self.make_room(&info).await.map_err(BrokenTransfer::Final)?;
                    return Ok(Begun {
                        first,
                        info,
                        key,
                        name,
                        partial,
                    });
                }
            }
        }
    }

    /// What somebody else has brought meanwhile.
    pub(super) async fn brought(&self, key: &str, info: &ObjectInfo) -> Brought {
        let (cache, key) = (Arc::clone(&self.cache), key.to_owned());
        let (source, filename) = (self.source.clone(), self.filename.clone());
        let found = tokio::task::spawn_blocking(move || {
            let entry = cache.find(&key, &source.url)?;
            content::is_file(&entry, &source, filename.as_deref()).then_some(entry)
        });
        match found.await.ok().flatten() {
            Some(entry)
                if entry.fits(info)
                    || !self.replaces && self.source.auth.is_none() && !entry.is_protected() =>
            {
                Brought::This(Box::new(entry))
            }
            Some(_) if !self.replaces => Brought::Other,
            _ => Brought::Nothing,
        }
    }

    /// Waits until the partial file of somebody else has its final name or belongs to nobody.
    /// `false` when it gets on too slowly to be waited for.
    async fn wait_for(&self, file: std::fs::File, name: &str) -> bool {
        tracing::debug!(url = %public(&self.source.url), "somebody else is downloading it");
        let path = self.cache.dir.join(format!("{name}{}", naming::PARTIAL));
        let file = Arc::new(file);
        let pace = self.settings.pace;
        let (mut written, mut since) = (0, (Instant::now(), 0));
        loop {
            tokio::time::sleep(OTHERS_TURN.min(pace.window)).await;
            let (theirs, path) = (Arc::clone(&file), path.clone());
            let looked = tokio::task::spawn_blocking(move || {
                // The lock, if it falls to us, goes with the file.
                let over = !locks::is_still_at(&theirs, &path) || theirs.try_lock().is_ok();
                // Parts of it come at once, so that its length says nothing.
                (
                    over,
                    theirs.metadata().map_or(0, |file| file.blocks() * 512),
                )
            });
            let Ok((over, now)) = looked.await else {
                return true;
            };
            self.meter.add(now.saturating_sub(written));
            written = written.max(now);
            if over {
                return true;
            }
            let (at, before) = since;
            if at.elapsed() >= pace.window {
                let seconds = at.elapsed().as_secs_f64();
                if ((written - before) as f64) < pace.slow as f64 * seconds {
                    return false;
                }
                since = (Instant::now(), written);
            }
        }
    }

    /// What is no file is neither kept nor placed (F03).
    async fn judge(&self, info: &ObjectInfo, path: PathBuf) -> Result<(), BrokenTransfer> {
        let head = tokio::task::spawn_blocking(move || content::head_of(&path)).await;
        let (head, size) = head
            .map_err(io::Error::other)
            .and_then(|head| head)
            .map_err(|error| BrokenTransfer::Final(self.disk_error(info, &error)))?;
        let segment = content::segment(&self.source);
        let names = Names {
            asked: [self.filename.as_deref(), Some(&segment)],
            told: info.disposition_name.as_deref(),
        };
        match content::verdict(&head, size, info.content_type.as_deref(), &names) {
            None => Ok(()),
            Some(what) => Err(BrokenTransfer::Final(self.error(
                ErrorKind::Failed,
                &format!(
                    "it is no model and no picture: {what} came. Look at the URL and its \
                     credentials"
                ),
            ))),
        }
    }
}
