//! Events, registration and heartbeats as they arrive at a listener.

use std::sync::Arc;
use std::time::{Duration, Instant};

use comfyui_api::document::Document;
use comfyui_api::events::{Events, PromptRef, Source, SystemEvent};
use comfyui_api::transport::amqp::{Load, TaskOutcome};
use serde_json::{Value, json};

use super::client::Client;
use super::stage::{ScriptedRunner, at_work, close, config, open, unique, until};
use crate::support::rabbitmq::RabbitMq;

fn event(name: &str, id: &str, amqp: bool, data: Value) -> SystemEvent {
    let message = json!({"type": name, "data": data, "sid": "s"});
    SystemEvent {
        source: Source::Comfy,
        name: name.into(),
        data: Arc::new(message),
        prompt: Some(PromptRef {
            id: id.into(),
            published: amqp,
            context: None,
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_tasks_come_in_order_and_results_only_once() {
    let broker = RabbitMq::shared().await;
    let name = unique("events");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let runner = ScriptedRunner::new(true);
    let transport = open(
        config(
            &broker.uri(),
            &name,
            &[
                ("HEARTBEAT_ENABLED", "false"),
                ("AMQP_PROGRESS_INTERVAL_MS", "60000"),
            ],
        ),
        &runner,
    );
    let events = Events::default();
    events.connect(vec![transport.sink()]);
    client.submit(&json!({"id": "a", "do": "hold"})).await;
    until("it runs", async || runner.runs().len() == 1).await;
    events.emit(event(
        "execution_start",
        "a",
        true,
        json!({"prompt_id": "a"}),
    ));
    events.emit(SystemEvent {
        source: Source::Comfy,
        name: "status".into(),
        data: Arc::new(json!({"type": "status", "data": {"status": 1}})),
        prompt: None,
    });
    for value in 1..=20 {
        events.emit(event(
            "progress",
            "a",
            true,
            json!({"value": value, "max": 20}),
        ));
        events.emit(event(
            "progress",
            "somebody's",
            false,
            json!({"value": value}),
        ));
    }
    for skipped in [
        "execution_success",
        "execution_error",
        "execution_interrupted",
        "binary_preview",
        "logs",
        "feature_flags",
    ] {
        events.emit(event(skipped, "a", true, json!({})));
    }
    events.emit(event("executed", "a", true, json!({"node": "9"})));
    events.emit(event("progress", "a", true, json!({"value": 1, "max": 2})));
    runner.release.add_permits(1);

    let mut got = Vec::new();
    while got
        .last()
        .is_none_or(|(key, ..): &(String, Value, Option<u8>)| {
            key != "event.result.execution_success"
        })
    {
        let message = client.next_of("event.").await;
        assert_eq!(message.1["task_id"], "a");
        got.push(message);
    }
    let shape: Vec<_> = got
        .iter()
        .map(|(key, envelope, mode)| {
            (
                key.as_str(),
                envelope["data"]["value"].as_u64(),
                mode.unwrap(),
            )
        })
        .collect();
    let expected = [
        ("event.result.execution_start", None, 2),
        ("event.stream.status", None, 1),
        ("event.stream.progress", Some(1), 1),
        ("event.stream.progress", Some(20), 1),
        ("event.result.executed", None, 2),
        ("event.stream.progress", Some(1), 1),
        ("event.result.execution_success", None, 2),
    ];
    assert_eq!(shape, expected);
    close(&transport).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_publish_all_prompts_from_other_doors_are_told_too() {
    let (mut client, _runner, transport) = at_work(
        "all",
        true,
        &[("AMQP_PUBLISH_ALL", "true"), ("AMQP_PREVIEWS", "true")],
    )
    .await;
    transport.sink().emit(&Arc::new(event(
        "binary_preview",
        "http",
        false,
        json!({"image_type": "image/png"}),
    )));
    assert_eq!(
        client.next_of("event.").await.0,
        "event.stream.binary_preview"
    );
    transport
        .publish_result(
            "http",
            &TaskOutcome::Success(Document::from_value(&json!({"images": []}))),
        )
        .await;
    let (kind, envelope) = client.next_result().await;
    assert_eq!(
        (kind.as_str(), &envelope["task_id"], &envelope["data"]),
        ("execution_success", &json!("http"), &json!({"images": []}))
    );
    close(&transport).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_registers_and_its_heart_beats_in_time() {
    let broker = RabbitMq::shared().await;
    let name = unique("heart");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let runner = ScriptedRunner::new(false);
    let more = [
        ("HEARTBEAT_INTERVAL", "300"),
        ("INSTANCE_GPU_VRAM", "40G"),
        ("INSTANCE_DEDICATED_ID", "d"),
        ("API_URL", "http://api.example"),
        ("COMFY_PUBLIC_URL", "http://comfy.example"),
        ("SUPPORTED_MODELS", "sdxl,flux"),
        ("GPU_MEMORY", "48G"),
        ("AMQP_PREFETCH", "2"),
    ];
    let transport = open(config(&broker.uri(), &name, &more), &runner);
    until("connected", async || transport.connected()).await;
    runner.ready.send_replace(true);
    let (key, register, mode) = client.next().await;
    assert_eq!(
        (key.as_str(), mode, &register["event_type"]),
        (
            "service.instance.register",
            Some(2),
            &json!("instance_register")
        )
    );
    assert_eq!(register["protocol_version"], "1.0");
    let data = &register["data"];
    assert!(
        data["instance_id"]
            .as_str()
            .unwrap()
            .starts_with("comfyui-api-")
    );
    assert_eq!(
        (&data["type"], &data["monopolize_type"], &data["version"]),
        (&json!(2), &json!(1), &json!("9.9.9"))
    );
    assert_eq!(
        (&data["api_url"], &data["server_url"], &data["ws_url"]),
        (
            &json!("http://api.example"),
            &json!("http://comfy.example"),
            &json!("")
        )
    );
    assert_eq!(
        data["capabilities"],
        json!({
            "max_concurrent_tasks": 2,
            "supported_models": ["sdxl", "flux"],
            "gpu_memory": "48G"
        })
    );
    assert_eq!(register["metadata"]["region"], "eu");
    assert!(register["metadata"]["container_id"].is_string());

    let mut times = Vec::new();
    let mut last = Value::Null;
    while times.len() < 11 {
        let (key, beat, mode) = client.next().await;
        assert_eq!(
            (key.as_str(), mode),
            ("service.instance.heartbeat", Some(1))
        );
        times.push(beat["timestamp"].as_u64().unwrap());
        last = beat["data"].clone();
    }
    let mean = (times[10] - times[0]) as f64 / 10.0;
    assert!((270.0..=330.0).contains(&mean), "{times:?}");
    assert_eq!(
        (
            &last["status"],
            &last["current_task_id"],
            &last["queue_size"]
        ),
        (&json!("IDLE"), &Value::Null, &json!(0))
    );
    for figure in ["cpu_usage", "memory_usage"] {
        assert!(
            (0.0..=100.0).contains(&last["system_info"][figure].as_f64().unwrap()),
            "{last}"
        );
    }
    assert!(last["system_info"]["uptime"].is_u64());

    let states = [
        (
            Load {
                in_flight: 1,
                queue_size: 4,
                current: Some("now".into()),
                available: true,
                draining: false,
                one_is_idle: false,
            },
            "BUSY",
        ),
        (
            Load {
                available: false,
                ..Load::default()
            },
            "UNAVAILABLE",
        ),
        (
            Load {
                available: true,
                draining: true,
                ..Load::default()
            },
            "DRAINING",
        ),
    ];
    for (load, status) in states {
        *runner.load.lock().unwrap() = load.clone();
        let changed = Instant::now();
        loop {
            let (_, beat, _) = client.next_of("service.instance.heartbeat").await;
            if beat["data"]["status"] == status {
                assert_eq!(
                    (
                        &beat["data"]["queue_size"],
                        &beat["data"]["current_task_id"]
                    ),
                    (&json!(load.queue_size), &json!(load.current))
                );
                break;
            }
            assert!(
                changed.elapsed() < Duration::from_secs(30),
                "{status} was never told"
            );
        }
    }
    close(&transport).await;
}

/// The example of the documentation, as users run it.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_of_the_documentation_works() {
    let broker = RabbitMq::disruptable().await;
    let python = std::env::var("TEST_PYTHON")
        .unwrap_or_else(|_| "/opt/comfyui-api-test/venv/bin/python".to_owned());
    let dir = tempfile::tempdir().unwrap();
    let prompt = dir.path().join("prompt.json");
    std::fs::write(&prompt, "{}").unwrap();
    let runner = ScriptedRunner::new(true);
    // The queue and the exchange are the default ones: this broker is this test's alone.
    let mut config = config(&broker.uri(), "unused", &[]);
    "q.gpu.20g".clone_into(&mut config.queue);
    "runnode.comfyui.topic".clone_into(&mut config.exchange);
    let transport = open(config, &runner);
    until("connected", async || transport.connected()).await;
    let mut client = tokio::process::Command::new(python);
    client
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/docker/amqp/client.py"
        ))
        .arg(&prompt)
        .arg(broker.uri())
        .kill_on_drop(true);
    let output = tokio::time::timeout(super::stage::PATIENCE, client.output())
        .await
        .expect("the client did not end")
        .expect("python with pika is missing (TEST_PYTHON)");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success() && text.contains("execution_success {'id'"),
        "{text}"
    );
    close(&transport).await;
}
