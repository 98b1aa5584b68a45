//! Cancelling, wherever the prompt is.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::graphs::{loaded, picture, slow, with};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage, is_behind, until};

fn is_cancelled(answer: &(u16, Value), id: &str) {
    assert_eq!(
        (answer.0, &answer.1["code"]),
        (409, &json!("execution_interrupted")),
        "{id}: {}",
        answer.1
    );
    assert!(
        answer.1["error"].as_str().unwrap().contains(id),
        "{}",
        answer.1
    );
}

#[tokio::test]
async fn while_it_downloads() {
    let origin = Origin::start(|_, _| Reply {
        stall_after: Some(10),
        ..Reply::ok(vec![1; 100_000])
    })
    .await;
    let product = Product::start(&[("ALLOW_PRIVATE_NETWORKS", "true")]).await;
    let waiting =
        product.prompt_later(json!({"id": "stalled", "prompt": loaded(&origin.url("/big.png"))}));
    origin.wait_for(1).await;
    assert_eq!(
        product.get("/prompt/stalled").await.1["status"],
        "preprocessing"
    );
    assert_eq!(
        product.delete("/prompt/stalled").await,
        (200, json!({"id": "stalled", "interrupted": "success"}))
    );
    is_cancelled(&waiting.await.unwrap(), "stalled");
    until("the download is stopped", async || {
        (origin.open_now() == 0).then_some(())
    })
    .await;
    product.until_clean().await;

    // One that somebody else waits for too goes on.
    let one =
        product.prompt_later(json!({"id": "one", "prompt": loaded(&origin.url("/shared.png"))}));
    let two =
        product.prompt_later(json!({"id": "two", "prompt": loaded(&origin.url("/shared.png"))}));
    product.until_prompt("one", "preprocessing").await;
    product.until_prompt("two", "preprocessing").await;
    until("the origin is asked again", async || {
        (origin.open_now() >= 1).then_some(())
    })
    .await;
    assert_eq!(product.delete("/prompt/one").await.0, 200);
    is_cancelled(&one.await.unwrap(), "one");
    assert_eq!(
        product.get("/prompt/two").await.1["status"],
        "preprocessing"
    );
    assert_eq!(
        product.post("/interrupt", &json!({"id": "two"})).await.0,
        200
    );
    is_cancelled(&two.await.unwrap(), "two");
}

#[tokio::test]
async fn pending_or_running_and_only_that_one_with_both_versions() {
    for version in ["0.3.64", "current"] {
        let product = Stage::new()
            .flags(&format!("--imitate {version}"))
            .start()
            .await;
        let running = product.prompt_later(json!({"id": "running", "prompt": slow(30.0, 600)}));
        product.until_prompt("running", "running").await;
        let pending = product.prompt_later(json!({"id": "pending", "prompt": slow(30.0, 600)}));
        product.until_prompt("pending", "pending").await;
        let last = product.prompt_later(json!({"id": "last", "prompt": picture("p")}));
        product.until_prompt("last", "pending").await;

        assert_eq!(
            product.post("/interrupt", &json!({"id": "pending"})).await,
            (200, json!({"id": "pending", "interrupted": "success"}))
        );
        is_cancelled(&pending.await.unwrap(), "pending");
        assert_eq!(
            product.get("/prompt/running").await.1["status"],
            "running",
            "another one is left alone"
        );
        let queue = product.comfy("/queue").await;
        assert_eq!(
            queue["queue_pending"].as_array().unwrap().len(),
            usize::from(!is_behind()),
            "it is out of ComfyUI's queue"
        );

        let (status, answer) = product.post("/interrupt", &json!({"id": "nobody"})).await;
        assert_eq!(
            (
                status,
                &answer["id"],
                &answer["interrupted"],
                &answer["code"]
            ),
            (404, &json!("nobody"), &json!("failed"), &json!("not_found"))
        );
        assert_eq!(product.delete("/prompt/nobody").await.0, 404);

        assert_eq!(product.delete("/prompt/running").await.0, 200);
        is_cancelled(&running.await.unwrap(), "running");
        assert_eq!(last.await.unwrap().0, 200);
        assert_eq!(product.delete("/prompt/running").await.0, 404, "it is over");
        product.until_clean().await;
    }
}

