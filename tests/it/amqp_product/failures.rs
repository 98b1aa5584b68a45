//! Tasks that fail by their own fault, and tasks that somebody stops.

use serde_json::json;

use super::*;
use crate::amqp::stage::{unique, until};
use crate::support::rabbitmq::RabbitMq;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_did_wrong_stands_in_its_error_and_it_leaves_the_queue() {
    let broker = RabbitMq::shared().await;
    let name = unique("wrong");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let product = member(&broker.uri(), &name).start().await;

    // ComfyUI refuses the graph.
    let mut graph = picture();
    graph["1"]["inputs"]["width"] = json!("wide");
    client
        .submit(&json!({"id": "graph", "prompt": graph}))
        .await;
    let (kind, data) = end_of(&mut client, "graph").await;
    assert_eq!(
        (kind.as_str(), &data["id"], &data["type"]),
        ("execution_error", &json!("graph"), &json!("invalid_prompt"))
    );
    assert!(
        data["message"]
            .as_str()
            .unwrap()
            .starts_with("Failed to queue prompt: "),
        "{data}"
    );
    assert!(
        data["node_errors"]["1"]["errors"].is_array() && data["stack"].is_string(),
        "{data}"
    );

    // An input that is not there.
    let mut graph = picture();
    graph["1"] = json!({"class_type": "LoadImage", "inputs": {"image": "nowhere.png"}});
    client
        .submit(&json!({"id": "input", "prompt": graph}))
        .await;
    let (kind, data) = end_of(&mut client, "input").await;
    assert_eq!(
        (kind.as_str(), &data["type"], &data["location"]),
        (
            "execution_error",
            &json!("invalid_request"),
            &json!("prompt.1.inputs.image")
        ),
        "{data}"
    );

    // A node raises.
    let mut graph = slow_picture(0.0);
    graph["5"] = json!({
        "class_type": "SimFail",
        "inputs": {"message": "boom", "exception": "ValueError", "value": ["1", 0]}
    });
    client.submit(&json!({"id": "node", "prompt": graph})).await;
    let events = events_of(&mut client, "node").await;
    assert_eq!(
        kinds(&events).get("event.result.execution_error"),
        Some(&1),
        "once, not a second time from the websocket"
    );
    let data = events.last().unwrap().data();
    assert_eq!(
        (
            &data["type"],
            &data["details"]["node_id"],
            data["details"]["exception_message"]
                .as_str()
                .unwrap()
                .trim()
        ),
        (&json!("execution_error"), &json!("5"), "boom"),
        "{data}"
    );
    assert!(
        data["message"].as_str().unwrap().contains("boom")
            && data["stack"].as_str().unwrap().contains("line"),
        "{data}"
    );

    // No task at all.
    client.submit_bytes(b"]nonsense[").await;
    let (kind, data) = end_of(&mut client, "unknown").await;
    assert_eq!(
        (kind.as_str(), &data["type"]),
        ("execution_error", &json!("invalid_request")),
        "{data}"
    );
    client
        .submit(&json!({"id": "etc\n", "prompt": picture()}))
        .await;
    let (_, data) = end_of(&mut client, "etc\n").await;
    assert_eq!(data["location"], "id", "{data}");

    // And the instance still works.
    client
        .submit(&json!({"id": "good", "prompt": picture()}))
        .await;
    assert_eq!(end_of(&mut client, "good").await.0, "execution_success");
    until("the queue is empty", async || client.waiting().await == 0).await;
    product.until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_stopped_by_either_request_and_shown_in_the_queue() {
    let broker = RabbitMq::shared().await;
    let name = unique("stop");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let product = member(&broker.uri(), &name).start().await;
    for (id, by_delete) in [("first", false), ("second", true)] {
        client
            .submit(&json!({"id": id, "prompt": slow_picture(60.0)}))
            .await;
        let entry = product.until_prompt(id, "running").await;
        assert_eq!(entry["source"], "amqp");
        let (_, queue) = product.get("/queue").await;
        assert_eq!(
            (&queue["running"][0]["id"], &queue["running"][0]["source"]),
            (&json!(id), &json!("amqp")),
            "{queue}"
        );
        let (status, body) = if by_delete {
            product.delete(&format!("/prompt/{id}")).await
        } else {
            product.post("/interrupt", &json!({"id": id})).await
        };
        assert_eq!((status, &body["interrupted"]), (200, &json!("success")));
        let events = events_of(&mut client, id).await;
        assert_eq!(
            kinds(&events).get("event.result.execution_interrupted"),
            Some(&1)
        );
        let data = events.last().unwrap().data();
        assert_eq!(
            (events.last().unwrap().key.as_str(), &data["type"]),
            (
                "event.result.execution_interrupted",
                &json!("execution_interrupted")
            ),
            "{data}"
        );
        product.until_prompt(id, "interrupted").await;
    }
    client
        .submit(&json!({"id": "good", "prompt": picture()}))
        .await;
    assert_eq!(end_of(&mut client, "good").await.0, "execution_success");
    assert_eq!(client.waiting().await, 0);
    product.until_clean().await;
}
