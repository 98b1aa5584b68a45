//! Assets as inputs: `core/ASSET` objects and texts like `asset:<id>` become the names that ComfyUI
//! expects (v2.md, "Assets").

use std::path::Path;

use serde_json::{Map, Value};

use super::preprocess::Workspace;
use crate::error::{Code, Failure};
use crate::store::{AssetRecord, Store, StoreError, blobs};

/// What names an asset by its id.
const PREFIX: &str = "asset:";

/// An asset that a graph refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    id: Option<String>,
    hash: Option<String>,
    /// It is a text like any other, which means an asset only where one may stand.
    text: bool,
}

/// What a text like `asset:<id>` is in an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextMeans {
    /// An asset, which must be there.
    Asset,
    /// An asset, if it is there.
    Perhaps,
    /// A text.
    Text,
}

impl Reference {
    /// The asset; its id decides, and only if that is unknown its hash.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn find(&self, store: &Store) -> Result<Option<AssetRecord>, StoreError> {
        if let Some(id) = &self.id
            && let Some(asset) = store.asset(id).await?
        {
            return Ok(Some(asset));
        }
        match &self.hash {
            Some(hash) => store.asset_by_hash(hash).await,
            None => Ok(None),
        }
    }

    /// For messages.
    pub fn shown(&self) -> String {
        let text = self
            .id
            .as_deref()
            .or(self.hash.as_deref())
            .unwrap_or("(malformed)");
        text.chars().take(100).collect()
    }
}

/// 64 hexadecimal digits in lower case, from a hash as clients write it.
pub fn plain_hash(text: &str) -> Option<String> {
    let digits = text.strip_prefix("blake3:").unwrap_or(text);
    let good = digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    good.then(|| digits.to_ascii_lowercase())
}

fn reference(value: &Value) -> Option<Reference> {
    match value {
        Value::String(text) => {
            let id = text.strip_prefix(PREFIX)?;
            let id = uuid::Uuid::parse_str(id).ok()?;
            Some(Reference {
                id: Some(id.to_string()),
                hash: None,
                text: true,
            })
        }
        Value::Object(members)
            if members.get("__type").and_then(Value::as_str) == Some("core/ASSET") =>
        {
            let text = |name: &str| {
                value
                    .pointer(&format!("/info/{name}"))
                    .and_then(Value::as_str)
            };
            let hash = text("hash").and_then(plain_hash);
            Some(Reference {
                id: text("id").map(str::to_owned),
                hash,
                text: false,
            })
        }
        _ => None,
    }
}

