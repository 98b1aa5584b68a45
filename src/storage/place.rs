//! Where fetched files go: models as links into the cache, inputs as files of their own.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache::Cache;
use super::cache::naming::base_of;
use super::cache::sidecar::{Found, Sidecar};
use super::{ErrorKind, Fetched, StorageError};

/// What a new link may take the place of. Files and links that we did not make are never replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Nothing.
    Nothing,
    /// What clients have placed.
    Clients,
    /// That, and what the manifest has placed; the name is the manifest's from now on.
    All,
}

/// What became of a model's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedModel {
    /// The folder's directory in which the name is now.
    pub dir: PathBuf,
    /// The name in it.
    pub name: String,
    /// The link was made or changed by this call.
    pub new: bool,
    /// Something else has the name and keeps it: a sentence that says so.
    pub kept: Option<String>,
}

impl PlacedModel {
    /// The whole path.
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }
}

pub(super) async fn model(
    cache: &Arc<Cache>,
    fetched: &Fetched,
    dirs: &[PathBuf],
    name: &str,
    replace: Replace,
) -> Result<PlacedModel, StorageError> {
    let name = super::check_file_name(name)?;
    let place = Place {
        cache: Arc::clone(cache),
        file: fetched.path.clone(),
        dirs: dirs.to_vec(),
        name,
        replace,
    };
    tokio::task::spawn_blocking(move || place.link(RACES))
        .await
        .map_err(|error| StorageError::new(ErrorKind::Local, error.to_string()))?
}

/// Takes a link away that [`model`] has made, unless it leads elsewhere by now.
pub(super) async fn withdraw(fetched: &Fetched, placed: &PlacedModel) {
    let (file, link) = (fetched.path.clone(), placed.path());
    let work = move || {
        if std::fs::read_link(&link).is_ok_and(|target| target == file) {
            let _ = std::fs::remove_file(&link);
        }
    };
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        tracing::debug!(%error, "a link could not be taken away");
    }
}

/// What stands under a name.
enum Standing {
    Nothing,
    /// A link to this very file.
    Same,
    /// A link of ours to another file.
    Ours(PathBuf),
    /// Not made by us.
    Foreign,
}

/// A model to be linked under a name in the first directory that takes it.
struct Place {
    cache: Arc<Cache>,
    file: PathBuf,
    dirs: Vec<PathBuf>,
    name: String,
    replace: Replace,
}

/// How often another call may be faster before this one gives up.
const RACES: u32 = 4;

