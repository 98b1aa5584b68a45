//! Inputs that are a directory of images: a list of media, one archive, or a directory that is
//! there.

#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use futures_util::stream;
use futures_util::stream::StreamExt;
use serde_json::Value;

use super::find::WRAPPER;
use super::media::{MediaText, Placed, place_value, unlike, unwritable};
use super::{AT_ONCE, Context, Done, InputTask, Work};
use crate::error::{Code, Failure};
use crate::media;
use crate::media::UnpackError;
use crate::storage::{Storage, model_extension};

/// Which part of the workspace a task's files go to. A directory node reads every file in its
/// directory, so nothing else may lie there; with a single such node the directory is the workspace
/// itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirectoryLayout {
    directories: usize,
}

impl DirectoryLayout {
    pub(super) fn of(tasks: &[InputTask]) -> Self {
        Self {
            directories: tasks
                .iter()
                .filter(|task| task.work == Work::Directory)
                .count(),
        }
    }

    /// Where single media go.
    pub(super) fn media_dir(self) -> &'static str {
        // A name that nothing in a user's archive has.
        if self.directories == 0 {
            ""
        } else {
            "comfyui-api.media"
        }
    }

    fn directory(self, task: &InputTask) -> String {
        if self.directories == 1 {
            String::new()
        } else {
            task.index.to_string()
        }
    }
}

/// A list of media, as opposed to a link `[node, output]`; also in ComfyUI's wrapper for lists.
pub(super) fn is_media_list(value: &Value) -> bool {
    let is_link = |list: &[Value]| matches!(list, [Value::String(_), Value::Number(_)]);
    let list = value.get(WRAPPER).unwrap_or(value).as_array();
    list.is_some_and(|list| list.iter().any(Value::is_string) && !is_link(list))
}

/// Names of text inputs that take a folder of media, in the packs that have such (F32).
pub(super) fn is_folder_name(input: &str) -> bool {
    [
        "directory",
        "folder",
        "folder_path",
        "directory_path",
        "image_folder",
        "input_dir",
    ]
    .iter()
    .any(|name| name.eq_ignore_ascii_case(input))
}

pub(super) async fn place(context: &Context<'_>, task: &InputTask) -> Result<Done, Failure> {
    let sub = context.layout.directory(task);
    let done = match &*task.value {
        Value::Array(list) => place_list(context, task, list.len(), &sub).await?,
        Value::String(text) if text.trim().is_empty() => return Ok(Done::default()),
        _ => match place_archive(context, task, &sub).await? {
            Some(done) => done,
            None => return Ok(Done::default()),
        },
    };
    named(context, task, &sub, done).await
}

/// A text that names a folder: media and archives become one; what does not look like them is left
/// alone.
pub(super) async fn place_folder(context: &Context<'_>, task: &InputTask) -> Result<Done, Failure> {
    let sub = format!("{}-{}", task.index, unlike());
    if let Value::Array(list) = &*task.value {
        let meant = |item: &Value| item.as_str().is_some_and(looks_like_media);
        if !list.iter().any(meant) {
            return Ok(Done::default());
        }
        let done = place_list(context, task, list.len(), &sub).await?;
        return named(context, task, &sub, done).await;
    }
    let text = task.value.as_str().unwrap_or_default();
    let sure = !Storage::is_url(text) || url_is_media(text) == Some(true);
    if text.trim().is_empty() || Storage::is_url(text) && url_is_media(text) == Some(false) {
        return Ok(Done::default());
    }
    match place_archive(context, task, &sub).await {
        Ok(Some(done)) => named(context, task, &sub, done).await,
        Ok(None) => Ok(Done::default()),
        // Perhaps it was never meant to be fetched by us.
        Err(failure) if !sure && failure.code == Code::DownloadFailed => Ok(Done {
            warnings: vec![format!(
                "{}: the URL was left as it is: {}",
                task.location(),
                failure.message
            )],
            ..Done::default()
        }),
        Err(failure) => Err(failure),
    }
}

fn looks_like_media(text: &str) -> bool {
    Storage::is_url(text)
        || text
            .get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case("data:"))
        || text.len() > 255
}

