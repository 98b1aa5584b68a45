//! What stands under a folder's name, and which name a repository has.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use url::Url;

use super::update::UPDATING;
use super::{Repository, SOURCE};
use crate::config::public;

/// What stands under a folder's name.
pub(super) enum Standing {
    Nothing,
    /// Our clone of this repository and reference, in this directory.
    Ours(PathBuf),
    /// Somebody else's clone of this repository, to be used as it is.
    Theirs,
    /// Something else.
    Other,
}

/// A folder's name for a repository whose plain name is taken: with eight digits of its URL's hash.
/// Credentials do not count.
pub(super) fn own_name(name: &str, url: &str) -> String {
    let mut clean = url.trim().to_owned();
    if let Ok(mut url) = Url::parse(&clean) {
        let _ = url.set_username("");
        let _ = url.set_password(None);
        clean = url.into();
    }
    let hash = Sha256::digest(clean.as_bytes());
    let digits = hex::encode(&hash[..4]);
    format!("{name}-{digits}")
}

impl Repository {
    pub(super) async fn standing(&self, name: &str) -> Standing {
        for dir in &self.dirs {
            let path = dir.join(name);
            if std::fs::symlink_metadata(&path).is_err() {
                continue;
            }
            match std::fs::read_dir(&path).map(|mut entries| entries.next().is_none()) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(_) => return Standing::Other,
            }
            let mark = path.join(".git").join(SOURCE);
            return match std::fs::read_to_string(&mark) {
                Ok(source) if source.trim() == self.identity() => Standing::Ours(dir.clone()),
                Ok(_) => Standing::Other,
                Err(_) if !self.is_origin_of(&path).await => Standing::Other,
                // One that an older version has updated was made by it.
                Err(_) if path.join(".git").join(UPDATING).exists() => {
                    let _ = std::fs::write(&mark, self.identity());
                    Standing::Ours(dir.clone())
                }
                Err(_) => Standing::Theirs,
            };
        }
        Standing::Nothing
    }

    /// Whether a clone without our mark is of this repository, as far as that can be told: at which
    /// reference it is, is not known.
    async fn is_origin_of(&self, clone: &Path) -> bool {
        if self.reference.is_some() || !clone.join(".git").exists() {
            return false;
        }
        let arguments = ["config", "--get", "remote.origin.url"];
        let origin = self.git(&arguments, &[], Some(clone)).await;
        let origin = origin.unwrap_or_default();
        let known = Url::parse(origin.trim()).map(|url| public(&url));
        known.is_ok_and(|known| {
            known.trim_end_matches('/') == public(&self.url).trim_end_matches('/')
        })
    }
}
