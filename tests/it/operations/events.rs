//! `GET /events`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::graphs::{sampling, slow};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage};
use crate::support::sse::{Event, Sse};

async fn open(product: &Product, query: &str) -> Sse {
    let request = product.http.get(format!("{}/events{query}", product.url));
    Sse::new(request.send().await.unwrap())
}

/// The first event of each topic, in their order.
async fn snapshots(stream: &mut Sse, topics: &[&str]) -> Vec<Event> {
    let mut events = Vec::new();
    for topic in topics {
        let event = stream.next().await.unwrap();
        assert_eq!(event.name, *topic);
        events.push(event);
    }
    events
}

/// Reads until an event of a topic fits.
async fn until(stream: &mut Sse, topic: &str, fits: impl Fn(&Value) -> bool) -> Value {
    loop {
        let event = stream.next().await.unwrap();
        if event.name == topic && fits(&event.data) {
            return event.data;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_with_how_everything_is() {
    let product = Product::start(&[]).await;
    let mut stream = open(&product, "").await;
    assert_eq!(stream.response.headers()["x-accel-buffering"], "no");
    let topics = [
        "queue",
        "runs",
        "downloads",
        "cache",
        "deliveries",
        "status",
    ];
    let first = snapshots(&mut stream, &topics).await;
    let ids: Vec<u64> = first.iter().map(|event| event.id).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    assert_eq!(
        first[0].data,
        json!({"running": [], "pending": [], "finished": []})
    );
    assert_eq!(first[2].data, json!([]));
    assert_eq!(first[3].data, json!({"size": 0, "limit": 0, "count": 0}));
    assert_eq!(first[5].data["comfyui"]["state"], "ready");
    assert!(first[5].data["disks"].is_array());

    let mut some = open(&product, "?topics=status,log,cache").await;
    let first = snapshots(&mut some, &["cache", "status", "log"]).await;
    let lines = first[2].data.as_array().unwrap();
    assert!(
        lines.iter().any(|line| line["text"] == "ready"),
        "{lines:?}"
    );

    for odd in ["nonsense", "queue,,log", "queue,x", ""] {
        let (status, body) = product.get(&format!("/events?topics={odd}")).await;
        assert_eq!(
            (status, &body["code"], &body["location"]),
            (400, &json!("invalid_request"), &json!("topics")),
            "{body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_is_told() {
    let origin = Origin::start(|_, _| Reply::ok("weights")).await;
    // Long enough on its way up that a reader sees it so, however busy this machine is.
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .flags("--slow-start 2")
        .start()
        .await;
    let mut stream = open(
        &product,
        "?topics=queue,runs,downloads,cache,deliveries,status,log",
    )
    .await;
    let topics = [
        "queue",
        "runs",
        "downloads",
        "cache",
        "deliveries",
        "status",
        "log",
    ];
    snapshots(&mut stream, &topics).await;
    let running = product.prompt_later(json!({"id": "seen", "prompt": slow(1.0, 10)}));
    let queue = until(&mut stream, "queue", |queue| {
        queue["running"][0]["progress"]["value"].as_f64() > Some(0.0)
    })
    .await;
    assert_eq!(queue["running"][0]["id"], "seen");
    until(&mut stream, "queue", |queue| {
        queue["finished"][0]["id"] == "seen"
    })
    .await;
    let (status, answer) = running.await.unwrap();
    assert_eq!(status, 200, "{answer}");
    until(&mut stream, "log", |lines| {
        lines
            .as_array()
            .unwrap()
            .iter()
            .any(|line| line["prompt_id"] == "seen")
    })
    .await;
    let wanted = json!({"url": origin.url("/a.safetensors"), "model_type": "loras"});
    let (_, started) = product.post("/download", &wanted).await;
    let mut seen = (false, false);
    while seen != (true, true) {
        let event = stream.next().await.unwrap();
        match event.name.as_str() {
            "downloads" => {
                let list = event.data.as_array().unwrap();
                assert_eq!(list.len(), 1, "only what has changed: {list:?}");
                assert_eq!(list[0]["id"], started["id"]);
                seen.0 |= list[0]["status"] == "completed";
            }
            "cache" => seen.1 |= event.data == json!({"size": 7, "limit": 0, "count": 1}),
            _ => {}
        }
    }
    let hook = format!("http://127.0.0.1:{}/hook", origin.port);
    let body =
        json!({"id": "told", "prompt": crate::support::graphs::picture("x"), "webhook_v2": hook});
    assert_eq!(product.prompt(&body).await.0, 202);
    until(&mut stream, "deliveries", |list| {
        list[0]["prompt_id"] == "told" && list[0]["status"] == "delivered"
    })
    .await;
    let restart = product.http.post(format!("{}/restart", product.url));
    assert_eq!(restart.send().await.unwrap().status(), 202);
    for state in ["restarting", "ready"] {
        until(&mut stream, "status", |status| {
            status["comfyui"]["state"] == state
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_changes_five_times_a_second_at_most() {
    let product = Stage::new()
        .file("models/checkpoints/m.safetensors", "weights")
        .flags("--step-ms 10")
        .start()
        .await;
    let mut stream = open(&product, "?topics=queue").await;
    snapshots(&mut stream, &["queue"]).await;
    let began = Instant::now();
    let running = product.prompt_later(json!({"id": "steps", "prompt": sampling(200)}));
    let mut changes = 0;
    loop {
        let event = stream.next().await.unwrap();
        changes += 1;
        if event.data["finished"][0]["id"] == "steps" {
            break;
        }
    }
    let most = began.elapsed().as_secs_f64() * 5.0 + 2.0;
    assert!(
        f64::from(changes) <= most,
        "{changes} in {:?}",
        began.elapsed()
    );
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_the_newest_state_and_the_server_ends_in_time() {
    let mut product = Product::start(&[]).await;
    let mut slow_reader = open(&product, "?topics=queue").await;
    snapshots(&mut slow_reader, &["queue"]).await;
    for n in 0..20 {
        product
            .run(&format!("p{n}"), &crate::support::graphs::picture("x"))
            .await;
    }
    slow_reader.dawdle(Duration::from_millis(300)).await;
    until(&mut slow_reader, "queue", |queue| {
        queue["finished"][0]["id"] == "p19"
    })
    .await;
    // An idle stream says nothing.
    let silence = tokio::time::timeout(Duration::from_secs(1), slow_reader.next()).await;
    assert!(silence.is_err(), "{silence:?}");
    let began = Instant::now();
    assert_eq!(product.stop().await, Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    assert!(slow_reader.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded() {
    let product = Product::start(&[]).await;
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(open(&product, "?topics=cache").await);
    }
    let (status, body) = product.get("/events").await;
    assert_eq!((status, &body["code"]), (409, &json!("conflict")), "{body}");
    drop(streams);
    crate::support::product::until("they are closed", async || {
        let request = product
            .http
            .get(format!("{}/events?topics=cache", product.url));
        (request.send().await.ok()?.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_come_whole_and_as_they_change() {
    let product = Product::start(&[]).await;
    product
        .run("before", &crate::support::graphs::picture("x"))
        .await;
    let mut stream = open(&product, "?topics=runs").await;
    let first = snapshots(&mut stream, &["runs"]).await.remove(0).data;
    assert_eq!(
        (first[0]["id"].as_str(), first[0]["status"].as_str()),
        (Some("before"), Some("succeeded")),
        "{first}"
    );
    let (_, history) = product.get("/history").await;
    assert_eq!(first, history["items"], "items as `GET /history` has them");
    let running = product.prompt_later(json!({"id": "now", "prompt": slow(1.0, 10)}));
    for status in ["running", "succeeded"] {
        let changed = until(&mut stream, "runs", |runs| runs[0]["status"] == status).await;
        let ids: Vec<&str> = changed
            .as_array()
            .unwrap()
            .iter()
            .map(|run| run["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, ["now"], "only what has changed");
    }
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_server_is_seen() {
    let mut product = Product::start(&[]).await;
    let mut stream = open(&product, "?topics=status").await;
    snapshots(&mut stream, &["status"]).await;
    let running = product.prompt_later(json!({"id": "last", "prompt": slow(2.0, 20)}));
    product.until_prompt("last", "running").await;
    product.signal(nix::sys::signal::Signal::SIGTERM);
    let last = until(&mut stream, "status", |status| {
        status["comfyui"]["state"] == "draining"
    })
    .await;
    assert_eq!(last["ready"], false);
    assert_eq!(running.await.unwrap().0, 200, "it may finish");
    assert_eq!(product.ended().await.code(), Some(0));
}
