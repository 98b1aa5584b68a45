//! What streams are shown of a run.

use serde_json::json;

use crate::comfy::message::Preview;
use crate::document::base64;
use crate::job::event::JobEvent;
use crate::job::registry::Job;
use crate::job::stream::Weight;

/// Shows a picture that is being made.
pub fn show_preview(job: &Job, preview: &Preview) {
    job.tell(&JobEvent::Preview(preview.clone()));
    job.streams.message(Weight::Newest(2), || {
        let data = json!({
            "prompt_id": &*job.id,
            "node_id": preview.node_id,
            "image_type": preview.image_type,
            "image_data": base64(&preview.image)
        });
        json!({"type": "binary_preview", "data": data}).to_string()
    });
}

/// What may be left out for a slow reader: whatever the next of its kind makes obsolete.
pub fn weight(kind: &str) -> Weight {
    match kind {
        "progress" => Weight::Newest(0),
        "progress_state" => Weight::Newest(1),
        "status" => Weight::Newest(3),
        "execution_start"
        | "execution_cached"
        | "executing"
        | "executed"
        | "execution_success"
        | "execution_error"
        | "execution_interrupted" => Weight::Always,
        // Custom nodes may send anything, any number of times.
        _ => Weight::Newest(4),
    }
}
