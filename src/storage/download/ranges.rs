//! Bytes of one file from one or several connections, each tried again from where it broke off.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use tokio::sync::mpsc;

use super::super::backend::{ByteRange, ObjectInfo, ObjectStream};
use super::super::cache::Entry;
use super::super::{ErrorKind, StorageError};
use super::run::Download;
use crate::config::public;

/// Why bytes stopped coming.
pub(super) enum BrokenTransfer {
    /// What is there so far is of no use: another version of the file, or a part that does not
    /// prove that it is of this one (A48).
    Changed(StorageError),
    /// Another instance has brought the file meanwhile.
    There(Box<Entry>),
    /// No more tries, or a failure that will not go away.
    Final(StorageError),
    /// The file cannot be written; the reason is the writer's.
    Disk,
}

/// The rest of a file, or a part of it.
pub(super) struct Chunk<'a> {
    pub download: &'a Download,
    pub info: &'a ObjectInfo,
    pub sink: mpsc::Sender<(u64, bytes::Bytes)>,
    /// The next byte.
    pub at: u64,
    /// The byte after the last; `None` when the origin did not say how many there are.
    pub end: Option<u64>,
}

impl Chunk<'_> {
    /// Receives everything up to the end, from `stream` first if there is one. Returns the byte
    /// after the last.
    pub async fn receive(
        mut self,
        mut stream: Option<ObjectStream>,
    ) -> Result<u64, BrokenTransfer> {
        let settings = &self.download.settings;
        let (mut failures, mut all_failures) = (0, 0);
        loop {
            if self.end == Some(self.at) {
                return Ok(self.at);
            }
            let before = self.at;
            let error = match self.attempt(stream.take()).await {
                Ok(()) => return Ok(self.at),
                Err(BrokenTransfer::Final(error)) => error,
                Err(other) => return Err(other),
            };
            failures = if self.at > before { 1 } else { failures + 1 };
            all_failures += 1;
            let delay = settings
                .retry
                .delay(failures, error.retry_after)
                .filter(|_| {
                    error.kind == ErrorKind::Transient && all_failures < settings.most_failures
                });
            let Some(delay) = delay else {
                return Err(BrokenTransfer::Final(error));
            };
            tracing::debug!(
                %error,
                at = self.at,
                delay_ms = delay.as_millis() as u64,
                "a download broke off and is resumed"
            );
            tokio::time::sleep(delay).await;
            if self.at > 0 && !self.resumable() {
                return Err(BrokenTransfer::Changed(error));
            }
        }
    }

    /// Going on in the middle needs a server that serves ranges and a name for the version that we
    /// have begun.
    fn resumable(&self) -> bool {
        let unproven = self.download.unproven.load(Ordering::Relaxed);
        unproven < 2 && self.info.ranges && version_of(self.info).is_some()
    }

    async fn attempt(&mut self, stream: Option<ObjectStream>) -> Result<(), BrokenTransfer> {
        let mut stream = match stream {
            Some(stream) => stream,
            None => self.open().await?,
        };
        let meter = Arc::clone(&self.download.meter);
        let _receiving = meter.receiving();
        loop {
            let chunk =
                tokio::time::timeout(self.download.settings.stall, stream.body.next()).await;
            let mut bytes = match chunk {
                Err(_) => {
                    return Err(BrokenTransfer::Final(
                        self.download
                            .error(ErrorKind::Transient, "nothing came for too long"),
                    ));
                }
                Ok(Some(Err(error))) => return Err(BrokenTransfer::Final(error)),
                Ok(Some(Ok(bytes))) => bytes,
                Ok(None) => break,
            };
            // A connection that is to stop in the middle of a body it began for the whole file.
            let wanted = self.end.map_or(u64::MAX, |end| end - self.at);
            if bytes.len() as u64 > wanted {
                bytes.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
            }
            let length = bytes.len() as u64;
            self.sink
                .send((self.at, bytes))
                .await
                .map_err(|_| BrokenTransfer::Disk)?;
            self.at += length;
            self.download.meter.add(length);
            if self.end == Some(self.at) {
                return Ok(());
            }
        }
        match self.end {
            Some(end) => {
                let message = format!("the answer ended after {} of {end} bytes", self.at);
                Err(BrokenTransfer::Final(
                    self.download.error(ErrorKind::Transient, &message),
                ))
            }
            None => Ok(()),
        }
    }

    /// Opens the file where this part goes on, and makes sure that it still is the same file.
    async fn open(&self) -> Result<ObjectStream, BrokenTransfer> {
        let whole = self.at == 0 && self.end == self.info.size;
        let range = (!whole).then(|| ByteRange {
            start: self.at,
            end: self.end.map(|end| end - 1),
        });
        let version = version_of(self.info)
            .filter(|_| range.is_some())
            // A date of an object store is no header's.
            .filter(|version| {
                version.starts_with('"') || version.contains(':') || self.info.etag.is_some()
            });
        let opened = self
            .download
            .open(range, version)
            .await
            .map_err(BrokenTransfer::Final)?;
        let broken = |what: &str| self.download.error(ErrorKind::Transient, what);
        let changed = opened.offset != self.at
            || differ(&opened.info.size, &self.info.size)
            || differ(&opened.info.etag, &self.info.etag)
            || differ(&opened.info.weak_etag, &self.info.weak_etag)
            || differ(&opened.info.last_modified, &self.info.last_modified);
        if changed {
            return Err(BrokenTransfer::Changed(broken(
                "the file changed while it was being downloaded",
            )));
        }
        if range.is_some() && !proves(&opened.info, self.info) {
            return Err(BrokenTransfer::Changed(broken(
                "a part of the file came without ETag and Last-Modified, so nothing says that it \
                 belongs to the rest",
            )));
        }
        Ok(opened)
    }
}

