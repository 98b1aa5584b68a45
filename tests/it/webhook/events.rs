//! System events: body, order, the drop rule under load, retries, shutdown.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use comfyui_api::events::{EventSink, Events, Source, SystemEvent};
use comfyui_api::telemetry::metrics;
use comfyui_api::webhook::deliveries::Deliveries;
use comfyui_api::webhook::system::SystemWebhook;
use serde_json::{Value, json};

use super::{SECRET, config, outbound, quick};
use crate::support::receiver::{Behaviour, Receiver};

fn system(receiver: &Receiver, names: &str, retries: &str) -> SystemWebhook {
    let url = receiver.url("/events").to_string();
    let config = config(&[
        ("SYSTEM_WEBHOOK_URL", &url),
        ("SYSTEM_WEBHOOK_EVENTS", names),
        ("SYSTEM_META_region", "eu"),
        ("WEBHOOK_SECRET", SECRET),
        ("PROMPT_WEBHOOK_RETRIES", retries),
        ("SALAD_MACHINE_ID", "m-1"),
    ]);
    let webhook =
        SystemWebhook::with_schedule(&config.events, &config.webhook, outbound(&config), quick())
            .unwrap();
    webhook.start();
    webhook
}

fn event(name: &str, data: Value) -> Arc<SystemEvent> {
    Arc::new(SystemEvent {
        source: Source::Comfy,
        name: name.into(),
        data: Arc::new(data),
        prompt: None,
    })
}

#[tokio::test]
async fn events_are_signed_envelopes_with_metadata() {
    let receiver = Receiver::start().await;
    let webhook = system(&receiver, "executed,file_uploaded", "3");
    let events = Events::default();
    events.connect(vec![Arc::new(webhook)]);
    assert!(events.wanted("executed") && !events.wanted("progress"));
    let message = json!({"type": "executed", "data": {"prompt_id": "p", "node": "9"}, "sid": "s"});
    events.emit(SystemEvent {
        source: Source::Comfy,
        name: "progress".into(),
        data: Arc::new(json!({})),
        prompt: None,
    });
    events.emit(SystemEvent {
        source: Source::Comfy,
        name: "executed".into(),
        data: Arc::new(message.clone()),
        prompt: None,
    });
    events.storage(
        "file_uploaded",
        json!({"local_path": "/a", "url": "s3://b/c", "size": 1, "duration": 0.5}),
    );
    let received = receiver.wait("/events", 2).await;
    let metadata = json!({"region": "eu", "salad_machine_id": "m-1"});
    assert_eq!(
        received[0].json(),
        json!({"event": "comfy.executed", "data": message, "metadata": metadata})
    );
    assert_eq!(received[1].json()["event"], "storage.file_uploaded");
    assert_ne!(
        received[0].header("webhook-id"),
        received[1].header("webhook-id")
    );
    assert!(
        received
            .iter()
            .all(|one| one.header("webhook-signature").starts_with("v1,")
                && !one.header("webhook-timestamp").is_empty())
    );
}

