//! Prompt webhooks: what they say for every way a prompt can end after its 202, that they verify,
//! and that none is lost.

use std::time::{Duration, Instant};

use base64::Engine;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{failing, file, nowhere, picture, slow, stage};
use crate::support::product::{Product, Stage, until};
use crate::support::receiver::{Behaviour, Received, Receiver};
use crate::webhook::SECRET;

/// The body of a webhook whose signature is right.
fn verified(received: &Received) -> Value {
    let key = base64::engine::general_purpose::STANDARD
        .decode(SECRET.trim_start_matches("whsec_"))
        .unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(
        format!(
            "{}.{}.",
            received.header("webhook-id"),
            received.header("webhook-timestamp")
        )
        .as_bytes(),
    );
    mac.update(&received.body);
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    // One more is the Node server's reading of the prefix.
    let mut signatures = received.header("webhook-signature").split(' ');
    assert_eq!(signatures.next(), Some(&*format!("v1,{signature}")));
    let body = received.json();
    assert_eq!(received.header("webhook-id"), body["id"].as_str().unwrap());
    assert_eq!(received.header("content-type"), "application/json");
    time::OffsetDateTime::parse(
        body["timestamp"].as_str().unwrap(),
        &time::format_description::well_known::Rfc3339,
    )
    .unwrap();
    body
}

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

async fn accepted(product: &Product, receiver: &Receiver, id: &str, body: &mut Value) {
    body["id"] = id.into();
    body["webhook_v2"] = receiver.url(&format!("/{id}")).to_string().into();
    let (status, answer) = product.prompt(body).await;
    assert_eq!(
        (status, answer["status"].as_str(), answer["id"].as_str()),
        (202, Some("ok"), Some(id)),
        "{answer}"
    );
}

async fn failure(receiver: &Receiver, id: &str, code: &str) -> Value {
    let body = verified(&receiver.wait(&format!("/{id}"), 1).await[0]);
    assert_eq!(
        (
            body["type"].as_str(),
            body["id"].as_str(),
            body["code"].as_str()
        ),
        (Some("prompt.failed"), Some(id), Some(code)),
        "{body}"
    );
    assert!(
        body["prompt"].is_object()
            && body["error"]
                .as_str()
                .is_some_and(|error| !error.is_empty()),
        "{body}"
    );
    assert!(body.get("credentials").is_none() && body.get("extra_data").is_none());
    body
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
async fn the_end_of_the_server_is_told_too() {
    let receiver = Receiver::start().await;
    // No grace at all, and ComfyUI's death without a restart.
    let mut stopped = stage()
        .env("WEBHOOK_SECRET", SECRET)
        .env("SHUTDOWN_GRACE_S", "0")
        .start()
        .await;
    accepted(
        &stopped,
        &receiver,
        "stopped",
        &mut json!({"prompt": slow(60.0)}),
    )
    .await;
    stopped.until_prompt("stopped", "running").await;
    assert_eq!(stopped.stop().await, Some(0));
    failure(&receiver, "stopped", "shutting_down").await;

    let mut orphaned = stage().env("WEBHOOK_SECRET", SECRET).start().await;
    accepted(
        &orphaned,
        &receiver,
        "orphaned",
        &mut json!({"prompt": slow(60.0)}),
    )
    .await;
    orphaned.until_prompt("orphaned", "running").await;
    orphaned.faults(json!({"crash": 7})).await;
    assert_eq!(orphaned.ended().await.code(), Some(1));
    failure(&receiver, "orphaned", "comfyui_unavailable").await;
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

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_202_and_the_delivery() {
    let (receiver, spool) = (Receiver::start().await, tempfile::tempdir().unwrap());
    let ids: Vec<String> = (0..8).map(|n| format!("k{n}")).collect();
    let spooling = || {
        stage()
            .env("WEBHOOK_SECRET", SECRET)
            .env("WEBHOOK_SPOOL_DIR", spool.path().display())
    };
    let kept = || {
        std::fs::read_dir(spool.path())
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "webhook"))
            .count()
    };
    let mut product = spooling().start().await;
    for id in &ids {
        receiver.behave(&format!("/{id}"), Behaviour::Hang);
        accepted(&product, &receiver, id, &mut json!({"prompt": picture(1)})).await;
    }
    until("everything that was produced is safe", async || {
        (product.log.count("prompt succeeded") == 8 && kept() == 8).then_some(())
    })
    .await;
    product.signal(nix::sys::signal::Signal::SIGKILL);
    product.ended().await;
    for id in &ids {
        receiver.behave(
            &format!("/{id}"),
            Behaviour::Answer(reqwest::StatusCode::OK),
        );
    }
    let next = spooling().start().await;
    for id in &ids {
        let answered = |all: &[Received]| all.iter().any(|one| one.status.is_some());
        let all = receiver
            .wait_until(&format!("/{id}"), Duration::from_secs(30), answered)
            .await;
        let body = verified(all.iter().find(|one| one.status.is_some()).unwrap());
        assert!(
            body["type"] == "prompt.complete" && file(&body, 0).starts_with(b"\x89PNG"),
            "{body}"
        );
    }
    until("the spool is empty", async || (kept() == 0).then_some(())).await;
    drop(next);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_receivers_delay_nobody_else() {
    let receiver = Receiver::start().await;
    receiver.behave("/dead", Behaviour::HangUnread);
    let product = stage().start().await;
    for n in 0..60 {
        let (status, _) = product
            .prompt(&json!({
                "id": format!("d{n}"),
                "prompt": picture(1),
                "webhook_v2": receiver.url("/dead")
            }))
            .await;
        assert_eq!(status, 202);
    }
    product.until_prompt("d59", "succeeded").await;
    let other = Receiver::start().await;
    let began = Instant::now();
    for n in 0..5 {
        let (status, _) = product.prompt(
            &json!({"id": format!("w{n}"), "prompt": picture(1), "webhook_v2": other.url("/well")})
        ).await;
        assert_eq!(status, 202);
    }
    other.wait("/well", 5).await;
    product.run("sync", &picture(1)).await;
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "it took {:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_result_does_not_sit_in_memory() {
    const BYTES: u64 = 50_000_000;
    let receiver = Receiver::start().await;
    receiver.behave("/big", Behaviour::Digest);
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "1")
        .env("WEBHOOK_SECRET", SECRET)
        .start()
        .await;
    product.run("small", &picture(1)).await;
    let before = most_resident(&product);
    let graph = json!({
        "1": {"class_type": "SimBlob", "inputs": {"bytes": BYTES, "filename_prefix": "blob"}}
    });
    assert_eq!(
        product
            .prompt(&json!({"id": "big", "prompt": graph, "webhook_v2": receiver.url("/big")}))
            .await
            .0,
        202
    );
    let received = receiver.wait("/big", 1).await.remove(0);
    assert!(received.len > BYTES * 4 / 3, "{}", received.len);
    assert_ne!(received.sha256, <[u8; 32]>::from(Sha256::digest(b"")));
    let grown = most_resident(&product).saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {} MiB", grown >> 20);
    product.until_clean().await;
}