/// Whether a URL is one of media or of an archive, by its name; `None` when it does not say.
fn url_is_media(text: &str) -> Option<bool> {
    let url = url::Url::parse(text).ok()?;
    let name = url.path().rsplit('/').next()?.to_ascii_lowercase();
    let extension = Path::new(&name).extension()?.to_str()?;
    if matches!(extension, "zip" | "tar" | "tgz" | "gz" | "zst" | "tzst") {
        return Some(true);
    }
    let kind = media::content_type(&name, &[]);
    if is_media_type(&kind) {
        return Some(true);
    }
    let other = matches!(
        extension,
        "html" | "htm" | "json" | "xml" | "txt" | "md" | "csv" | "pdf" | "js" | "css" | "git"
    );
    (other || model_extension(&name).is_some()).then_some(false)
}

fn is_media_type(content_type: &str) -> bool {
    ["image/", "video/", "audio/"]
        .iter()
        .any(|kind| content_type.starts_with(kind))
}

/// The value for the node: the directory.
async fn named(
    context: &Context<'_>,
    task: &InputTask,
    sub: &str,
    done: Done,
) -> Result<Done, Failure> {
    let dir: PathBuf = context.workspace.dir().await.map_err(unwritable)?.join(sub);
    // `join("")` leaves a trailing separator that ComfyUI would take for part of the name.
    let dir: PathBuf = dir.components().collect();
    Ok(Done {
        value: Some(context.name_for(&task.class, &task.input, dir)),
        ..done
    })
}

async fn place_list(
    context: &Context<'_>,
    task: &InputTask,
    count: usize,
    sub: &str,
) -> Result<Done, Failure> {
    let mut all = Done::default();
    let at = |index: usize| format!("prompt.{}.inputs.{}.{index}", task.node, task.input);
    let strange = (0..count).find(|index| !task.value[*index].is_string());
    if let Some(index) = strange {
        let message =
            "an item of a list of media must be a text: a URL, base64, a data: URI or a name";
        return Err(Failure::invalid(at(index), message));
    }
    let work: Vec<_> = (0..count)
        .map(|index| async move {
            place_item(context, task, index, sub)
                .await
                .map_err(|failure| failure.at(at(index)))
        })
        .collect();
    let mut placing = stream::iter(work).buffered(AT_ONCE);
    while let Some(done) = placing.next().await {
        all.fetched.extend(done?.fetched);
    }
    Ok(all)
}

/// Numbered so that the files sort in the order of the list.
async fn place_item(
    context: &Context<'_>,
    task: &InputTask,
    index: usize,
    sub: &str,
) -> Result<Done, Failure> {
    let prefix = format!("{index:05}_");
    let item = MediaText::item(&task.value, index);
    match place_value(context, &item, &prefix, sub).await? {
        Placed::Unknown(reason) => Err(Failure::new(Code::InvalidRequest, reason)),
        Placed::New(_, done) => Ok(done),
        Placed::There(path) => bring(context, path, &prefix, sub)
            .await
            .map(|()| Done::default()),
    }
}

/// A file that is there is brought into the directory too: by another name for it, else by a copy.
async fn bring(
    context: &Context<'_>,
    path: PathBuf,
    prefix: &str,
    sub: &str,
) -> Result<(), Failure> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let target = context
        .workspace
        .subdir(sub)
        .await
        .map_err(unwritable)?
        .join(format!("{prefix}{name}"));
    let work = tokio::task::spawn_blocking(move || {
        // A link to a link would lead out of the input directory.
        let real = path.canonicalize()?;
        std::fs::hard_link(&real, &target).or_else(|_| std::fs::copy(&real, &target).map(drop))
    });
    let brought = context
        .workspace
        .holding(async move { work.await.map_err(std::io::Error::other)? })
        .await
        .map_err(unwritable)?;
    brought.map_err(|error| match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => unwritable(error),
        _ => Failure::new(
            Code::InvalidRequest,
            format!("\"{name}\" cannot be put into the directory: {error}"),
        ),
    })
}