#[tokio::test]
async fn without_a_url_or_names_there_is_no_webhook() {
    let none = config(&[("SYSTEM_WEBHOOK_EVENTS", "all")]);
    assert!(
        SystemWebhook::new(
            &none.events,
            &none.webhook,
            outbound(&none),
            Deliveries::default()
        )
        .is_none()
    );
    let none = config(&[("SYSTEM_WEBHOOK_URL", "http://127.0.0.1:9/")]);
    assert!(
        SystemWebhook::new(
            &none.events,
            &none.webhook,
            outbound(&none),
            Deliveries::default()
        )
        .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_events_a_second_with_a_slow_receiver() {
    const SECONDS: u64 = 2;
    metrics::install();
    let receiver = Receiver::start().await;
    receiver.behave(
        "/events",
        Behaviour::Slow(Duration::from_millis(4), StatusCode::OK),
    );
    let webhook = system(&receiver, "all", "3");
    let sink = webhook.clone();
    // `progress_state` events of this test only are dropped in this process, so that the count can
    // be exact.
    let (total, kept, times) = tokio::task::spawn_blocking(move || {
        let (mut n, mut kept, mut times) = (0, 0, Vec::new());
        let begun = Instant::now();
        for tick in 0..SECONDS * 1000 {
            for _ in 0..10 {
                let name = if n % 500 == 499 {
                    "executed"
                } else {
                    "progress_state"
                };
                kept += u64::from(name == "executed");
                let event = event(name, json!({"n": n}));
                let at = Instant::now();
                sink.emit(&event);
                times.push(at.elapsed());
                n += 1;
            }
            std::thread::sleep(
                (begun + Duration::from_millis(tick + 1)).saturating_duration_since(Instant::now()),
            );
        }
        sink.emit(&event("execution_success", json!({"n": n})));
        times.sort();
        (n + 1, kept + 1, times)
    })
    .await
    .unwrap();
    let (median, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("emit: median {median:?}, 99 of 100 below {most:?}");
    // The bounds are wide because the machine that runs the tests runs other things too.
    assert!(
        median < Duration::from_millis(1) && most < Duration::from_millis(50),
        "emit blocks: {median:?} {most:?}"
    );
    webhook.drain(Duration::from_secs(60)).await;
    let received: Vec<Value> = receiver
        .at("/events")
        .iter()
        .map(|one| one.json())
        .collect();
    let numbers: Vec<u64> = received
        .iter()
        .map(|body| body["data"]["n"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted(), "order is kept");
    assert_eq!(
        received
            .iter()
            .filter(|body| body["event"] != "comfy.progress_state")
            .count() as u64,
        kept,
        "nothing but progress is dropped"
    );
    assert_eq!(received.last().unwrap()["event"], "comfy.execution_success");
    let dropped: u64 = metrics::render()
        .lines()
        .find(|line| {
            line.starts_with("comfyui_api_events_dropped_total")
                && line.contains("webhook")
                && line.contains("\"progress_state\"")
        })
        .and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap();
    assert_eq!(
        received.len() as u64 + dropped,
        total,
        "what is missing was counted"
    );
    assert!(dropped > 0, "the receiver was meant to be too slow");
}

#[tokio::test]
async fn kept_events_outlast_an_outage_and_progress_does_not() {
    let receiver = Receiver::start().await;
    receiver.behave(
        "/events",
        Behaviour::Answer(StatusCode::INTERNAL_SERVER_ERROR),
    );
    let webhook = system(&receiver, "all", "1");
    webhook.emit(&event("status", json!(0)));
    for n in 1..=5 {
        webhook.emit(&event("executed", json!(n)));
    }
    // Two attempts for the status, far more than the retries of a webhook for the first that is
    // kept.
    let received = receiver.wait("/events", 8).await;
    assert_eq!(
        received
            .iter()
            .filter(|one| one.json()["event"] == "comfy.status")
            .count(),
        2
    );
    let ids: HashSet<&str> = received[2..]
        .iter()
        .map(|one| one.header("webhook-id"))
        .collect();
    assert_eq!(
        ids.len(),
        1,
        "the same id over retries, and no other event overtakes"
    );
    receiver.behave("/events", Behaviour::Answer(StatusCode::OK));
    webhook.drain(Duration::from_secs(20)).await;
    let delivered: Vec<Value> = receiver
        .at("/events")
        .iter()
        .filter(|one| one.status == Some(StatusCode::OK))
        .map(|one| one.json()["data"].clone())
        .collect();
    assert_eq!(delivered, [1, 2, 3, 4, 5].map(Value::from));
}

#[tokio::test]
async fn an_event_the_receiver_refuses_does_not_block_the_others() {
    let receiver = Receiver::start().await;
    receiver.behave(
        "/events",
        Behaviour::Sequence(vec![StatusCode::PAYLOAD_TOO_LARGE; 2]),
    );
    let webhook = system(&receiver, "all", "1");
    webhook.emit(&event("executed", json!("too large")));
    webhook.emit(&event("executed", json!("fine")));
    webhook.drain(Duration::from_secs(20)).await;
    let received = receiver.at("/events");
    assert_eq!(received.len(), 3);
    assert_eq!(received[2].json()["data"], "fine");
}

#[tokio::test]
async fn draining_ends_in_time_when_the_receiver_hangs() {
    let receiver = Receiver::start().await;
    receiver.behave("/events", Behaviour::Hang);
    let webhook = system(&receiver, "all", "1");
    webhook.emit(&event("executed", json!(1)));
    receiver.wait("/events", 1).await;
    let begun = Instant::now();
    webhook.drain(Duration::from_millis(100)).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}
