//! Model inputs that are URLs: downloaded into the right model folder, replaced by the file's name (prompt.md, section 1).

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Context, Done, InputTask, PrepareContext, inputs};
use crate::error::{Code, Failure};
use crate::storage::{Storage, model_name};

/// Extensions under which ComfyUI and the usual custom nodes list models (comfyui.md 6.2).
const LISTED: &[&str] = &[
    "ckpt",
    "pt",
    "pt2",
    "bin",
    "pth",
    "safetensors",
    "pkl",
    "sft",
    "yaml",
    "yml",
    "gguf",
    "onnx",
];

pub(super) async fn place(
    context: &Context<'_>,
    task: &InputTask,
    folder: &str,
) -> Result<Done, Failure> {
    let url = task.value.as_str().unwrap_or_default();
    let dir = model_dir(context, folder);
    let fetched = context.fetch(url).await?;
    let cached_name = fetched
        .path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = listed_name(model_name(&fetched, cached_name.as_deref()).await);
    let warning = context
        .around
        .storage
        .place_model(&fetched, &dir, &name)
        .await
        .map_err(|error| context.failure(error))?;
    Ok(Done {
        value: Some(name.into()),
        fetched: vec![(url.to_owned(), fetched)],
        warnings: warning.into_iter().collect(),
    })
}

/// Where the models may be that a graph names by file: cached ones are not to be evicted while it runs. None where nothing ever is.
pub(super) fn named(graph: &Map<String, Value>, around: &PrepareContext<'_>) -> Vec<PathBuf> {
    if !around.storage.evicts() {
        return Vec::new();
    }
    let mut paths = Vec::new();
    for input in inputs(graph) {
        let Some(name) = input
            .value
            .as_str()
            .filter(|name| !Storage::is_url(name) && !name.is_empty())
        else {
            continue;
        };
        let Some(folder) = around.catalogue.model_folder(input.class, input.name) else {
            continue;
        };
        match around.catalogue.folders.get(folder) {
            Some(dirs) => paths.extend(dirs.iter().map(|dir| dir.join(name))),
            None => paths.push(around.comfy.model_dir.join(folder).join(name)),
        }
    }
    paths
}

pub(super) async fn clone(context: &Context<'_>, task: &InputTask) -> Result<Done, Failure> {
    let url = task.value.as_str().unwrap_or_default();
    let name = repository_name(url).ok_or_else(|| {
        Failure::new(
            Code::InvalidRequest,
            "the URL does not end with the name of a git repository",
        )
    })?;
    let destination = model_dir(context, "diffusers").join(&name);
    context
        .around
        .storage
        .clone_repository(url, &destination, &context.stop)
        .await
        .map_err(|error| context.failure(error))?;
    Ok(Done {
        value: Some(name.into()),
        ..Done::default()
    })
}

fn model_dir(context: &Context<'_>, folder: &str) -> PathBuf {
    context.around.catalogue.model_dir(folder).map_or_else(
        || context.around.comfy.model_dir.join(folder),
        Path::to_path_buf,
    )
}

/// The name, with an extension that ComfyUI lists even if the origin named none and the contents do not tell.
fn listed_name(name: String) -> String {
    let extension = Path::new(&name)
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    if LISTED.contains(&extension.as_str()) {
        name
    } else {
        format!("{name}.safetensors")
    }
}

/// The last segment of a repository's URL, without `.git`.
fn repository_name(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let last = url.path_segments()?.rfind(|segment| !segment.is_empty())?;
    let name = crate::storage::check_file_name(last.strip_suffix(".git").unwrap_or(last)).ok()?;
    (!name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_and_repositories() {
        assert_eq!(listed_name("abc.safetensors".into()), "abc.safetensors");
        assert_eq!(listed_name("abc.SFT".into()), "abc.SFT");
        assert_eq!(listed_name("abc".into()), "abc.safetensors");
        assert_eq!(listed_name("abc.php".into()), "abc.php.safetensors");
        assert_eq!(
            repository_name("https://h/o/stable-diffusion.git").as_deref(),
            Some("stable-diffusion")
        );
        assert_eq!(
            repository_name("https://h/o/repo/").as_deref(),
            Some("repo")
        );
        assert_eq!(repository_name("https://h/"), None);
    }
}
