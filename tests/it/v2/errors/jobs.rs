//! Jobs that are refused.

use serde_json::json;

use super::check;
use crate::support::graphs::{picture, with};
use crate::support::product::Product;

#[tokio::test]
async fn bad_jobs_are_refused_with_the_right_word_and_leave_nothing() {
    let product = Product::start(&[]).await;
    let good = picture("e");
    let cases = [
        (json!({}), 422, "invalid_workflow"),
        (json!({"workflow": []}), 422, "invalid_workflow"),
        (
            json!({"workflow": {"nodes": [{"id": 1, "type": "NoSuchNode"}], "links": []}}),
            422,
            "workflow_format_ui",
        ),
        (json!({"workflow": {}}), 422, "invalid_workflow"),
        (
            json!({"workflow": {"1": {"inputs": {}}}}),
            422,
            "invalid_workflow",
        ),
        (
            json!({"workflow": {"1": {"class_type": "Nope", "inputs": {}}, "9": good["9"]}}),
            422,
            "invalid_workflow",
        ),
        (
            json!({"workflow": {"9": good["9"]}}),
            422,
            "invalid_workflow",
        ),
        (
            json!({"workflow": good, "webhook_url": "http://x"}),
            422,
            "invalid_workflow",
        ),
        (
            json!({"workflow": good, "inputs": {}}),
            422,
            "invalid_workflow",
        ),
        (
            json!({"workflow": good, "extra_data": {"other": 1}}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "extra_data": {"api_key_comfy_org": 5}}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "extra_data": []}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "priority": 1.5}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "priority": 1_000_001}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "prompt_options": []}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "prompt_options": {"id": "x"}}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "prompt_options": {"compress_outputs": "rar"}}),
            400,
            "invalid_request",
        ),
        (
            json!({"workflow": good, "metadata": []}),
            422,
            "metadata_invalid",
        ),
        (
            json!({"workflow": good, "metadata": {"a b": "c"}}),
            422,
            "metadata_invalid",
        ),
        (
            json!({
                "workflow": with(
                    good.clone(),
                    json!({
                        "2": {
                            "class_type": "LoadImage",
                            "inputs": {"image": {"__type": "core/ASSET"}}
                        }
                    })
                )
            }),
            422,
            "missing_asset",
        ),
        (
            json!({"workflow": crate::support::graphs::loaded("http://127.0.0.1:1/x.png")}),
            422,
            "download_failed",
        ),
    ];
    for (body, status, code) in cases {
        let answer = product.post("/api/v2/jobs", &body).await;
        check(&answer, status, code);
    }
    let (_, list) = product.get("/api/v2/jobs").await;
    assert_eq!(list, json!({"jobs": []}), "a refused job leaves no record");
}
