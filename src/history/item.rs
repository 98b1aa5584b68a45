//! A run as clients see it.

use serde_json::{Map, Value, json};

use super::query::Place;
use crate::job::registry::{JobSnapshot, Status};
use crate::job::witness::DeliveredFile;
use crate::telemetry::logging::epoch_ms;

/// The longer side of the pictures in lists, pixels.
const THUMBNAIL: u32 = 256;

/// A run, and what is known of it.
#[derive(Debug, Clone)]
pub struct RunView {
    /// The entry of `/queue`.
    pub snapshot: JobSnapshot,
    /// The workflow endpoint that its graph comes from: what follows `/workflow/`.
    pub workflow: Option<String>,
    /// What it has delivered, or made so far.
    pub outputs: Vec<DeliveredFile>,
    /// Everything else; of one run only.
    pub details: Option<Details>,
}

/// What one run is shown with beside what lists show. Parts that are not known, or were too large
/// to be remembered, are null.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// The request without secrets and media.
    pub request: Value,
    /// The graph as ComfyUI had it.
    pub prompt: Value,
    /// As in the answer.
    pub stats: Value,
    /// As in the answer.
    pub texts: Value,
    /// As in the answer.
    pub warnings: Value,
    /// Why it failed: the body of the error's answer.
    pub error: Value,
}

impl RunView {
    /// Its place in the list.
    pub(super) fn place(&self) -> Place {
        Place {
            at: i64::try_from(self.snapshot.created_at).unwrap_or(i64::MAX),
            id: self.snapshot.id.to_string(),
        }
    }

    pub(super) fn has_videos(&self) -> bool {
        let mut types = self.outputs.iter().map(|file| file.content_type.as_str());
        types.any(|kind| kind.starts_with("video/"))
    }
}

/// Whether it changes no more.
pub(super) const fn has_ended(status: Status) -> bool {
    matches!(
        status,
        Status::Succeeded | Status::Failed | Status::Interrupted
    )
}

/// As JSON. `videos`: they have thumbnails.
pub(super) fn shown(
    run: &RunView,
    address: &dyn Fn(&str) -> String,
    videos: bool,
    delivery: Option<Value>,
) -> Value {
    let mut item = match serde_json::to_value(&run.snapshot) {
        Ok(Value::Object(item)) => item,
        _ => Map::new(),
    };
    let until = run.snapshot.finished_at.unwrap_or_else(epoch_ms);
    let mut add = |name: &str, value: Value| item.insert(name.to_owned(), value);
    if let Some(workflow) = &run.workflow {
        add("workflow", format!("/workflow/{workflow}").into());
    }
    add(
        "duration",
        until.saturating_sub(run.snapshot.created_at).into(),
    );
    let outputs = run.outputs.iter().enumerate();
    let outputs = outputs.map(|(index, file)| output(index, file, address, videos));
    add("outputs", outputs.collect::<Vec<_>>().into());
    if let Some(delivery) = delivery {
        add("delivery", delivery);
    }
    if let Some(details) = &run.details {
        for (name, value) in [
            ("request", &details.request),
            ("prompt", &details.prompt),
            ("stats", &details.stats),
            ("texts", &details.texts),
            ("warnings", &details.warnings),
            ("error", &details.error),
        ] {
            let empty = match name {
                "texts" => json!({}),
                "warnings" => json!([]),
                _ => Value::Null,
            };
            add(
                name,
                if value.is_null() {
                    empty
                } else {
                    value.clone()
                },
            );
        }
    }
    item.into()
}

fn output(
    index: usize,
    file: &DeliveredFile,
    address: &dyn Fn(&str) -> String,
    videos: bool,
) -> Value {
    let mut shown = json!({
        "index": index,
        "node_id": file.node_id,
        "filename": file.filename,
        "content_type": file.content_type,
        "size": file.size,
    });
    if let Some(asset) = &file.asset_id {
        let url = address(asset);
        if has_thumbnail(&file.content_type, videos) {
            shown["thumbnail"] = format!("{url}&thumbnail={THUMBNAIL}").into();
        }
        shown["asset_id"] = asset.as_str().into();
        shown["url"] = url.into();
    }
    shown
}

fn has_thumbnail(content_type: &str, videos: bool) -> bool {
    matches!(
        content_type,
        "image/png" | "image/jpeg" | "image/webp" | "image/gif" | "image/bmp" | "image/tiff"
    ) || videos && content_type.starts_with("video/")
}
