//! A run: its result, waiting for it, progress, tasks, cancelling by leaving.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{MOMENT, STATELESS, call, result, structured, texts, tool, until_status};
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

fn run(graph: &Value, more: Value) -> Value {
    let mut arguments = json!({"graph": graph});
    arguments
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"name": "run_graph", "arguments": arguments})
}

#[tokio::test]
async fn a_result_has_a_preview_and_a_link_for_each_file() {
    let product = Product::start(&[]).await;
    let result = tool(
        &product,
        "run_graph",
        json!({"graph": graphs::picture("one")}),
    )
    .await;
    let job = &result["structuredContent"];
    assert_eq!(job["status"], "succeeded");
    let output = &job["outputs"][0];
    let id = job["id"].as_str().unwrap();
    assert!(uuid::Uuid::parse_str(id).is_ok());
    assert_eq!(output["uri"], format!("comfyui://jobs/{id}/outputs/0"));
    assert_eq!(
        (
            &output["index"],
            &output["node_id"],
            &output["content_type"]
        ),
        (&json!(0), &json!("9"), &json!("image/png"))
    );
    assert_eq!(
        (&output["width"], &output["height"]),
        (&json!(32), &json!(32))
    );
    let content = result["content"].as_array().unwrap();
    let kinds: Vec<&str> = content
        .iter()
        .map(|block| block["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["text", "image", "resource_link"]);
    assert_eq!(
        serde_json::from_str::<Value>(content[0]["text"].as_str().unwrap()).unwrap(),
        *job
    );
    assert_eq!(content[1]["mimeType"], "image/jpeg");
    assert_eq!(
        (
            &content[2]["uri"],
            &content[2]["name"],
            &content[2]["mimeType"],
            &content[2]["size"]
        ),
        (
            &output["uri"],
            &output["filename"],
            &output["content_type"],
            &output["size"]
        )
    );
    let file = product
        .http
        .get(output["url"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(file.status(), 200);
    assert_eq!(
        file.bytes().await.unwrap().len() as u64,
        output["size"].as_u64().unwrap()
    );
    let jobs = structured(&product, "list_jobs", json!({})).await;
    assert_eq!(
        (&jobs["jobs"][0]["id"], &jobs["jobs"][0]["tool"]),
        (&job["id"], &json!("run_graph"))
    );
}

#[tokio::test]
async fn graphs_come_in_every_form_and_inputs_can_be_set() {
    let product = Product::start(&[]).await;
    let graph = graphs::picture("form");
    for form in [
        json!(graph.to_string()),
        json!({"prompt": graph}),
        graph.clone(),
    ] {
        let job = structured(&product, "run_graph", json!({"graph": form})).await;
        assert_eq!(job["status"], "succeeded");
    }
    let job = structured(
        &product,
        "run_graph",
        json!({
            "graph": graph,
            "set": {"1.inputs.width": 48},
            "convert_output": {"format": "webp"}
        }),
    )
    .await;
    assert_eq!(
        (
            &job["outputs"][0]["width"],
            &job["outputs"][0]["content_type"]
        ),
        (&json!(48), &json!("image/webp"))
    );
    for path in ["5.inputs.width", "1.inputs.nope", "1.width", "width"] {
        let wrong = tool(
            &product,
            "run_graph",
            json!({"graph": graph, "set": {path: 1}}),
        )
        .await;
        assert_eq!(wrong["isError"], true);
        assert!(texts(&wrong).contains(path), "{wrong}");
    }
}

#[tokio::test]
async fn what_goes_wrong_is_a_result() {
    let product = Product::start(&[]).await;
    let unknown = json!({"1": {"class_type": "Nope", "inputs": {}}});
    let rejected = tool(&product, "run_graph", json!({"graph": unknown})).await;
    assert_eq!(rejected["isError"], true);
    let job = &rejected["structuredContent"];
    assert_eq!(
        (&job["status"], &job["error"]["code"]),
        (&json!("failed"), &json!("invalid_prompt"))
    );
    assert!(texts(&rejected).contains("Nope"));
    let raises = graphs::with(
        graphs::picture("raises"),
        json!({"5": {"class_type": "SimFail", "inputs": {"message": "the fuse has blown"}}}),
    );
    let raised = tool(&product, "run_graph", json!({"graph": raises})).await;
    assert_eq!(raised["isError"], true, "{raised}");
    assert_eq!(
        raised["structuredContent"]["error"]["code"], "execution_error",
        "{raised}"
    );
    assert!(texts(&raised).contains("the fuse has blown"));
    assert!(!texts(&raised).contains("Traceback"));
    let again = tool(
        &product,
        "get_job",
        json!({"id": raised["structuredContent"]["id"]}),
    )
    .await;
    assert_eq!(
        again["structuredContent"]["error"],
        raised["structuredContent"]["error"]
    );
}

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
async fn jobs_of_other_doors_are_known() {
    let product = Product::start(&[]).await;
    product.run("order-1", &graphs::picture("http")).await;
    let job = structured(&product, "get_job", json!({"id": "order-1"})).await;
    assert_eq!(
        (&job["status"], &job["outputs"]),
        (&json!("succeeded"), &json!([]))
    );
    let (_, made) = product
        .post("/api/v2/jobs", &json!({"workflow": graphs::picture("v2")}))
        .await;
    let job = structured(&product, "get_job", json!({"id": made["id"], "wait_s": 20})).await;
    assert_eq!(job["outputs"].as_array().unwrap().len(), 1);
    let later = product.prompt_later(json!({"id": "order-2", "prompt": graphs::slow(20.0, 100)}));
    product.until_prompt("order-2", "running").await;
    let cancelled = structured(&product, "cancel_job", json!({"id": "order-2"})).await;
    assert_eq!(cancelled["interrupted"], "success");
    assert_eq!(later.await.unwrap().0, 409);
    let ended = tool(&product, "get_job", json!({"id": "order-2"})).await;
    assert_eq!(
        (&ended["isError"], &ended["structuredContent"]["status"]),
        (&json!(true), &json!("interrupted"))
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