/// What names the version of a file well enough to put parts of it together: a strong ETag, else
/// the date together with the size.
fn version_of(info: &ObjectInfo) -> Option<&str> {
    let dated = info
        .last_modified
        .as_deref()
        .filter(|_| info.size.is_some());
    info.etag.as_deref().or(dated)
}

/// Whether a part is one of the file that was begun.
fn proves(part: &ObjectInfo, begun: &ObjectInfo) -> bool {
    let same = |one: &Option<String>, other: &Option<String>| one.is_some() && one == other;
    same(&part.etag, &begun.etag)
        || same(&part.last_modified, &begun.last_modified)
            && part.size.is_some()
            && part.size == begun.size
}

/// Whether both are known and not the same.
fn differ<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
    one.is_some() && other.is_some() && one != other
}

/// The whole file over several connections at once. The first stream, which was opened for the
/// whole file, serves the first part.
pub(super) async fn receive_parallel(
    download: &Download,
    info: &ObjectInfo,
    size: u64,
    first: ObjectStream,
    sink: &mpsc::Sender<(u64, bytes::Bytes)>,
) -> Result<u64, BrokenTransfer> {
    let connections = download.connections.max(1) as u64;
    let length = size.div_ceil(connections);
    let mut first = Some(first);
    let parts = (0..connections).filter(|n| n * length < size).map(|n| {
        let part = Chunk {
            download,
            info,
            sink: sink.clone(),
            at: n * length,
            end: Some(((n + 1) * length).min(size)),
        };
        part.receive(first.take())
    });
    try_join_all(parts).await?;
    Ok(size)
}

impl Download {
    /// An error about this download.
    pub(super) fn error(&self, kind: ErrorKind, what: &str) -> StorageError {
        StorageError::new(kind, format!("{}: {what}", public(&self.source.url)))
    }

    /// One attempt to open, with an end to waiting.
    pub(super) async fn open(
        &self,
        range: Option<ByteRange>,
        if_match: Option<&str>,
    ) -> Result<ObjectStream, StorageError> {
        let backend = Arc::clone(&self.backend);
        match tokio::time::timeout(
            self.settings.stall * 2,
            backend.open(&self.source, range, if_match),
        )
        .await
        {
            Ok(opened) => opened,
            Err(_) => Err(self.error(ErrorKind::Transient, "the server does not answer")),
        }
    }
}