impl Place {
    fn link(&self, tries: u32) -> Result<PlacedModel, StorageError> {
        let mut failed = Vec::new();
        // The first directory wins in ComfyUI: a link there would hide what has the name in a later
        // one.
        for dir in &self.dirs {
            let link = dir.join(&self.name);
            match self.standing(&link) {
                Standing::Nothing => {}
                Standing::Same => return self.done(dir, false),
                Standing::Foreign => return Ok(self.kept(dir, "is not a link of ours")),
                Standing::Ours(_) if self.replace == Replace::Nothing => {
                    return Ok(self.kept(dir, "is another model"));
                }
                Standing::Ours(_) if self.is_reserved(&link) => {
                    return Ok(self.kept(dir, "is a model of the manifest"));
                }
                Standing::Ours(before) => match self.make(dir, &link) {
                    Ok(()) => {
                        self.tell_replaced(&link, &before);
                        return self.done(dir, true);
                    }
                    Err(error) => failed.push((link, error)),
                },
            }
        }
        for dir in &self.dirs {
            let link = dir.join(&self.name);
            if self.is_reserved(&link) {
                let sentence = format!(
                    "the name {} belongs to a model of the manifest, which is not there at this \
                     moment: choose another file name",
                    self.name
                );
                return Err(StorageError::new(ErrorKind::Failed, sentence));
            }
            match self.make(dir, &link) {
                Ok(()) => {
                    if let Some((path, error)) = failed.first() {
                        self.cache
                            .warn_of_directory(path.parent().unwrap_or(path), error);
                    }
                    return self.done(dir, true);
                }
                // Something has taken the name since we looked.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries > 0 => {
                    return self.link(tries - 1);
                }
                Err(error) => failed.push((link, error)),
            }
        }
        let reasons: Vec<String> = failed
            .iter()
            .map(|(link, error)| format!("{}: {error}", link.display()))
            .collect();
        let message = format!(
            "the model cannot be linked as {}",
            reasons.join(", nor as ")
        );
        Err(match failed.last() {
            Some((_, error)) => StorageError::local(message, error),
            None => StorageError::new(ErrorKind::Local, message),
        })
    }

    fn standing(&self, link: &Path) -> Standing {
        let there = match std::fs::symlink_metadata(link) {
            // No model has a directory's name; that there can be no link is noticed when it is
            // made.
            Ok(there) if there.is_dir() => return Standing::Nothing,
            Ok(there) => there,
            Err(_) => return Standing::Nothing,
        };
        let target = std::fs::read_link(link).ok().filter(|_| there.is_symlink());
        match target {
            Some(target) if target == self.file => Standing::Same,
            Some(target) if self.cache.made(&target) => Standing::Ours(target),
            _ => Standing::Foreign,
        }
    }

    fn done(&self, dir: &Path, new: bool) -> Result<PlacedModel, StorageError> {
        let link = dir.join(&self.name);
        self.cache.linked(&self.file, &link);
        if self.replace == Replace::All {
            self.cache.reserved.note(&link, base_of_path(&self.file));
        }
        Ok(PlacedModel {
            dir: dir.to_owned(),
            name: self.name.clone(),
            new,
            kept: None,
        })
    }

    fn kept(&self, dir: &Path, what: &str) -> PlacedModel {
        let link = dir.join(&self.name);
        let kept = format!(
            "{} exists and {what}: it was used as it is, and the downloaded file was not put in \
             its place",
            link.display()
        );
        PlacedModel {
            dir: dir.to_owned(),
            name: self.name.clone(),
            new: false,
            kept: Some(kept),
        }
    }

    /// A name of the manifest's, for anybody else and another file.
    fn is_reserved(&self, link: &Path) -> bool {
        self.replace != Replace::All
            && self
                .cache
                .reserved
                .base(link)
                .is_some_and(|base| base != base_of_path(&self.file))
    }

    /// Makes the link, and below the folder's directory what folders the name has. The directory
    /// itself is made only where its parent is there: a volume that is not mounted is not to be
    /// filled beneath its mount point.
    fn make(&self, dir: &Path, link: &Path) -> io::Result<()> {
        if !dir.is_dir() {
            std::fs::create_dir(dir).or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists if dir.is_dir() => Ok(()),
                _ => Err(error),
            })?;
        }
        let parent = link.parent().ok_or(io::ErrorKind::InvalidInput)?;
        std::fs::create_dir_all(parent)?;
        let there = std::fs::symlink_metadata(link).ok();
        if there.as_ref().is_some_and(Metadata::is_dir) {
            let message = "there is a directory of that name";
            return Err(io::Error::new(io::ErrorKind::IsADirectory, message));
        }
        put_link(&self.file, parent, link, there.is_some())
    }

    fn tell_replaced(&self, link: &Path, before: &Path) {
        let url = |file: &Path| match Sidecar::read(file) {
            Found::Sidecar(sidecar) => sidecar.url,
            _ => None,
        };
        let (from, to) = (url(before), url(&self.file));
        let from = from.as_deref().unwrap_or("an unknown URL");
        let to = to.as_deref().unwrap_or("an unknown URL");
        tracing::info!(
            path = %link.display(),
            from,
            to,
            "a model has taken the name of another one"
        );
    }
}

fn put_link(file: &Path, parent: &Path, link: &Path, replaces: bool) -> io::Result<()> {
    // Renaming replaces whatever link is there in one step, so ComfyUI never sees the name missing.
    // Hidden meanwhile, and without an extension that ComfyUI lists.
    let temporary = parent.join(format!(".{}.link", uuid::Uuid::new_v4().simple()));
    symlink(file, &temporary)?;
    // A regular file that appeared since we looked is the user's: linking cannot replace it, unlike
    // renaming.
    let placed = if replaces {
        std::fs::rename(&temporary, link)
    } else {
        std::fs::hard_link(&temporary, link)
            .and_then(|()| std::fs::remove_file(&temporary))
            .or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Err(error),
                // A file system without hard links, or none of links.
                _ => std::fs::rename(&temporary, link),
            })
    };
    if placed.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    placed
}

fn base_of_path(file: &Path) -> &str {
    let name = file.file_name().and_then(|name| name.to_str());
    name.and_then(base_of).unwrap_or_default()
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
                tracing::info!(
                    path = %path.display(),
                    "removed a link to a file that is no longer cached"
                );
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
            // Renaming one of two links to the same file over the other does nothing, and leaves
            // the first.
            let _ = std::fs::remove_file(&temporary);
            Ok(())
        });
    if placed.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    placed
}

/// Copies by sharing blocks where the file system can (the kernel does it for `copy_file_range`,
/// which `std::fs::copy` uses).
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