/// All assets that a value refers to, at any depth.
pub fn references(value: &Value, found: &mut Vec<Reference>) {
    if let Some(reference) = reference(value) {
        if !found.contains(&reference) {
            found.push(reference);
        }
        return;
    }
    match value {
        Value::Object(members) => members.values().for_each(|item| references(item, found)),
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Where a graph refers to an asset.
struct Mention {
    node: String,
    class: String,
    input: String,
    reference: Reference,
}

impl Mention {
    /// For messages.
    fn location(&self) -> String {
        format!("prompt.{}.inputs.{}", self.node, self.input)
    }

    /// Puts a text in its place.
    fn replace_by(&self, text: &str, graph: &mut Map<String, Value>) {
        let node = graph.get_mut(&self.node);
        let inputs = node.and_then(|node| node.get_mut("inputs"));
        if let Some(value) = inputs.and_then(|inputs| inputs.get_mut(&self.input)) {
            replace(value, &self.reference, text);
        }
    }
}

/// Every asset that a graph refers to, in the order of its inputs.
async fn mentions(
    graph: &Map<String, Value>,
    store: &Store,
    text_means: impl Fn(&str, &str) -> TextMeans,
) -> Vec<Mention> {
    let mut mentions = Vec::new();
    for (node, value) in graph {
        let class = class_of(value);
        let inputs = value.get("inputs").and_then(Value::as_object);
        for (input, value) in inputs.into_iter().flatten() {
            let mut found = Vec::new();
            references(value, &mut found);
            for reference in found {
                if reference.text && is_text(&reference, text_means(&class, input), store).await {
                    continue;
                }
                mentions.push(Mention {
                    node: node.clone(),
                    class: class.clone(),
                    input: input.clone(),
                    reference,
                });
            }
        }
    }
    mentions
}

/// Puts all assets of a graph in place.
///
/// # Errors
/// A 400 that names the input whose asset is not there.
pub(super) async fn place(
    graph: &mut Map<String, Value>,
    store: &Store,
    workspace: &Workspace,
    input_dir: &Path,
    takes_path: impl Fn(&str, &str) -> bool,
    text_means: impl Fn(&str, &str) -> TextMeans,
) -> Result<(), Failure> {
    let mentions = mentions(graph, store, text_means).await;
    for (number, mention) in mentions.iter().enumerate() {
        let name = place_one(
            &mention.reference,
            number,
            store,
            workspace,
            input_dir,
            takes_path(&mention.class, &mention.input),
        )
        .await
        .map_err(|failure| failure.at(mention.location()))?;
        mention.replace_by(&name, graph);
    }
    Ok(())
}

fn class_of(node: &Value) -> String {
    let class = node.get("class_type").and_then(Value::as_str);
    class.unwrap_or_default().to_owned()
}

/// Whether a text that looks like an asset is left as it is.
async fn is_text(reference: &Reference, means: TextMeans, store: &Store) -> bool {
    match means {
        TextMeans::Asset => false,
        TextMeans::Perhaps => !matches!(reference.find(store).await, Ok(Some(_))),
        TextMeans::Text => true,
    }
}

/// Puts an address in the place of each asset of a graph that another machine runs. `address` is
/// told where its bytes are.
///
/// # Errors
/// A 400 that names the input whose asset is not there.
pub(super) async fn give_addresses(
    graph: &mut Map<String, Value>,
    store: &Store,
    text_means: impl Fn(&str, &str) -> TextMeans,
    mut address: impl FnMut(&AssetRecord, std::path::PathBuf) -> String,
) -> Result<(), Failure> {
    for mention in mentions(graph, store, text_means).await {
        let (asset, source) = content_of(&mention.reference, store)
            .await
            .map_err(|failure| failure.at(mention.location()))?;
        let address = match &source {
            Some(source) => address(&asset, source.clone()),
            None => asset.file_path.clone(),
        };
        mention.replace_by(&address, graph);
    }
    Ok(())
}

fn broken(error: impl std::fmt::Display) -> Failure {
    let message = format!("an asset cannot be put in place: {error}");
    Failure::new(Code::Internal, message)
}

/// The asset and where its bytes are; nowhere is a model, which is in its folder.
async fn content_of(
    wanted: &Reference,
    store: &Store,
) -> Result<(AssetRecord, Option<std::path::PathBuf>), Failure> {
    let asset = wanted.find(store).await.map_err(broken)?;
    let gone = || {
        let message = format!(
            "there is no asset {} any more: upload it again",
            wanted.shown()
        );
        Failure::new(Code::InvalidRequest, message)
    };
    let asset = asset.ok_or_else(gone)?;
    if asset.kind.as_deref() == Some("model") {
        return Ok((asset, None));
    }
    let source = store.content(&asset).map_err(|_| gone())?;
    Ok((asset, Some(source)))
}

async fn place_one(
    wanted: &Reference,
    number: usize,
    store: &Store,
    workspace: &Workspace,
    input_dir: &Path,
    as_path: bool,
) -> Result<String, Failure> {
    let (asset, source) = content_of(wanted, store).await?;
    let Some(source) = source else {
        return Ok(asset.file_path);
    };
    let _held = asset.hash.as_deref().map(|hash| store.hold(hash));
    store.used_now(&asset);
    let base = asset
        .file_path
        .rsplit('/')
        .next()
        .unwrap_or("input")
        .to_owned();
    // Two assets of one job may have the same name.
    let dir = if number == 0 {
        String::new()
    } else {
        (number + 1).to_string()
    };
    let dir = workspace.subdir(&dir).await.map_err(broken)?;
    let path = dir.join(base);
    let placed = path.clone();
    let linking = workspace.holding(async move {
        tokio::task::spawn_blocking(move || blobs::link_or_copy(&source, &placed)).await
    });
    linking
        .await
        .map_err(broken)?
        .map_err(broken)?
        .map_err(broken)?;
    let shown = if as_path {
        &path
    } else {
        path.strip_prefix(input_dir).unwrap_or(&path)
    };
    Ok(shown.to_string_lossy().into_owned())
}

fn replace(value: &mut Value, wanted: &Reference, name: &str) {
    if reference(value).as_ref() == Some(wanted) {
        *value = name.into();
        return;
    }
    match value {
        Value::Object(members) => members
            .values_mut()
            .for_each(|item| replace(item, wanted, name)),
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| replace(item, wanted, name)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found_at_any_depth_and_malformed_ones_too() {
        let graph = json!({"1": {"inputs": {
            "a": {"__type": "core/ASSET", "info": {"id": "x", "hash": "blake3:AB"}},
            "b": [
                [{"__type": "core/ASSET"}],
                "asset:00000000-0000-4000-8000-000000000000",
                "asset: not one"
            ],
        }}});
        let mut found = Vec::new();
        references(&graph, &mut found);
        let shown: Vec<String> = found.iter().map(Reference::shown).collect();
        assert_eq!(
            shown,
            ["x", "(malformed)", "00000000-0000-4000-8000-000000000000"]
        );
        assert_eq!(
            plain_hash(&format!("blake3:{}", "AB".repeat(32))),
            Some("ab".repeat(32))
        );
        assert_eq!(plain_hash("blake3:xyz"), None);
    }
}