#[tokio::test]
async fn while_pictures_are_converted() {
    let product = Product::start(&[]).await;
    let pictures = json!({"1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 4096, "height": 4096, "batch_size": 12, "color": 0}
    },
        "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}}});
    let conversion = json!({"format": "webp", "options": {"lossless": true, "effort": 6}});
    let waiting = product
        .prompt_later(json!({"id": "slowly", "prompt": pictures, "convert_output": conversion}));
    product.until_prompt("slowly", "postprocessing").await;
    assert_eq!(product.delete("/prompt/slowly").await.0, 200);
    is_cancelled(&waiting.await.unwrap(), "slowly");
    product.until_clean().await;
}

#[tokio::test]
async fn what_finished_anyway_is_reported_as_what_it_is() {
    let product = Product::start(&[]).await;
    // No steps: the node, the only one that is left, cannot be interrupted.
    let waiting = product.prompt_later(json!({"id": "late", "prompt": {"1": {
        "class_type": "SimSleep",
        "inputs": {"seconds": 6, "steps": 0}
    },
        "9": {"class_type": "SimBlob", "inputs": {"bytes": 10, "filename_prefix": "b"}}}}));
    until("the long node runs", async || {
        (product.get("/prompt/late").await.1["progress"]["node"] == "1").then_some(())
    })
    .await;
    let blob_first = product
        .leftovers()
        .iter()
        .any(|name| name.contains("late_b"));
    assert_eq!(product.delete("/prompt/late").await.0, 200);
    let answer = waiting.await.unwrap();
    if blob_first {
        assert_eq!(
            (answer.0, &answer.1["filenames"]),
            (200, &json!(["late_b_00001_.bin"])),
            "{}",
            answer.1
        );
    } else {
        is_cancelled(&answer, "late");
    }
    product.until_clean().await;
}

#[tokio::test]
async fn while_it_uploads_and_by_webhook() {
    let origin = Origin::start(|request, _| {
        if request.method == "PUT" {
            Reply {
                delay: Some(Duration::from_secs(60)),
                ..Reply::status(200)
            }
        } else {
            Reply::ok("")
        }
    })
    .await;
    let product = Product::start(&[("ALLOW_PRIVATE_NETWORKS", "true")]).await;
    let waiting = product.prompt_later(json!({
        "id": "up",
        "prompt": picture("p"),
        "http_upload": {"url_prefix": origin.url("/put")}
    }));
    product.until_prompt("up", "uploading").await;
    origin.wait_for(1).await;
    assert_eq!(product.delete("/prompt/up").await.0, 200);
    is_cancelled(&waiting.await.unwrap(), "up");

    let (status, _) = product
        .prompt(
            &json!({"id": "hooked", "prompt": slow(30.0, 600), "webhook_v2": origin.url("/hook")}),
        )
        .await;
    assert_eq!(status, 202);
    assert_eq!(product.delete("/prompt/hooked").await.0, 200);
    let told = until("the webhook tells", async || {
        origin
            .requests()
            .into_iter()
            .find(|request| request.method == "POST")
    })
    .await;
    let told: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(
        (&told["type"], &told["code"], &told["id"]),
        (
            &json!("prompt.failed"),
            &json!("execution_interrupted"),
            &json!("hooked")
        )
    );
    product.until_clean().await;
}

#[tokio::test]
async fn by_going_away_if_that_is_wanted() {
    for (wanted, outcome) in [("true", "interrupted"), ("false", "succeeded")] {
        let product = Product::start(&[("CANCEL_ON_DISCONNECT", wanted)]).await;
        let seconds = if wanted == "true" { 30.0 } else { 3.0 };
        for accept in ["application/json", "text/event-stream"] {
            let id = format!("gone-{}", accept.len());
            let request = product
                .http
                .post(format!("{}/prompt", product.url))
                .header("Accept", accept)
                .json(&json!({"id": id, "prompt": slow(seconds, 100)}));
            let client = tokio::spawn(async move {
                let mut response = request.send().await.unwrap();
                while response.chunk().await.unwrap().is_some() {}
            });
            product.until_prompt(&id, "running").await;
            client.abort();
            product.until_prompt(&id, outcome).await;
        }
        // A webhook's client may leave: it has its answer.
        let hook = Origin::start(|_, _| Reply::ok("")).await;
        if wanted == "true" {
            let product = Product::start(&[
                ("CANCEL_ON_DISCONNECT", "true"),
                ("ALLOW_PRIVATE_NETWORKS", "true"),
            ])
            .await;
            assert_eq!(
                product
                    .prompt(
                        &json!({"id": "h", "prompt": slow(0.3, 10), "webhook_v2": hook.url("/")})
                    )
                    .await
                    .0,
                202
            );
            product.until_prompt("h", "succeeded").await;
        }
        product.until_clean().await;
    }
}

#[tokio::test]
async fn while_comfyui_does_not_answer() {
    let product = Product::start(&[]).await;
    product.faults(json!({"hang_http": true})).await;
    let waiting =
        product.prompt_later(json!({"id": "stuck", "prompt": with(picture("p"), json!({}))}));
    product.until_prompt("stuck", "preprocessing").await;
    let before = Instant::now();
    assert_eq!(product.delete("/prompt/stuck").await.0, 200);
    is_cancelled(&waiting.await.unwrap(), "stuck");
    assert!(
        before.elapsed() < Duration::from_secs(20),
        "{:?}",
        before.elapsed()
    );
    product.faults(json!({"reset": true})).await;
    product.run("next", &picture("p")).await;
    product.until_clean().await;
}
