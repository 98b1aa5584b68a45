//! `list_models`.

use serde_json::{Map, Value, json};

use super::super::context::Context;
use super::super::result::ToolFailure;
use super::arguments::Arguments;
use crate::error::Failure;
use crate::limits::text::quoted;

/// Names of one list.
const MOST: usize = 5_000;

/// What ComfyUI lists, folder by folder.
pub async fn list(context: &Context, mut arguments: Arguments) -> Result<Value, ToolFailure> {
    let folder = arguments.text("folder")?;
    let search = arguments.text("search")?.map(|text| text.to_lowercase());
    let limit = arguments.limit(200, MOST)?;
    let lists = context
        .state
        .rest
        .comfy
        .list_models()
        .await
        .map_err(Failure::from)?;
    if let Some(folder) = &folder
        && !lists.contains_key(folder)
    {
        let known: Vec<&str> = lists.keys().map(String::as_str).collect();
        return Err(ToolFailure::unknown(format!(
            "there is no model folder \"{}\": there are {}",
            quoted(folder),
            known.join(", ")
        )));
    }
    let mut left = limit;
    let mut truncated = false;
    let mut folders = Map::new();
    for (name, files) in lists {
        if folder.as_ref().is_some_and(|wanted| *wanted != name) {
            continue;
        }
        let mut found: Vec<String> = files
            .into_iter()
            .filter(|file| {
                search
                    .as_ref()
                    .is_none_or(|text| file.to_lowercase().contains(text))
            })
            .collect();
        if found.is_empty() && search.is_some() && folder.is_none() {
            continue;
        }
        truncated |= found.len() > left;
        found.truncate(left);
        left -= found.len();
        folders.insert(name, found.into());
    }
    Ok(json!({"folders": folders, "truncated": truncated}))
}
