//! Media inputs: which they are, and how their files get into ComfyUI's input directory.

use std::path::{Path, PathBuf};

use super::value::{MediaValue, classify};
use super::{Context, Done, InputTask};
use crate::comfy::catalogue::Catalogue;
use crate::error::{Code, Failure};

/// The fixed rules existing clients rely on, beside what ComfyUI itself says (prompt.md, section 1).
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

/// Inputs that name a directory of images.
pub fn is_directory(class: &str, input: &str) -> bool {
    input == "directory" && matches!(class, "VHS_LoadImages" | "VHS_LoadImagesPath")
}

/// Classes that want a path where others want a name in the input directory.
pub fn takes_path(class: &str, input: &str) -> bool {
    class.starts_with("VHS_") && class.ends_with("Path")
        || class == "VHS_LoadAudio" && input == "audio_file"
}

/// Puts one media value in place.
pub(super) async fn place(context: &Context<'_>, task: &InputTask) -> Result<Done, Failure> {
    let text = task.value.as_str().unwrap_or_default();
    match place_value(
        context,
        text,
        &format!("{}_", task.index),
        context.layout.media_dir(),
    )
    .await?
    {
        Placed::There(_) => Ok(Done::default()),
        Placed::New(path, done) => Ok(Done {
            value: Some(context.name_for(&task.class, &task.input, path)),
            ..done
        }),
    }
}

/// Where a value's file is.
pub(super) enum Placed {
    /// It was there already; the graph's own name for it stands.
    There(PathBuf),
    /// In the workspace.
    New(PathBuf, Done),
}

/// Brings one value into a directory of the workspace, under a name that begins with `prefix`, unless it is there already.
pub(super) async fn place_value(
    context: &Context<'_>,
    text: &str,
    prefix: &str,
    dir: &str,
) -> Result<Placed, Failure> {
    let (owned, directories) = (text.to_owned(), context.around.directories.clone());
    let value = tokio::task::spawn_blocking(move || classify(&owned, &directories)).await;
    match value.map_err(|error| unwritable(error.into()))? {
        MediaValue::Present(path) => Ok(Placed::There(path)),
        MediaValue::Unusable(reason) => Err(Failure::new(Code::InvalidRequest, reason)),
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
            let fetched = context.fetch(text).await?;
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
    Failure::new(Code::Internal, format!("cannot write into ComfyUI's input directory: {error}; check INPUT_DIR and its free space")).transient()
}
