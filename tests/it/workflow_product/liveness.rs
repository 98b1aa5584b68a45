//! `config` follows the running ComfyUI, and files follow the disk.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::support::origin::{Origin, Reply};
use crate::support::product::until;

const WITH_MODEL: &str = "z.object({ color: z.number().default(1), model: \
                          config.models.checkpoints.enum, sampler: \
                          config.samplers.default('euler'), scheduler: \
                          config.schedulers.optional() })";

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_known_the_moment_it_is_there() {
    let product = stage(&[("draw.ts", &script(WITH_MODEL, PICTURE))])
        .file("models/checkpoints/first.safetensors", "weights")
        .start()
        .await;
    let call = async |model: &str| {
        product
            .post("/workflow/draw", &input(&json!({"model": model})))
            .await
    };
    let (status, body) = call("first.safetensors").await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = call("second.safetensors").await;
    assert_eq!(
        (status, &body["location"]),
        (400, &json!("input.model")),
        "{body}"
    );

    let origin = Origin::start(|_, _| Reply::ok("weights")).await;
    let download = json!({
        "url": origin.url("/second.safetensors"),
        "model_type": "checkpoints",
        "wait": true
    });
    let (status, body) = product.post("/download", &download).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = call("second.safetensors").await;
    assert_eq!(status, 200, "downloaded a moment ago: {body}");

    // Somebody else's file, the way of a mounted volume: nobody tells us, and the first call after
    // it gets it right all the same. Only a failure within a second is looked into, which a busy
    // machine may miss; then the next file has to prove it.
    for number in 0.. {
        let model = format!("third-{number}.safetensors");
        std::fs::write(
            product.path(&format!("models/checkpoints/{model}")),
            "weights",
        )
        .unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let began = Instant::now();
        let (status, body) = call(&model).await;
        if status == 200 {
            break;
        }
        assert!(
            number < 10 && began.elapsed() > Duration::from_secs(1),
            "{body}"
        );
    }

    let (status, body) = product
        .post(
            "/workflow/draw",
            &input(&json!({"model": "first.safetensors", "sampler": "dowsing"})),
        )
        .await;
    assert_eq!(
        (status, &body["location"]),
        (400, &json!("input.sampler")),
        "{body}"
    );
    let (status, body) = product
        .post(
            "/workflow/draw",
            &input(
                &json!({"model": "first.safetensors", "sampler": "heun", "scheduler": "karras"}),
            ),
        )
        .await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_do_not_wait_for_comfyuis_lists() {
    let product = stage(&[("draw.ts", &script(WITH_MODEL, PICTURE))])
        .file("models/checkpoints/first.safetensors", "weights")
        .start()
        .await;
    let call = async |color: u32| {
        product
            .post(
                "/workflow/draw",
                &input(&json!({"model": "first.safetensors", "color": color})),
            )
            .await
    };
    assert_eq!(call(1).await.0, 200);
    // Some thirty lists, eight at a time, take eight seconds now. What is known is older than a
    // second, so they are asked for.
    product.faults(json!({"http_delay_ms": 2000})).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let began = Instant::now();
    let made = call(2).await.1;
    let through_workflow = began.elapsed();
    let began = Instant::now();
    product.run("plain", &made["prompt"]).await;
    let plain = began.elapsed();
    assert!(
        through_workflow < plain + Duration::from_secs(5),
        "{through_workflow:?} through the workflow, {plain:?} without"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_are_served_when_watched() {
    let product = stage(&[("draw.ts", &script(COLOR, PICTURE))])
        .env("WORKFLOW_WATCH", "true")
        .start()
        .await;
    let (status, _) = product.post("/workflow/fresh", &json!({"input": {}})).await;
    assert_eq!(status, 404);
    std::fs::write(product.path("workflows/fresh.ts"), script(COLOR, PICTURE)).unwrap();
    std::fs::write(
        product.path("workflows/draw.ts"),
        script(&COLOR.replace("default(7)", "default(8)"), PICTURE),
    )
    .unwrap();
    until("both are served", async || {
        let (fresh, _) = product.post("/workflow/fresh", &json!({"input": {}})).await;
        let (_, changed) = product.post("/workflow/draw", &json!({"input": {}})).await;
        (fresh == 200 && changed["input"]["color"] == 8).then_some(())
    })
    .await;
    // A mistake takes its own endpoint away and nothing else; its correction brings it back.
    std::fs::write(product.path("workflows/fresh.ts"), "export default {").unwrap();
    until("the broken one is gone", async || {
        (product
            .post("/workflow/fresh", &json!({"input": {}}))
            .await
            .0
            == 404)
            .then_some(())
    })
    .await;
    assert_eq!(
        product
            .post("/workflow/draw", &json!({"input": {}}))
            .await
            .0,
        200
    );
    std::fs::write(product.path("workflows/fresh.ts"), script(COLOR, PICTURE)).unwrap();
    until("it is back", async || {
        (product
            .post("/workflow/fresh", &json!({"input": {}}))
            .await
            .0
            == 200)
            .then_some(())
    })
    .await;
    std::fs::remove_file(product.path("workflows/fresh.ts")).unwrap();
    until("it is gone for good", async || {
        (product
            .post("/workflow/fresh", &json!({"input": {}}))
            .await
            .0
            == 404)
            .then_some(())
    })
    .await;
}
