//! The server ends, or is killed, between the answer 202 and the delivery.

use std::time::Duration;

use serde_json::json;

use super::{accepted, failure, verified};
use crate::delivered::{file, picture, slow, stage};
use crate::support::product::until;
use crate::support::receiver::{Behaviour, Received, Receiver};
use crate::webhook::SECRET;

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