/// The most memory that the process has had at a time, in bytes.
fn most_resident(product: &Product) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", product.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

/// A52: whoever got a 202 is told, also when the server is killed before there is an end.
#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_202_and_the_end() {
    let (receiver, spool) = (Receiver::start().await, tempfile::tempdir().unwrap());
    let spooling = || {
        stage()
            .env("WEBHOOK_SECRET", SECRET)
            .env("WEBHOOK_SPOOL_DIR", spool.path().display())
    };
    let notes = || {
        std::fs::read_dir(spool.path())
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "accepted"))
            .count()
    };
    let mut product = spooling().start().await;
    accepted(
        &product,
        &receiver,
        "done",
        &mut json!({"prompt": picture(1)}),
    )
    .await;
    receiver.wait("/done", 1).await;
    until("a note goes with the delivery", async || {
        (notes() == 0).then_some(())
    })
    .await;
    let mut slow = picture(1);
    slow["5"] = json!({
        "class_type": "SimSleep",
        "inputs": {"seconds": 60.0, "steps": 10, "value": ["1", 0]}
    });
    accepted(&product, &receiver, "running", &mut json!({"prompt": slow})).await;
    accepted(
        &product,
        &receiver,
        "waiting",
        &mut json!({"prompt": picture(2)}),
    )
    .await;
    let legacy = json!({"id": "legacy", "prompt": picture(3), "webhook": receiver.url("/legacy")});
    assert_eq!(product.prompt(&legacy).await.0, 202);
    assert_eq!(notes(), 3, "noted before the 202 left");
    product.signal(nix::sys::signal::Signal::SIGKILL);
    product.ended().await;
    product.faults(json!({"crash": 3})).await;
    let next = spooling().start().await;
    for id in ["running", "waiting"] {
        let all = receiver.wait(&format!("/{id}"), 1).await;
        assert_eq!(all[0].header("webhook-id"), id);
        let body = verified(&all[0]);
        assert_eq!(
            (&body["type"], &body["id"], &body["code"]),
            (&json!("prompt.failed"), &json!(id), &json!("shutting_down"))
        );
        assert!(body["prompt"].is_object() && body["error"].as_str().unwrap().contains("killed"));
    }
    let all = receiver.wait("/legacy", 1).await;
    assert_eq!(all[0].json()["event"], "prompt.failed");
    until("nothing is left", async || (notes() == 0).then_some(())).await;
    assert_eq!(
        receiver.at("/done").len(),
        1,
        "who was told is not told again"
    );
    drop(next);
}
