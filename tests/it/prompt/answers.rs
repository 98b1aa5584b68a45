//! Whoever waits for no result waits for no other prompt either: 202 comes as soon as all that can
//! be checked was checked.

use serde_json::{Value, json};

use crate::support::graphs::{picture, with};
use crate::support::product::Stage;
use crate::support::receiver::Receiver;

/// A picture under a name that is not ours (F04): such graphs take turns.
fn fixed() -> Value {
    let mut graph = with(
        picture("x"),
        json!({"9": {"class_type": "SimFixedName", "inputs": {}}}),
    );
    graph["9"]["inputs"]["images"] = json!(["1", 0]);
    graph
}

/// The same, as a workflow file.
const WORKFLOW: &str = "import { z } from \"zod\";\nexport default { RequestSchema: z.object({}), \
                        summary: 'A test', generateWorkflow: () => ({ draw: { class_type: \
                        'EmptyImage', inputs: { width: 8, height: 8, batch_size: 1, color: 1 } }, \
                        save: { class_type: 'SimFixedName', inputs: { images: ['draw', 0] } } }) \
                        };\n";

#[tokio::test]
async fn a_202_comes_while_another_prompt_has_the_turn() {
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .file("workflows/fixed.js", WORKFLOW)
        .start()
        .await;
    let receiver = Receiver::start().await;
    let mut long = fixed();
    long["5"] = json!({"class_type": "SimSleep", "inputs": {"seconds": 300, "steps": 3000}});
    let long = product.prompt_later(json!({"id": "long", "prompt": long}));
    product.until_prompt("long", "running").await;
    // ComfyUI will refuse it, and is not asked before its turn.
    let mut refused = fixed();
    refused["1"]["inputs"]["width"] = json!("wide");
    let hook = |path: &str| receiver.url(path).to_string();
    let doors = [
        (
            "/prompt",
            json!({"id": "hooked", "prompt": fixed(), "webhook_v2": hook("/hooked")}),
        ),
        (
            "/prompt",
            json!({"id": "refused", "prompt": refused, "webhook_v2": hook("/refused")}),
        ),
        (
            "/prompt",
            json!({"id": "legacy", "prompt": refused, "webhook": hook("/legacy")}),
        ),
        (
            "/prompt",
            json!({"id": "kept", "prompt": fixed(), "keep": true, "async": true}),
        ),
        (
            "/prompt",
            json!({"id": "kept-refused", "prompt": refused, "keep": true, "async": true}),
        ),
        (
            "/workflow/fixed",
            json!({"id": "flow", "input": {}, "webhook_v2": hook("/flow")}),
        ),
        ("/api/v2/jobs", json!({"workflow": fixed()})),
        ("/api/v2/jobs", json!({"workflow": refused})),
    ];
    let answers =
        futures_util::future::join_all(doors.iter().map(|(door, body)| product.post(door, body)))
            .await;
    let (_, entry) = product.get("/prompt/long").await;
    assert_eq!(entry["status"], "running", "an answer has waited for it");
    for ((door, body), (status, answer)) in doors.iter().zip(&answers) {
        let v2 = *door == "/api/v2/jobs";
        assert_eq!(*status, if v2 { 201 } else { 202 }, "{body}: {answer}");
        if !v2 {
            let shown = &answer["prompt"];
            assert!(
                shown["9"].is_object() || shown["save"].is_object(),
                "{answer}"
            );
        }
    }
    // What can be told at once is told at once.
    let unknown = json!({"id": "unknown", "prompt": {
        "1": {"class_type": "NoSuchNode", "inputs": {}}
    },
        "webhook_v2": "ftp://127.0.0.1/x"});
    assert_eq!(product.prompt(&unknown).await.0, 400);
    assert!(receiver.at("/hooked").is_empty() && receiver.at("/refused").is_empty());

    assert_eq!(product.delete("/prompt/long").await.0, 200);
    assert_eq!(long.await.unwrap().0, 409);
    for path in ["/hooked", "/flow"] {
        let told = receiver.wait(path, 1).await[0].json();
        assert_eq!(told["type"], "prompt.complete", "{told}");
    }
    let told = receiver.wait("/refused", 1).await[0].json();
    assert_eq!(
        (&told["type"], &told["code"], &told["id"]),
        (
            &json!("prompt.failed"),
            &json!("invalid_prompt"),
            &json!("refused")
        ),
        "{told}"
    );
    assert!(told["node_errors"]["1"].is_object(), "{told}");
    let told = receiver.wait("/legacy", 1).await[0].json();
    assert_eq!(told["event"], "prompt.failed", "{told}");
    for (id, status) in [("kept", "succeeded"), ("kept-refused", "failed")] {
        let run = crate::console_api::ended(&product, id).await;
        assert_eq!(run["status"], status, "{run}");
    }
    for ((_, job), status) in answers[6..].iter().zip(["succeeded", "failed"]) {
        let job = crate::v2::ended(&product, job["id"].as_str().unwrap()).await;
        assert_eq!(job["status"], status, "{job}");
    }
    product.until_clean().await;
    for path in ["/hooked", "/refused", "/legacy", "/flow"] {
        assert_eq!(receiver.at(path).len(), 1, "{path}");
    }
}
