//! Where fetched files go: models as links into the cache, inputs as files of their own.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache::Cache;
use super::{Fetched, StorageError};

/// Extensions that ComfyUI lists in its model folders.
const MODEL_EXTENSIONS: [&str; 9] = [
    "ckpt",
    "pt",
    "pt2",
    "bin",
    "pth",
    "safetensors",
    "pkl",
    "sft",
    "gguf",
];

/// A name for a model under which ComfyUI lists it: the wished one, else the file's own; with an extension that ComfyUI knows, taken from
/// the cached file or its first bytes where the name has none. Reads a few bytes of the file.
pub async fn model_name(fetched: &Fetched, wished: Option<&str>) -> String {
    let name = wished.unwrap_or(&fetched.origin_name).to_owned();
    if is_listed(Path::new(&name)) {
        return name;
    }
    let path = fetched.path.clone();
    let extension = tokio::task::spawn_blocking(move || model_extension(&path))
        .await
        .ok()
        .flatten();
    match extension {
        Some(extension) => format!("{name}.{extension}"),
        None => name,
    }
}

fn is_listed(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| {
            MODEL_EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str())
        })
}

fn model_extension(path: &Path) -> Option<String> {
    if is_listed(path) {
        return path.extension()?.to_str().map(str::to_owned);
    }
    let mut head = [0; 10];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut head))
        .ok()?;
    let length = u64::from_le_bytes(head[..8].try_into().ok()?);
    match &head {
        [b'G', b'G', b'U', b'F', ..] => Some("gguf".to_owned()),
        // A length, then JSON.
        [.., b'{', b'"' | b' '] if length < 100 << 20 => Some("safetensors".to_owned()),
        // A zip, or a bare pickle of protocol 2.
        [b'P', b'K', 3, 4, ..] | [0x80, 2, ..] => Some("pt".to_owned()),
        _ => None,
    }
}

pub(super) async fn model(
    cache: &Arc<Cache>,
    fetched: &Fetched,
    folder: &Path,
    name: &str,
) -> Result<Option<String>, StorageError> {
    let name = super::check_file_name(name)?;
    let (cache, file, link) = (Arc::clone(cache), fetched.path.clone(), folder.join(name));
    let shown = link.clone();
    blocking(move || {
        let warning = link_model(&file, &link)?;
        if warning.is_none() {
            cache.linked(&file, &link);
        }
        Ok(warning)
    })
    .await
    .map_err(|error| {
        StorageError::local(
            format!("the model cannot be linked as {}: {error}", shown.display()),
            &error,
        )
    })
}

fn link_model(file: &Path, link: &Path) -> io::Result<Option<String>> {
    let parent = link.parent().ok_or(io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(parent)?;
    match std::fs::symlink_metadata(link) {
        Ok(there) if there.is_symlink() => {
            if std::fs::read_link(link)? == file {
                return Ok(None);
            }
        }
        Ok(there) if there.is_dir() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a directory of that name",
            ));
        }
        Ok(_) => {
            let sentence = format!(
                "{} exists and is not a link of ours: it was used as it is, and the downloaded file was not put in its place",
                link.display()
            );
            return Ok(Some(sentence));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Renaming replaces whatever link is there in one step, so ComfyUI never sees the name missing. Hidden meanwhile, and without an
    // extension that ComfyUI lists.
    let temporary = parent.join(format!(".{}.link", uuid::Uuid::new_v4().simple()));
    symlink(file, &temporary)?;
    // A regular file that appeared since we looked is the user's: linking cannot replace it, unlike renaming.
    let placed = match std::fs::symlink_metadata(link) {
        Err(_) => std::fs::hard_link(&temporary, link)
            .and_then(|()| std::fs::remove_file(&temporary))
            .or_else(|_| std::fs::rename(&temporary, link)),
        Ok(_) => std::fs::rename(&temporary, link),
    };
    if placed.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    placed.map(|()| None)
}

/// Folders below model folders are not deeper than this.
const DEEPEST: usize = 8;

/// See [`super::Storage::adopt_links`].
pub(super) fn adopt_links(cache: &Cache, folder: &Path, depth: usize) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else {
            continue;
        };
        if kind.is_dir() && depth < DEEPEST {
            adopt_links(cache, &path, depth + 1);
        } else if kind.is_symlink()
            && let Ok(target) = std::fs::read_link(&path)
            && target.parent() == Some(cache.dir.as_path())
        {
            if target.exists() {
                cache.linked(&target, &path);
            } else if std::fs::remove_file(&path).is_ok() {
                tracing::info!(path = %path.display(), "removed a link to a file that is no longer cached");
            }
        }
    }
}

pub(super) async fn input(fetched: &Fetched, destination: &Path) -> Result<(), StorageError> {
    let (file, destination) = (fetched.path.clone(), destination.to_owned());
    let shown = destination.clone();
    blocking(move || place_input(&file, &destination))
        .await
        .map_err(|error| {
            StorageError::local(
                format!(
                    "the input file {} cannot be written: {error}",
                    shown.display()
                ),
                &error,
            )
        })
}

/// Complete under its final name or not there at all, like a download.
fn place_input(file: &Path, destination: &Path) -> io::Result<()> {
    let parent = destination.parent().ok_or(io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(parent)?;
    let temporary = parent.join(format!(".{}.partial", uuid::Uuid::new_v4().simple()));
    let placed = std::fs::hard_link(file, &temporary)
        .or_else(|_| clone_file(file, &temporary))
        .and_then(|()| {
            std::fs::rename(&temporary, destination)?;
            // Renaming one of two links to the same file over the other does nothing, and leaves the first.
            let _ = std::fs::remove_file(&temporary);
            Ok(())
        });
    if placed.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    placed
}

/// Copies by sharing blocks where the file system can (the kernel does it for `copy_file_range`, which `std::fs::copy` uses).
fn clone_file(file: &Path, copy: &PathBuf) -> io::Result<()> {
    std::fs::copy(file, copy).map(drop)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