/// An archive by URL or base64 is unpacked, and one medium becomes a directory of one; the name of
/// a directory that is there is left alone (`None`), as is any other text where any may stand.
async fn place_archive(
    context: &Context<'_>,
    task: &InputTask,
    sub: &str,
) -> Result<Option<Done>, Failure> {
    let holding = format!("archive-{}", task.index);
    let text = MediaText::whole(&task.value);
    let (archive, done) = match place_value(context, &text, "", &holding).await? {
        Placed::New(archive, done) => (archive, done),
        Placed::There(_) => return Ok(None),
        Placed::Unknown(_) if task.work == Work::Folder => return Ok(None),
        Placed::Unknown(reason) => return Err(Failure::new(Code::InvalidRequest, reason)),
    };
    match content_of(&archive).await.map_err(unwritable)? {
        Content::Archive => {}
        Content::Medium => {
            let target = context.workspace.subdir(sub).await.map_err(unwritable)?;
            let moving = async move { move_alone(&archive, &target).await };
            context
                .workspace
                .holding(moving)
                .await
                .and_then(|moved| moved)
                .map_err(unwritable)?;
            return Ok(Some(done));
        }
        Content::Other if task.work == Work::Folder => {
            let removing = async move { remove_beside(&archive).await };
            let removed = context.workspace.holding(removing).await;
            removed.and_then(|removed| removed).map_err(unwritable)?;
            return Ok(None);
        }
        // What is wrong with it, unpacking says.
        Content::Other => {}
    }
    unpack(context, archive, sub).await?;
    Ok(Some(done))
}

/// Puts what is in an archive into a directory of its own.
async fn unpack(context: &Context<'_>, archive: PathBuf, sub: &str) -> Result<(), Failure> {
    let (max_files, max_bytes) = (
        context.around.prompt.max_archive_files,
        context.around.prompt.max_archive_bytes,
    );
    // A name that nothing in the archive can have.
    let unpacked = context
        .workspace
        .dir()
        .await
        .map_err(unwritable)?
        .join(format!("unpacked-{}", uuid::Uuid::new_v4().simple()));
    let target = context.workspace.subdir(sub).await.map_err(unwritable)?;
    let work = async move {
        media::unpack(&archive, &unpacked, max_files, max_bytes)
            .await
            .map_err(|error| match error {
                UnpackError::Archive(reason) => Failure::new(Code::InvalidRequest, reason),
                UnpackError::Disk(error) => unwritable(error),
            })?;
        let moving = tokio::task::spawn_blocking(move || {
            // Out of the way first: a directory node would read the archive, and its name may be
            // one of those inside.
            archive.parent().map_or(Ok(()), std::fs::remove_dir_all)?;
            move_contents(&unpacked, &target)
        });
        moving
            .await
            .map_err(std::io::Error::other)
            .and_then(|moved| moved)
            .map_err(unwritable)
    };
    context.workspace.holding(work).await.map_err(unwritable)?
}

/// What a file turned out to be.
enum Content {
    Archive,
    Medium,
    Other,
}

async fn content_of(path: &Path) -> std::io::Result<Content> {
    let path = path.to_owned();
    let looking = tokio::task::spawn_blocking(move || {
        let head = media::head(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(if media::is_archive(&head) {
            Content::Archive
        } else if is_media_type(&media::content_type(&name, &head)) {
            Content::Medium
        } else {
            Content::Other
        })
    });
    looking.await.map_err(std::io::Error::other)?
}

/// Moves one file to where the node looks for it, out of the folder that it came in alone.
async fn move_alone(file: &Path, target: &Path) -> std::io::Result<()> {
    let name = file.file_name().unwrap_or_default();
    tokio::fs::rename(file, target.join(name)).await?;
    remove_beside(file).await
}

async fn remove_beside(file: &Path) -> std::io::Result<()> {
    match file.parent() {
        Some(folder) => tokio::fs::remove_dir_all(folder).await,
        None => Ok(()),
    }
}

/// Moves what was unpacked to where the node looks for it. Directory nodes do not look into
/// folders, so a folder that holds everything, as people often pack it, is left out.
fn move_contents(unpacked: &Path, target: &Path) -> std::io::Result<()> {
    let mut source = unpacked.to_path_buf();
    loop {
        let entries = std::fs::read_dir(&source)?.collect::<Result<Vec<_>, _>>()?;
        // What macOS adds to archives is not meant by anybody.
        let meant: Vec<_> = entries
            .iter()
            .filter(|entry| !matches!(entry.file_name().to_str(), Some("__MACOSX" | ".DS_Store")))
            .collect();
        match meant.as_slice() {
            [only] if only.file_type()?.is_dir() => source = only.path(),
            meant => {
                for entry in meant {
                    std::fs::rename(entry.path(), target.join(entry.file_name()))?;
                }
                return std::fs::remove_dir_all(unpacked);
            }
        }
    }
}
