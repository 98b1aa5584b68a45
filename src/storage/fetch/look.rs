//! Whether the cache has it, and whether the origin has another version.

use std::sync::Arc;
use std::time::Duration;

use super::{Asked, blocking};
use crate::config::public;
use crate::net::retry::{RetryPolicy, retried};
use crate::storage::backend::{ByteRange, ObjectInfo};
use crate::storage::cache::{Entry, naming};
use crate::storage::{ErrorKind, StorageError, content};

/// How long HEAD is waited for where the file is cached already: a byte of GET tells as much.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// What a look into the cache says.
pub(super) enum Look {
    Use(Box<Entry>),
    /// To be fetched and cached under a key.
    Fetch {
        key: String,
        /// What is cached under the key is not what is wanted.
        replaces: bool,
    },
}

impl Asked<'_> {
    /// Whether the cached file may be used by who asks, and is what they would get. A file that
    /// came without credentials is for everybody; but who brings some may be meant to get another
    /// one. Whether a file that came with credentials may be read, is asked of the origin with what
    /// this request brings, never inferred from what an earlier one sent (A01).
    pub(super) async fn look(&self) -> Result<Look, StorageError> {
        let fetch = |replaces| Look::Fetch {
            key: self.key.to_owned(),
            replaces,
        };
        let Some((entry, is_file)) = self.cached(self.key).await? else {
            return Ok(fetch(false));
        };
        if !is_file {
            return Ok(fetch(true));
        }
        if !entry.is_protected() && self.source.auth.is_none() {
            return Ok(Look::Use(Box::new(entry)));
        }
        let info = match self.ask(&entry).await {
            Ok(info) => info,
            Err(_) if !entry.is_protected() => return Ok(Look::Use(Box::new(entry))),
            Err(error) => return Err(error),
        };
        if entry.fits(&info) {
            return Ok(Look::Use(Box::new(entry)));
        }
        // Links of others lead to the cached file: what the origin has for these credentials gets a
        // place of its own (A02).
        let key = naming::version_key(self.key, &info, &self.source);
        Ok(match self.cached(&key).await? {
            Some((entry, true)) if entry.fits(&info) => Look::Use(Box::new(entry)),
            other => Look::Fetch {
                key,
                replaces: other.is_some(),
            },
        })
    }

    /// What is cached under a key, and whether that is a file at all (F03).
    pub(super) async fn cached(&self, key: &str) -> Result<Option<(Entry, bool)>, StorageError> {
        let (cache, key) = (Arc::clone(&self.inner.cache), key.to_owned());
        let (source, filename) = (self.source.clone(), self.filename.map(str::to_owned));
        blocking(move || {
            let entry = cache.find(&key, &source.url)?;
            let is_file = content::is_file(&entry, &source, filename.as_deref());
            Some((entry, is_file))
        })
        .await
    }

    pub(super) async fn use_now(&self, entry: &Entry) -> Result<(), StorageError> {
        let (cache, url, used) = (
            Arc::clone(&self.inner.cache),
            self.fetch.url.clone(),
            entry.clone(),
        );
        blocking(move || cache.used(&used, &url)).await
    }

    /// Asks the origin whether these credentials open the file, and what it says of it. Only a
    /// success of HEAD proves anything; else one byte of GET decides (F01).
    async fn ask(&self, entry: &Entry) -> Result<ObjectInfo, StorageError> {
        let settings = &self.inner.settings;
        let head = self.backend.head(&self.source);
        match tokio::time::timeout(HEAD_PATIENCE.min(settings.stall), head).await {
            Ok(Ok(info)) if entry.fits(&info) => return Ok(info),
            Ok(Err(error)) if error.kind == ErrorKind::Invalid => return Err(error),
            _ => {}
        }
        let attempts = match entry.is_protected() {
            true => settings.retry.attempts,
            // It may be used whatever the origin says.
            false => 1,
        };
        let policy = RetryPolicy {
            attempts,
            ..settings.retry
        };
        let asked = retried(&policy, StorageError::asked, || self.first_byte()).await;
        asked.map_err(|error| match error.kind {
            ErrorKind::Unauthorized | ErrorKind::NotFound => self.refused(error),
            _ => error,
        })
    }

    async fn first_byte(&self) -> Result<ObjectInfo, StorageError> {
        let range = ByteRange {
            start: 0,
            end: Some(0),
        };
        let opening = self.backend.open(&self.source, Some(range), None);
        match tokio::time::timeout(self.inner.settings.stall, opening).await {
            // The body is dropped unread: it may be the whole file.
            Ok(opened) => opened.map(|stream| stream.info),
            Err(_) => Err(StorageError::new(
                ErrorKind::Transient,
                format!("{}: the server does not answer", public(&self.source.url)),
            )),
        }
    }

    fn refused(&self, error: StorageError) -> StorageError {
        let mut message = format!(
            "Authentication required to access cached file for URL: {}",
            public(&self.source.url)
        );
        if let Some((_, words)) = error
            .message
            .split_once(": it wants credentials, or others: ")
        {
            message.push_str(&format!(" ({words})"));
        }
        StorageError {
            kind: ErrorKind::Unauthorized,
            message,
            ..error
        }
    }
}
