//! A client that leaves, and one that comes back for its task.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::run;
use crate::mcp::{MOMENT, STATELESS, call, result, structured, until_status};
use crate::support::graphs;
use crate::support::product::{Product, until};

fn with_tasks(params: Value) -> Value {
    let mut params = params;
    params["_meta"] = json!({
        "io.modelcontextprotocol/clientCapabilities": {
            "extensions": {"io.modelcontextprotocol/tasks": {}}
        }
    });
    params
}

/// Sends a request over a connection of its own, and closes it.
async fn leave(product: &Product, revision: &str, params: Value, after: Duration) {
    let request = call(revision, "tools/call", params);
    let host = product.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let body = request.body.to_string();
    let mut head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream
        .write_all(format!("{head}\r\n{body}").as_bytes())
        .await
        .unwrap();
    tokio::time::sleep(after).await;
}

async fn newest(product: &Product) -> Value {
    until("a job", async || {
        let jobs = structured(product, "list_jobs", json!({"limit": 1})).await;
        jobs["jobs"].get(0).cloned()
    })
    .await
}

#[tokio::test]
async fn leaving_cancels_in_every_revision() {
    let product = Product::start(&[]).await;
    for revision in ["2025-03-26", "2025-11-25", STATELESS] {
        for token in [false, true] {
            let mut params = run(&graphs::slow(30.0, 600), json!({}));
            if token {
                params["_meta"]["progressToken"] = json!(1);
            }
            leave(&product, revision, params, Duration::from_secs(1)).await;
            let job = newest(&product).await;
            until_status(&product, job["id"].as_str().unwrap(), "interrupted").await;
        }
    }
    // One that waits, too; and a notification cancels nothing.
    let long = structured(
        &product,
        "run_graph",
        json!({"graph": graphs::slow(30.0, 600), "wait_s": 0.5}),
    )
    .await;
    leave(
        &product,
        STATELESS,
        run(&graphs::slow(1.0, 1), json!({})),
        MOMENT,
    )
    .await;
    let waiting = newest(&product).await;
    assert_ne!(waiting["id"], long["id"]);
    until_status(&product, waiting["id"].as_str().unwrap(), "interrupted").await;
    let mut note = call(
        "2025-11-25",
        "notifications/cancelled",
        json!({"requestId": 7}),
    );
    note.body.as_object_mut().unwrap().remove("id");
    assert_eq!(note.send(&product).await.0, 202);
    tokio::time::sleep(MOMENT).await;
    let still = structured(&product, "get_job", json!({"id": long["id"]})).await;
    assert_eq!(still["status"], "running");
}

#[tokio::test]
async fn a_client_that_knows_tasks_gets_one() {
    let product = Product::start(&[]).await;
    let short = result(
        &product,
        "tools/call",
        with_tasks(run(&graphs::picture("short"), json!({}))),
    )
    .await;
    assert_eq!(short["resultType"], "complete");
    let began = Instant::now();
    let task = result(
        &product,
        "tools/call",
        with_tasks(run(&graphs::slow(4.0, 40), json!({}))),
    )
    .await;
    assert!((Duration::from_millis(1900)..Duration::from_millis(3500)).contains(&began.elapsed()));
    assert_eq!(
        (
            &task["resultType"],
            &task["status"],
            &task["pollIntervalMs"]
        ),
        (&json!("task"), &json!("working"), &json!(1000))
    );
    assert_eq!(task["ttlMs"], 24 * 3600 * 1000);
    let id = task["taskId"].as_str().unwrap();
    let get = || result(&product, "tasks/get", json!({"taskId": id}));
    assert!(
        get().await["statusMessage"]
            .as_str()
            .unwrap()
            .starts_with("SimSleep")
    );
    let ack = result(
        &product,
        "tasks/update",
        json!({"taskId": id, "inputResponses": {}}),
    )
    .await;
    assert_eq!(ack["resultType"], "complete");
    let done = until("the task is completed", async || {
        let task = get().await;
        (task["status"] == "completed").then_some(task)
    })
    .await;
    assert_eq!(done["result"]["structuredContent"]["id"], id);
    assert_eq!(done["result"]["content"][1]["type"], "image");

    let task = result(
        &product,
        "tools/call",
        with_tasks(run(&graphs::slow(30.0, 600), json!({}))),
    )
    .await;
    let id = task["taskId"].clone();
    result(&product, "tasks/cancel", json!({"taskId": id})).await;
    until("the task is cancelled", async || {
        let task = result(&product, "tasks/get", json!({"taskId": id})).await;
        (task["status"] == "cancelled").then_some(())
    })
    .await;
    let other = call(
        "2025-11-25",
        "tools/call",
        with_tasks(run(&graphs::slow(2.5, 10), json!({}))),
    );
    assert!(other.send(&product).await.1[0]["result"]["taskId"].is_null());
}
