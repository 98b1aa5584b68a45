//! Tasks whose ComfyUI dies under them.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::amqp::stage::{unique, until};
use crate::support::rabbitmq::RabbitMq;
use crate::support::receiver::Receiver;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_survives_the_death_of_comfyui_and_only_its_success_is_told() {
    let broker = RabbitMq::shared().await;
    let name = unique("crash");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let product = member(&broker.uri(), &name).start().await;
    let peer = Receiver::start().await;
    client
        .submit(
            &json!({"id": "tough", "prompt": slow_picture(6.0), "webhook_v2": peer.url("/hook")}),
        )
        .await;
    product.until_prompt("tough", "running").await;
    product.faults(json!({"crash": 3})).await;
    let events = events_of(&mut client, "tough").await;
    let kinds = kinds(&events);
    assert_eq!(
        kinds.get("event.result.execution_success"),
        Some(&1),
        "{kinds:?}"
    );
    assert_eq!(
        kinds.get("event.result.execution_start"),
        Some(&2),
        "it began twice: {kinds:?}"
    );
    let hooks = peer.wait("/hook", 1).await;
    assert_eq!(
        hooks
            .iter()
            .map(|hook| hook.json()["type"].clone())
            .collect::<Vec<_>>(),
        ["prompt.complete"],
        "what is tried again has not failed"
    );
    until("the queue is empty", async || client.waiting().await == 0).await;
    product.until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_comfyui_every_time_is_given_up() {
    let broker = RabbitMq::shared().await;
    let name = unique("poison");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let product = member(&broker.uri(), &name)
        .env("AMQP_MAX_ATTEMPTS", "2")
        .start()
        .await;
    let peer = Receiver::start().await;
    let mut graph = slow_picture(0.0);
    graph["5"] = json!({"class_type": "SimCrash", "inputs": {"code": 7, "value": ["1", 0]}});
    client
        .submit(&json!({"id": "poison", "prompt": graph, "webhook_v2": peer.url("/hook")}))
        .await;
    let (kind, data) = end_of(&mut client, "poison").await;
    assert_eq!(
        (kind.as_str(), &data["type"]),
        ("execution_error", &json!("comfyui_unavailable")),
        "{data}"
    );
    client
        .submit(&json!({"id": "good", "prompt": picture()}))
        .await;
    assert_eq!(end_of(&mut client, "good").await.0, "execution_success");
    let hooks = peer.wait("/hook", 1).await;
    assert_eq!(
        hooks
            .iter()
            .map(|hook| hook.json()["type"].clone())
            .collect::<Vec<_>>(),
        ["prompt.failed"],
        "one word, when it is given up"
    );
    assert_eq!(product.log.count("task is given up (AMQP_MAX_ATTEMPTS)"), 1);
    until("the queue is empty", async || client.waiting().await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_with_its_comfyui_leaves_its_task_to_others() {
    let broker = RabbitMq::shared().await;
    let name = unique("fatal");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let settings = [
        ("ALWAYS_RESTART_COMFYUI", "false"),
        ("AMQP_MAX_ATTEMPTS", "2"),
    ];
    let mut mortal = member(&broker.uri(), &name).envs(&settings).start().await;
    client
        .submit(&json!({"id": "tough", "prompt": slow_picture(6.0)}))
        .await;
    mortal.until_prompt("tough", "running").await;
    mortal.faults(json!({"crash": 3})).await;
    assert_eq!(mortal.ended().await.code(), Some(1));
    let (_, gone, _) = client.next_of("service.instance.unregister").await;
    assert_eq!(gone["data"]["reason"], "failure", "{gone}");
    until("it waits for another", async || client.waiting().await == 1).await;
    let _other = member(&broker.uri(), &name).start().await;
    assert_eq!(end_of(&mut client, "tough").await.0, "execution_success");
    until("the queue is empty", async || client.waiting().await == 0).await;
}

/// A graph that kills ComfyUI when it is executed.
fn poison() -> Value {
    let mut graph = slow_picture(0.0);
    graph["5"] = json!({
        "class_type": "SimCrash",
        "inputs": {"code": 7, "value": ["1", 0], "filename_prefix": "x"}
    });
    graph
}

/// A picture that takes so long. Its prefix says that it writes under no name of others (F04): it
/// waits in ComfyUI's queue.
fn slow_picture(seconds: f64) -> Value {
    let mut graph = super::slow_picture(seconds);
    graph["5"]["inputs"]["filename_prefix"] = json!("x");
    graph
}

/// A41: with the default of ALWAYS_RESTART_COMFYUI the instance ends with its ComfyUI. The count
/// goes on in the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_poison_task_ends_two_instances_and_is_given_up() {
    let broker = RabbitMq::shared().await;
    let name = unique("lives");
    let mut client = Client::connect(&broker.uri(), &name).await;
    client
        .submit(&json!({"id": "poison", "prompt": poison()}))
        .await;
    client
        .submit(&json!({"id": "behind", "prompt": picture()}))
        .await;
    let mut ends = Vec::new();
    for life in 0..4 {
        let settings = [
            ("ALWAYS_RESTART_COMFYUI", "false"),
            ("AMQP_MAX_ATTEMPTS", "2"),
        ];
        let mut product = member(&broker.uri(), &name).envs(&settings).launch().await;
        if life < 2 {
            assert_eq!(product.ended().await.code(), Some(1));
            continue;
        }
        until("the queue is empty", async || client.waiting().await == 0).await;
        break;
    }
    while ends.len() < 2 {
        let (key, envelope) = client.next_result().await;
        if key.starts_with("execution_")
            && !matches!(key.as_str(), "execution_start" | "execution_cached")
        {
            ends.push((envelope["task_id"].as_str().unwrap().to_owned(), key));
        }
    }
    ends.sort();
    assert_eq!(
        ends,
        [
            ("behind".to_owned(), "execution_success".to_owned()),
            ("poison".to_owned(), "execution_error".to_owned())
        ]
    );
}

/// A41: kill -9. The broker says only that the task was handed out before; the note says which one
/// was executing.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_takes_the_whole_instance_with_it_is_given_up() {
    given_up_after_kills("classic").await;
}

/// The same where the broker counts, for all that were handed out alike.
#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_queue_charges_only_the_task_that_was_executing() {
    given_up_after_kills("quorum").await;
}

