//! Media inputs: which they are, and how their files get into ComfyUI's input directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tokio::task::JoinError;

use super::value::{MediaValue, classify};
use super::{Context, Done, InputTask};
use crate::comfy::catalogue::Catalogue;
use crate::comfy::input_kind::InputKind;
use crate::error::{Code, Failure, panicked};
use crate::storage::StorageError;

/// The fixed rules existing clients rely on, beside what ComfyUI itself says (prompt.md, section
/// 1).
pub fn is_media(class: &str, input: &str, catalogue: &Catalogue) -> bool {
    let fixed = match input {
        "image" => true,
        "video" | "file" => matches!(
            class,
            "LoadVideo"
                | "VHS_LoadVideo"
                | "VHS_LoadVideoPath"
                | "VHS_LoadVideoFFmpeg"
                | "VHS_LoadVideoFFmpegPath"
        ),
        "audio" | "audio_file" => class == "LoadAudio" || class.starts_with("VHS_LoadAudio"),
        _ => false,
    };
    fixed || catalogue.is_media(class, input)
}

/// What the folder of media is called among the downloads.
const INPUT: &str = "input";

/// Inputs that name a directory of images.
pub fn is_directory(class: &str, input: &str) -> bool {
    input == "directory" && matches!(class, "VHS_LoadImages" | "VHS_LoadImagesPath")
}

/// Inputs that want a path where others want a name in the input directory: of the classes that are
/// known for it, and an `image` that is plain text to ComfyUI, or nothing that it knows: the node
/// opens what it gets (D04). So does one that takes a folder (F32).
pub fn takes_path(class: &str, input: &str, catalogue: &Catalogue) -> bool {
    let kind = catalogue.kind(class, input);
    class.starts_with("VHS_") && class.ends_with("Path")
        || class == "VHS_LoadAudio" && input == "audio_file"
        || input == "image" && matches!(kind, None | Some(InputKind::Text))
        || kind == Some(InputKind::Text) && super::directory::is_folder_name(input)
}

/// A few letters that no name has had. ComfyUI may have the result of a node in its cache, and only
/// of its own loaders it looks whether the file behind a path is another one by now.
pub(super) fn unlike() -> String {
    let mut letters = uuid::Uuid::new_v4().simple().to_string();
    letters.truncate(8);
    letters
}

/// Puts one media value in place. An empty text is left alone, and so is any text in an input that
/// ComfyUI does not describe as an upload: it judges (drop-in.md, D03).
pub(super) async fn place(context: &Context<'_>, task: &InputTask) -> Result<Done, Failure> {
    let text = MediaText::whole(&task.value);
    if text.as_str().trim().is_empty() {
        return Ok(Done::default());
    }
    let mut prefix = format!("{}_", task.index);
    if takes_path(&task.class, &task.input, context.around.catalogue) {
        prefix.push_str(&unlike());
        prefix.push('_');
    }
    match place_value(context, &text, &prefix, context.layout.media_dir()).await? {
        Placed::There(_) => Ok(Done::default()),
        Placed::Unknown(_) if !context.around.catalogue.is_media(&task.class, &task.input) => {
            Ok(Done::default())
        }
        Placed::Unknown(reason) => Err(Failure::new(Code::InvalidRequest, reason)),
        Placed::New(path, done) => Ok(Done {
            value: Some(context.name_for(&task.class, &task.input, path)),
            ..done
        }),
    }
}

/// A text of the graph, or of a list in it, that may be megabytes of base64: it is shared, not
/// copied.
#[derive(Clone)]
pub(super) struct MediaText {
    value: Arc<Value>,
    item: Option<usize>,
}

impl MediaText {
    pub(super) fn whole(value: &Arc<Value>) -> Self {
        Self {
            value: value.clone(),
            item: None,
        }
    }

    pub(super) fn item(value: &Arc<Value>, index: usize) -> Self {
        Self {
            value: value.clone(),
            item: Some(index),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        let value = match self.item {
            Some(index) => self.value.get(index),
            None => Some(&*self.value),
        };
        value.and_then(Value::as_str).unwrap_or_default()
    }
}

/// Where a value's file is.
pub(super) enum Placed {
    /// It was there already; the graph's own name for it stands.
    There(PathBuf),
    /// In the workspace.
    New(PathBuf, Done),
    /// It is nothing that could be brought, in a sentence.
    Unknown(String),
}

/// Brings one value into a directory of the workspace, under a name that begins with `prefix`,
/// unless it is there already.
pub(super) async fn place_value(
    context: &Context<'_>,
    text: &MediaText,
    prefix: &str,
    dir: &str,
) -> Result<Placed, Failure> {
    let (shared, directories) = (text.clone(), context.around.directories.clone());
    let value = tokio::task::spawn_blocking(move || classify(shared.as_str(), &directories)).await;
    match value.map_err(|error| unwritable(std::io::Error::other(error)))? {
        MediaValue::Present(path) => Ok(Placed::There(path)),
        MediaValue::Unusable(reason) => Err(Failure::new(Code::InvalidRequest, reason)),
        MediaValue::Unknown(reason) => Ok(Placed::Unknown(reason)),
        MediaValue::Bytes(bytes, extension) => {
            let path = context
                .workspace
                .subdir(dir)
                .await
                .map_err(unwritable)?
                .join(format!("{prefix}input.{extension}"));
            let file = path.clone();
            let writing = context
                .workspace
                .holding(async move { tokio::fs::write(file, bytes).await });
            writing
                .await
                .and_then(|written| written)
                .map_err(unwritable)?;
            Ok(Placed::New(path, Done::default()))
        }
        MediaValue::Url => {
            let text = text.as_str();
            let fetched = context.fetch(text, INPUT).await?;
            let path = context
                .workspace
                .subdir(dir)
                .await
                .map_err(unwritable)?
                .join(format!("{prefix}{}", input_name(&fetched.path)));
            let (storage, source, file) = (
                context.around.storage.clone(),
                fetched.clone(),
                path.clone(),
            );
            let placing = context
                .workspace
                .holding(async move { storage.place_input(&source, &file).await });
            placing
                .await
                .map_err(unwritable)?
                .map_err(|error| context.failure(error))?;
            Ok(Placed::New(
                path,
                Done {
                    fetched: vec![(text.to_owned(), fetched)],
                    ..Done::default()
                },
            ))
        }
    }
}

/// The cached file's own name. Its extension came from the origin; ComfyUI goes by it.
fn input_name(cached: &Path) -> String {
    cached
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_else(|| "input".to_owned())
}

/// The input directory is the operator's, so this is our fault and not the client's.
pub(super) fn unwritable(error: std::io::Error) -> Failure {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<JoinError>());
    if inner.is_some_and(JoinError::is_panic) {
        return panicked("preparing an input file");
    }
    let message = format!(
        "cannot write into ComfyUI's input directory: {error}; check INPUT_DIR and its free space"
    );
    let trouble = StorageError::local(message, &error);
    // A full disk has room again some time: said as of any other file that a prompt needs (A47).
    let code = match trouble.retry_after {
        Some(_) => Code::DownloadFailed,
        None => Code::Internal,
    };
    trouble.into_failure(code)
}
