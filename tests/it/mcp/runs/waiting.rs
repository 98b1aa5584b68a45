//! Waiting for a run: progress, patience, signs of life.

use std::time::{Duration, Instant};

use serde_json::json;

use super::run;
use crate::mcp::{STATELESS, call, structured, texts, tool};
use crate::support::graphs;
use crate::support::product::{Product, until};

#[tokio::test]
async fn a_full_queue_and_a_server_that_is_not_ready_say_when_to_come_again() {
    let product = Product::start(&[("MAX_QUEUE_DEPTH", "1")]).await;
    let first = structured(
        &product,
        "run_graph",
        json!({"graph": graphs::slow(20.0, 100), "wait_s": 0}),
    )
    .await;
    let second = until("the queue is full", async || {
        let result = tool(
            &product,
            "run_graph",
            json!({"graph": graphs::slow(20.0, 100), "wait_s": 0}),
        )
        .await;
        (result["isError"] == true).then_some(result)
    })
    .await;
    assert_eq!(second["structuredContent"]["error"]["code"], "queue_full");
    assert!(texts(&second).contains("try again in 2 s"), "{second}");
    let done = structured(&product, "cancel_job", json!({"id": first["id"]})).await;
    assert_eq!(done, json!({"id": first["id"], "interrupted": "success"}));
    let starting = crate::support::product::Stage::new()
        .command("sleep 60")
        .launch()
        .await;
    let refused = tool(
        &starting,
        "run_graph",
        json!({"graph": graphs::picture("x")}),
    )
    .await;
    assert_eq!(refused["isError"], true);
    assert!(texts(&refused).contains("try again in"), "{refused}");
    // What needs no ComfyUI answers all the same.
    assert_eq!(
        structured(&starting, "list_jobs", json!({})).await,
        json!({"jobs": []})
    );
}

#[tokio::test]
async fn when_the_wait_is_over_the_job_goes_on() {
    let product = Product::start(&[("MCP_WAIT_S", "1")]).await;
    let began = Instant::now();
    let open = tool(
        &product,
        "run_graph",
        json!({"graph": graphs::slow(3.0, 30)}),
    )
    .await;
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&began.elapsed()));
    assert!(open["isError"].is_null());
    let job = &open["structuredContent"];
    assert_eq!(
        (&job["status"], &job["outputs"]),
        (&json!("running"), &json!([]))
    );
    assert!(job["progress"]["value"].as_f64().unwrap() > 0.0);
    let id = job["id"].as_str().unwrap();
    assert!(texts(&open).contains("get_job") && texts(&open).contains(id));
    let waiting = structured(
        &product,
        "run_graph",
        json!({"graph": graphs::picture("next"), "wait_s": 0}),
    )
    .await;
    assert_eq!(
        (&waiting["status"], &waiting["position"]),
        (&json!("pending"), &json!(1))
    );
    let done = structured(&product, "get_job", json!({"id": id, "wait_s": 20})).await;
    assert_eq!(done["status"], "succeeded");
    let pending = structured(&product, "list_jobs", json!({"status": "succeeded"})).await;
    assert!(
        pending["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .any(|job| job["id"] == id)
    );
}

#[tokio::test]
async fn progress_is_told_at_most_five_times_a_second_and_rises() {
    let product = Product::start(&[]).await;
    for revision in ["2025-06-18", STATELESS] {
        let mut params = run(&graphs::slow(2.0, 40), json!({}));
        params["_meta"]["progressToken"] = json!("tell-me");
        let began = Instant::now();
        let (_, messages) = call(revision, "tools/call", params).send(&product).await;
        let took = began.elapsed().as_secs_f64();
        let (last, notes) = messages.split_last().unwrap();
        let job = &last["result"]["structuredContent"];
        assert_eq!(job["status"], "succeeded");
        assert!(
            notes.len() >= 3 && (notes.len() as f64) <= took * 5.0 + 2.0,
            "{} in {took} s",
            notes.len()
        );
        let first = notes[0]["params"]["message"].as_str().unwrap();
        assert!(first.contains(job["id"].as_str().unwrap()), "{first}");
        let mut before = -1.0;
        for note in notes {
            assert_eq!(note["method"], "notifications/progress");
            assert_eq!(
                (&note["params"]["progressToken"], &note["params"]["total"]),
                (&json!("tell-me"), &json!(100))
            );
            let now = note["params"]["progress"].as_f64().unwrap();
            assert!(now > before && now < 100.0, "{note}");
            before = now;
        }
        assert!(notes.iter().any(|note| {
            note["params"]["message"]
                .as_str()
                .unwrap()
                .starts_with("SimSleep ")
        }));
    }
    // However short the run is, one is told; and a client that takes no stream gets none.
    let mut params = run(&graphs::picture("short"), json!({}));
    params["_meta"]["progressToken"] = json!(1);
    let quick = call(STATELESS, "tools/call", params);
    assert!(quick.send(&product).await.1.len() >= 2);
    assert_eq!(
        quick
            .with("accept", "application/json")
            .send(&product)
            .await
            .1
            .len(),
        1
    );
}

#[tokio::test]
async fn a_quiet_stream_shows_that_it_lives() {
    let product = Product::start(&[]).await;
    // One step of 16 s: nothing happens that could be told.
    let mut params = run(&graphs::slow(16.0, 1), json!({}));
    params["_meta"]["progressToken"] = json!(1);
    let request = call(STATELESS, "tools/call", params);
    let text = request
        .request(&product)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(text.lines().any(|line| line.starts_with(':')), "{text}");
    assert!(text.contains("succeeded"));
}
