//! The files of one model folder.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::Library;
use crate::error::{Code, Failure, panicked};
use crate::limits::text;

/// A file in a model folder, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelFile {
    /// As ComfyUI lists it.
    pub name: String,
    /// Bytes; `None` where the file cannot be seen from here.
    pub size: Option<u64>,
    /// Epoch milliseconds, likewise.
    pub modified_at: Option<u64>,
    /// It is a link into our cache.
    pub cached: bool,
}

impl Library {
    /// The files that ComfyUI lists in a folder, in its order.
    ///
    /// # Errors
    /// 404 for a folder that it does not know, 503 when it does not answer.
    pub async fn list(&self, folder: &str) -> Result<Vec<ModelFile>, Failure> {
        let unknown = || {
            Failure::new(
                Code::NotFound,
                format!(
                    "ComfyUI knows no model folder \"{}\": GET /models lists them",
                    text::quoted(folder)
                ),
            )
        };
        let (known_as, dirs) = match self.folder(folder) {
            Ok(known) => known,
            Err(failure) if failure.code == Code::InvalidRequest => return Err(unknown()),
            Err(failure) => return Err(failure),
        };
        let names = self.comfy.any().client.models(&known_as).await?;
        let cache = self.storage.cache_dir().to_owned();
        let looking = tokio::task::spawn_blocking(move || {
            let files = names.into_iter().map(|name| look(name, &dirs, &cache));
            files.collect()
        });
        looking.await.map_err(|_| panicked("listing models"))
    }
}

/// The first directory that has a name wins, as with ComfyUI.
fn look(name: String, dirs: &[PathBuf], cache: &Path) -> ModelFile {
    let found = dirs.iter().find_map(|dir| {
        let path = dir.join(&name);
        let metadata = std::fs::metadata(&path).ok()?;
        Some((path, metadata))
    });
    let Some((path, metadata)) = found else {
        return ModelFile {
            name,
            size: None,
            modified_at: None,
            cached: false,
        };
    };
    let target = std::fs::read_link(&path).ok();
    ModelFile {
        name,
        size: Some(metadata.len()),
        modified_at: metadata.modified().ok().map(epoch_ms),
        cached: target.is_some_and(|target| target.parent() == Some(cache)),
    }
}

fn epoch_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
