//! The inputs of a graph.

use serde_json::{Map, Value};

use super::{directory, media};
use crate::comfy::catalogue::Catalogue;
use crate::comfy::input_kind::InputKind;
use crate::job::asset_input::TextMeans;

/// One input of a graph.
pub(super) struct Input<'a> {
    pub(super) node: &'a str,
    pub(super) class: &'a str,
    pub(super) name: &'a str,
    pub(super) value: &'a Value,
}

/// All inputs of a graph, in its order.
pub(super) fn inputs(graph: &Map<String, Value>) -> impl Iterator<Item = Input<'_>> {
    let described = graph.iter().filter_map(|(node, description)| {
        let class = description.get("class_type")?.as_str()?;
        Some((node, class, description.get("inputs")?.as_object()?))
    });
    described.flat_map(|(node, class, inputs)| {
        inputs.iter().map(move |(name, value)| Input {
            node,
            class,
            name,
            value,
        })
    })
}

/// Where a text like `asset:<id>` is an asset: in every input that takes files or names of files,
/// and in no other.
pub(in crate::job) fn text_means(class: &str, input: &str, catalogue: &Catalogue) -> TextMeans {
    let files = media::is_media(class, input, catalogue) || media::is_directory(class, input);
    match catalogue.kind(class, input) {
        _ if files => TextMeans::Asset,
        Some(InputKind::Text) if directory::is_folder_name(input) => TextMeans::Asset,
        Some(InputKind::Choice) => TextMeans::Asset,
        Some(InputKind::Text | InputKind::Other) => TextMeans::Text,
        Some(InputKind::Upload) => TextMeans::Asset,
        None => TextMeans::Perhaps,
    }
}
