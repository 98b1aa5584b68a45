//! `<name>.meta` beside a cached file: what the Node server writes there, and a little more.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::naming::META;

/// The description of a cached file. Its modification time is the record of use: our own, cheap,
/// and there after a restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::storage) struct Sidecar {
    /// The download needed credentials.
    #[serde(default)]
    pub auth_required: bool,
    /// Without userinfo, signatures or tokens.
    #[serde(default)]
    pub url: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub cached_at: Option<String>,
    /// Validator, strong or weak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified` as the origin sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// The origin's label, without parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The file's name at the origin, when the URL does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_name: Option<String>,
}

/// What a look for a description finds.
pub(in crate::storage) enum Found {
    /// A description.
    Sidecar(Box<Sidecar>),
    /// None, as beside files of old Node servers.
    Nothing,
    /// One that cannot be read: whether the file is protected is unknown, so it is not used.
    Broken,
}

/// Where the description of a file is.
pub(in crate::storage) fn path_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(META);
    name.into()
}

impl Sidecar {
    pub fn read(file: &Path) -> Found {
        match std::fs::read(path_of(file)) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_or(Found::Broken, |sidecar| Found::Sidecar(Box::new(sidecar))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Found::Nothing,
            Err(_) => Found::Broken,
        }
    }

    /// Writes it so that it is there whole or not at all, whatever happens meanwhile.
    pub fn write(&self, file: &Path) -> std::io::Result<()> {
        let path = path_of(file);
        // Unique, so that two processes on one directory do not mix their bytes; cleaned up with
        // the partial files if left behind.
        let temporary =
            path.with_extension(format!("meta.{}.partial", uuid::Uuid::new_v4().simple()));
        let result = (|| {
            let mut out = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&temporary)?;
            // Another instance that starts now removes what nobody holds.
            let _ = out.try_lock();
            out.write_all(serde_json::to_string(self)?.as_bytes())?;
            out.sync_all()?;
            std::fs::rename(&temporary, &path)
        })();
        if result.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        result
    }
}

/// Records that a file with a description is used now.
pub(in crate::storage) fn touch(file: &Path) -> std::io::Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .open(path_of(file))?
        .set_modified(SystemTime::now())
}

/// Records that a file is used now. A file without description gets one, dated by the file itself.
pub(in crate::storage) fn mark_used(file: &Path, url: &str, size: u64) -> std::io::Result<()> {
    match touch(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let modified = file
                .metadata()?
                .modified()
                .unwrap_or_else(|_| SystemTime::now());
            let sidecar = Sidecar {
                auth_required: false,
                url: Some(url.to_owned()),
                cached_at: rfc3339(modified),
                size: Some(size),
                ..Sidecar::default()
            };
            sidecar.write(file)
        }
        other => other,
    }
}

/// A moment as sidecars have it.
pub(in crate::storage) fn rfc3339(at: SystemTime) -> Option<String> {
    Some(crate::timestamp::of(at))
}
