//! Every kind of webhook, old and new.

use serde_json::{Value, json};

use super::{accepted, failure, verified};
use crate::delivered::{failing, file, nowhere, picture, slow, stage};
use crate::support::product::Product;
use crate::support::receiver::Receiver;
use crate::webhook::SECRET;

/// Sends a prompt that is accepted and fails later; returns the webhook's body.
async fn fails(
    product: &Product,
    receiver: &Receiver,
    id: &str,
    mut body: Value,
    code: &str,
) -> Value {
    accepted(product, receiver, id, &mut body).await;
    failure(receiver, id, code).await
}

#[tokio::test(flavor = "multi_thread")]
async fn complete_and_failed() {
    let receiver = Receiver::start().await;
    let product = stage()
        .env("WEBHOOK_SECRET", SECRET)
        .env("ALWAYS_RESTART_COMFYUI", "true")
        .start()
        .await;
    accepted(
        &product,
        &receiver,
        "well",
        &mut json!({
            "prompt": picture(2),
            "compress_outputs": false,
            "extra_data": {"api_key_comfy_org": "k"}
        }),
    )
    .await;
    let body = verified(&receiver.wait("/well", 1).await[0]);
    assert_eq!(
        (body["type"].as_str(), body["filenames"].clone()),
        (
            Some("prompt.complete"),
            json!(["well_pic_00001_.png", "well_pic_00002_.png"])
        )
    );
    assert!(
        file(&body, 1).starts_with(b"\x89PNG")
            && body["stats"]["total_time"].is_u64()
            && body["outputs"][1]["node_id"] == "2",
        "{body}"
    );
    assert!(body["webhook_v2"].is_string() && body.get("extra_data").is_none());

    let body = fails(
        &product,
        &receiver,
        "raised",
        json!({"prompt": failing()}),
        "execution_error",
    )
    .await;
    assert!(
        body["error"].as_str().unwrap().contains("out of paint")
            && body["details"]["node_id"] == "1"
            && body["details"]["traceback"].is_array(),
        "{body}"
    );

    let upload =
        json!({"prompt": picture(1), "http_upload": {"url_prefix": nowhere(), "async": true}});
    let body = fails(&product, &receiver, "upload", upload, "upload_failed").await;
    assert!(
        body["error"]
            .as_str()
            .unwrap()
            .contains("http://127.0.0.1:"),
        "{body}"
    );

    accepted(
        &product,
        &receiver,
        "cancelled",
        &mut json!({"prompt": slow(60.0)}),
    )
    .await;
    product.until_prompt("cancelled", "running").await;
    assert_eq!(product.delete("/prompt/cancelled").await.0, 200);
    failure(&receiver, "cancelled", "execution_interrupted").await;

    accepted(
        &product,
        &receiver,
        "crashed",
        &mut json!({"prompt": slow(60.0)}),
    )
    .await;
    product.until_prompt("crashed", "running").await;
    product.faults(json!({"crash": 3})).await;
    failure(&receiver, "crashed", "comfyui_unavailable").await;
    product.until_ready().await;

    // A graph that ComfyUI refuses, and a receiver that is never told: the client knows from its
    // answer.
    let (status, body) = product
        .prompt(&json!({
            "prompt": {"1": {"class_type": "Nothing", "inputs": {"filename_prefix": "x"}}},
            "webhook_v2": receiver.url("/bad")
        }))
        .await;
    assert_eq!(
        (status, body["code"].as_str()),
        (400, Some("invalid_prompt")),
        "{body}"
    );
    for id in ["well", "raised", "upload", "cancelled", "crashed"] {
        assert_eq!(receiver.at(&format!("/{id}")).len(), 1, "{id}");
    }
    assert!(receiver.at("/bad").is_empty());
    product.until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy() {
    let receiver = Receiver::start().await;
    let product = stage().env("WEBHOOK_SECRET", SECRET).start().await;
    for id in ["one", "two"] {
        let (status, _) = product.prompt(
            &json!({"id": id, "prompt": picture(2), "webhook": receiver.url(&format!("/{id}"))})
        ).await;
        assert_eq!(status, 202);
        let mut names = Vec::new();
        for received in receiver.wait(&format!("/{id}"), 2).await {
            let body = received.json();
            assert_eq!(
                (body["event"].as_str(), body["id"].as_str()),
                (Some("output.complete"), Some(id)),
                "{body}"
            );
            assert!(
                body["prompt"].is_object()
                    && body["stats"].is_object()
                    && body["image"].as_str().unwrap().starts_with("iVBOR"),
                "{body}"
            );
            assert_eq!(received.header("webhook-signature"), "");
            names.push(body["filename"].as_str().unwrap().to_owned());
        }
        names.sort();
        assert_eq!(
            names,
            [
                format!("{id}_pic_00001_.png"),
                format!("{id}_pic_00002_.png")
            ]
        );
    }
    let (status, _) = product
        .prompt(&json!({"id": "bad", "prompt": failing(), "webhook": receiver.url("/bad")}))
        .await;
    assert_eq!(status, 202);
    let body = receiver.wait("/bad", 1).await[0].json();
    assert_eq!(
        (body["event"].as_str(), body["id"].as_str()),
        (Some("prompt.failed"), Some("bad")),
        "{body}"
    );
    assert!(
        body["error"].as_str().unwrap().contains("out of paint") && body["prompt"].is_object(),
        "{body}"
    );
    // If both are given, both are sent (D05).
    let both = json!({
        "id": "both",
        "prompt": picture(1),
        "webhook": receiver.url("/old"),
        "webhook_v2": receiver.url("/both")
    });
    assert_eq!(product.prompt(&both).await.0, 202);
    verified(&receiver.wait("/both", 1).await[0]);
    let old = receiver.wait("/old", 1).await[0].json();
    assert_eq!(old["event"], "output.complete", "{old}");
    assert_eq!(product.log.count("deprecat"), 1, "{}", product.log.text());
}
