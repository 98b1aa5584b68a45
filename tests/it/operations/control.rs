//! `POST /restart`, `POST /free`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::amqp::client::Client;
use crate::amqp::stage::unique;
use crate::support::graphs::slow;
use crate::support::product::{Product, Stage, until};
use crate::support::rabbitmq::RabbitMq;

async fn restart(product: &Product) -> (u16, Value) {
    let request = product.http.post(format!("{}/restart", product.url));
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn until_restarted(product: &Product, times: u64) -> Value {
    until("it is up again", async || {
        let (_, status) = product.get("/status").await;
        let comfyui = &status["comfyui"];
        (comfyui["restarts"] == times && comfyui["state"] == "ready").then_some(status.clone())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn comfyui_is_restarted_and_its_prompts_fail_as_when_it_dies() {
    // What happens when it dies by itself does not matter here.
    let product = Product::start(&[("ALWAYS_RESTART_COMFYUI", "false")]).await;
    let (_, before) = product.get("/status").await;
    let running = product.prompt_later(json!({"id": "a", "prompt": slow(30.0, 300)}));
    product.until_prompt("a", "running").await;
    let waiting = product.prompt_later(json!({"id": "b", "prompt": slow(30.0, 300)}));
    product.until_prompt("b", "pending").await;
    let (status, body) = restart(&product).await;
    assert_eq!((status, body), (202, json!({"status": "restarting"})));
    for prompt in [running, waiting] {
        let ended = tokio::time::timeout(Duration::from_secs(5), prompt).await;
        let (status, body) = ended.expect("it is told at once").unwrap();
        assert_eq!(
            (status, &body["code"]),
            (503, &json!("comfyui_unavailable")),
            "{body}"
        );
    }
    let (status, body) = restart(&product).await;
    assert_eq!((status, &body["code"]), (409, &json!("conflict")), "{body}");
    let after = until_restarted(&product, 1).await;
    assert_ne!(before["comfyui"]["pid"], after["comfyui"]["pid"]);
    assert_eq!(product.get("/health").await.0, 200);
    product
        .run("c", &crate::support::graphs::picture("after"))
        .await;
    assert_eq!(restart(&product).await.0, 202);
    until_restarted(&product, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_starts_or_is_somebody_elses_is_not_restarted() {
    let product = Stage::new().flags("--slow-start 2").launch().await;
    let (status, body) = restart(&product).await;
    assert_eq!((status, &body["code"]), (409, &json!("conflict")), "{body}");
    let stage = Stage::new().attached();
    let _comfyui = stage.simulator().await;
    let product = stage.start().await;
    let (status, body) = restart(&product).await;
    assert_eq!((status, &body["code"]), (409, &json!("conflict")), "{body}");
    assert!(body["error"].as_str().unwrap().contains("CMD"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_the_queue_go_back_to_it_and_are_not_charged() {
    let broker = RabbitMq::shared().await;
    let name = unique("restarted");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let (queue, exchange) = (format!("in.{name}"), format!("topic.{name}"));
    let product = Stage::new()
        .env("AMQP_URL", broker.uri())
        .env("AMQP_QUEUE_INPUT", &queue)
        .env("AMQP_EXCHANGE_TOPIC", &exchange)
        .env("HEARTBEAT_ENABLED", "false")
        // One attempt would be the last.
        .env("AMQP_MAX_ATTEMPTS", "1")
        .start()
        .await;
    client
        .submit(&json!({"id": "task", "prompt": slow(3.0, 30)}))
        .await;
    product.until_prompt("task", "running").await;
    let (_, status) = product.get("/status").await;
    assert_eq!(
        (
            &status["amqp"]["connected"],
            &status["amqp"]["tasks"],
            &status["amqp"]["queue"]
        ),
        (&json!(true), &json!(1), &json!(queue))
    );
    assert_eq!(restart(&product).await.0, 202);
    loop {
        let (key, envelope, _) = client.next_of("event.result.").await;
        assert!(!key.ends_with("execution_error"), "{envelope}");
        if key.ends_with("execution_success") {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_freed_by_comfyui() {
    let product = Product::start(&[]).await;
    let graph = crate::support::graphs::picture("cached");
    product.run("a", &graph).await;
    let wanted = json!({"unload_models": true, "free_memory": true});
    let (status, body) = product.post("/free", &wanted).await;
    assert_eq!((status, &body), (200, &wanted));
    // Nothing is left of what it had in its cache.
    let executed = async |id: &str| product.run(id, &graph).await["stats"].clone();
    let _ = executed("b").await;
    let bare = product.http.post(format!("{}/free", product.url));
    let bare = bare.send().await.unwrap();
    assert_eq!(bare.status(), 200);
    assert_eq!(bare.json::<Value>().await.unwrap(), wanted);
    assert_eq!(
        product.post("/free", &json!({"free_memory": null})).await,
        (200, json!({}))
    );
    let (status, body) = product
        .post("/free", &json!({"unload_models": "yes"}))
        .await;
    assert_eq!(
        (status, &body["location"]),
        (400, &json!("unload_models")),
        "{body}"
    );
    let text = product
        .http
        .post(format!("{}/free", product.url))
        .header("content-type", "text/plain")
        .body("x");
    assert_eq!(text.send().await.unwrap().status(), 415);
}
