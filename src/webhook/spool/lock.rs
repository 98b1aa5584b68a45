//! A file of the spool that is ours alone.

use parking_lot::Mutex;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::{Header, MAX_HEADER, SpooledWebhook};
use crate::webhook::body::Body;

/// A spool file that a delivery of this process is responsible for; nobody else takes it while this
/// lives.
#[derive(Debug)]
pub struct SpoolLock {
    pub(super) path: PathBuf,
    pub(super) name: OsString,
    pub(super) claimed: Arc<Mutex<HashSet<OsString>>>,
}

impl SpoolLock {
    /// Reads the header. Blocks. `Err(None)` when the file is gone (somebody else delivered it),
    /// `Err(Some(_))` when it is not a whole spool file.
    ///
    /// # Errors
    /// See above; other troubles with reading count as gone, so that the file is looked at again
    /// later.
    pub fn open(&self) -> Result<SpooledWebhook, Option<String>> {
        let later = |error: io::Error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(
                    %error,
                    "the spool file {} cannot be read now; it is tried again later",
                    self.path.display()
                );
            }
            None
        };
        let file = std::fs::File::open(&self.path).map_err(later)?;
        let size = file.metadata().map_err(later)?.len();
        let mut line = Vec::new();
        io::BufReader::new(file)
            .take(MAX_HEADER)
            .read_until(b'\n', &mut line)
            .map_err(later)?;
        if line.pop() != Some(b'\n') {
            return Err(Some("it has no header line".to_owned()));
        }
        // The parser's own text could quote the URL.
        let header: Header = serde_json::from_slice(&line)
            .map_err(|_| Some("its header cannot be read".to_owned()))?;
        let offset = line.len() as u64 + 1;
        if header.version != 1 || size != offset.saturating_add(header.length) {
            return Err(Some(format!(
                "it has {} bytes where its header promises {}",
                size.saturating_sub(offset),
                header.length
            )));
        }
        Ok(SpooledWebhook {
            created: UNIX_EPOCH + Duration::from_millis(header.created),
            body: Body::Spooled {
                path: self.path.clone(),
                offset,
                len: header.length,
            },
            parcel: header.parcel(),
        })
    }

    /// Moves a damaged file aside, where a human finds it and nobody retries it. Blocks.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn set_aside(&self) -> io::Result<PathBuf> {
        let mut name = self.path.clone().into_os_string();
        name.push(".damaged");
        std::fs::rename(&self.path, &name)?;
        Ok(name.into())
    }

    /// Deletes the file: it needs no more attempts.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub async fn finish(self) -> io::Result<()> {
        tokio::fs::remove_file(&self.path).await
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name.
    pub fn name(&self) -> &OsString {
        &self.name
    }
}

impl Drop for SpoolLock {
    fn drop(&mut self) {
        self.claimed.lock().remove(&self.name);
    }
}