async fn given_up_after_kills(kind: &str) {
    let broker = RabbitMq::shared().await;
    let name = unique("killed");
    let mut client = Client::connect_to(&broker.uri(), &name, kind).await;
    let cache = tempfile::tempdir().unwrap();
    let settings = [
        ("AMQP_MAX_ATTEMPTS", "2"),
        ("AMQP_PREFETCH", "3"),
        ("CACHE_DIR", cache.path().to_str().unwrap()),
    ];
    let ids = ["deadly", "waits1", "waits2"];
    for id in ids {
        let seconds = if id == "deadly" { 30.0 } else { 0.0 };
        client
            .submit(&json!({"id": id, "prompt": slow_picture(seconds)}))
            .await;
    }
    for _ in 0..2 {
        let mut product = member(&broker.uri(), &name).envs(&settings).start().await;
        product.until_prompt("deadly", "running").await;
        until("all are here", async || client.waiting().await == 0).await;
        // One that came before it and is still being answered would share the blame.
        until("it alone is noted", async || {
            noted_as_executing(cache.path()) == ["deadly"]
        })
        .await;
        product.signal(nix::sys::signal::Signal::SIGKILL);
        product.ended().await;
        product.faults(json!({"crash": 3})).await;
        // The others may have come first, and have ended.
        until("it is back", async || client.waiting().await > 0).await;
    }
    let _product = member(&broker.uri(), &name).envs(&settings).start().await;
    let ends = ends(&mut client, 3).await;
    let kinds: Vec<&str> = ends.values().map(String::as_str).collect();
    assert_eq!(
        kinds,
        ["execution_error", "execution_success", "execution_success"],
        "{ends:?}"
    );
}

/// How each of so many tasks ends.
async fn ends(client: &mut Client, tasks: usize) -> BTreeMap<String, String> {
    let mut ends = BTreeMap::new();
    while ends.len() < tasks {
        let (key, envelope) = client.next_result().await;
        if matches!(key.as_str(), "execution_success" | "execution_error") {
            ends.insert(envelope["task_id"].as_str().unwrap().to_owned(), key);
        }
    }
    ends
}

fn only_poison_fails(ends: &BTreeMap<String, String>) {
    for (id, end) in ends {
        assert_eq!(end == "execution_error", id == "poison", "{ends:?}");
    }
}

/// The ids of the tasks that living and dead processes have noted as those that ComfyUI executes.
fn noted_as_executing(root: &std::path::Path) -> Vec<String> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|kind| kind == "executing") {
            ids.extend(std::fs::read_to_string(&path));
        }
        ids.extend(noted_as_executing(&path));
    }
    ids
}

/// A53
#[tokio::test(flavor = "multi_thread")]
async fn the_neighbours_of_a_poison_task_are_not_charged() {
    let broker = RabbitMq::shared().await;
    let name = unique("neighbours");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let product = member(&broker.uri(), &name)
        .envs(&[("AMQP_MAX_ATTEMPTS", "2"), ("AMQP_PREFETCH", "4")])
        .start()
        .await;
    client
        .submit(&json!({"id": "poison", "prompt": poison()}))
        .await;
    for index in 0..6 {
        client
            .submit(&json!({"id": format!("good{index}"), "prompt": slow_picture(0.05)}))
            .await;
    }
    let ends = ends(&mut client, 7).await;
    only_poison_fails(&ends);
    assert_eq!(product.log.count("task is given up"), 1);
    until("the queue is empty", async || client.waiting().await == 0).await;
}

/// A53: nothing is known of what ComfyUI was doing. All that were in it are suspects and run alone,
/// until the poison is found.
#[tokio::test(flavor = "multi_thread")]
async fn where_it_cannot_be_told_suspects_run_alone() {
    let broker = RabbitMq::shared().await;
    let name = unique("suspects");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let product = member(&broker.uri(), &name)
        .envs(&[("AMQP_MAX_ATTEMPTS", "2"), ("AMQP_PREFETCH", "3")])
        .faults(&json!({"deafen_websockets": true, "queue_answer": "[]"}))
        .start()
        .await;
    // None of them gets far in the first ComfyUI, so that all are in it when it dies.
    product.faults(json!({"node_ms": 60_000})).await;
    client
        .submit(&json!({"id": "poison", "prompt": poison()}))
        .await;
    product
        .log
        .line(r#""msg":"prompt queued","id":"poison""#)
        .await;
    for id in ["good0", "good1"] {
        client
            .submit(&json!({"id": id, "prompt": slow_picture(0.05)}))
            .await;
    }
    until("all of them are in it", async || {
        product.log.count(r#""msg":"prompt queued""#) == 3
    })
    .await;
    product.faults(json!({"crash": 3})).await;
    let ends = ends(&mut client, 3).await;
    only_poison_fails(&ends);
    assert!(product.log.count("runs alone next") >= 3);
    assert_eq!(product.log.count("task is given up"), 1);
    until("the queue is empty", async || client.waiting().await == 0).await;
}
