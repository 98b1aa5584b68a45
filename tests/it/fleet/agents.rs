//! Agents at a gateway: which queue, and what comes first there.

use lapin::options::{BasicAckOptions, BasicGetOptions};
use serde_json::json;

use super::*;
use crate::amqp::stage::connect;
use crate::mcp::{result, texts, tool};
use crate::support::rabbitmq::RabbitMq;

fn workflow(more: &Value) -> String {
    let mut properties = json!({"width": {"type": "integer", "default": 32}});
    let own = more.as_object().unwrap().clone();
    properties.as_object_mut().unwrap().extend(own);
    json!({
        "summary": "A square",
        "input": {"type": "object", "properties": properties},
        "bind": {"width": "1.inputs.width"},
        "prompt": picture(1),
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_says_where_its_job_goes() {
    let broker = RabbitMq::shared().await;
    let name = unique("fleet");
    let gateway = gateway(&broker.uri(), &name)
        .file("workflows/square.json", workflow(&json!({})))
        .file(
            "workflows/own.json",
            workflow(&json!({"queue": {"type": "string", "default": "mine"}})),
        )
        .start()
        .await;
    let queues = json!([format!("in.{name}"), format!("other.{name}")]);
    let tools = result(&gateway, "tools/list", json!({})).await;
    let schema = |name: &str| {
        let mut tools = tools["tools"].as_array().unwrap().iter();
        let found = tools.find(|tool| tool["name"] == name).unwrap();
        found["inputSchema"]["properties"].clone()
    };
    for tool in ["run_graph", "square"] {
        let properties = schema(tool);
        assert_eq!(properties["queue"]["enum"], queues, "{properties}");
        assert_eq!(properties["queue"]["default"], queues[0]);
        assert_eq!(properties["priority"]["maximum"], 9);
    }
    assert_eq!(schema("own")["queue"]["default"], "mine");
    assert_eq!(schema("get_job")["queue"], Value::Null);

    let other = queues[1].as_str().unwrap();
    let connection = connect(&broker.uri()).await;
    let channel = connection.create_channel().await.unwrap();
    let graph = picture(1);
    for (call, arguments, queue, priority) in [
        (
            "run_graph",
            json!({"graph": graph, "queue": other, "priority": 7, "wait_s": 0}),
            other,
            7,
        ),
        ("run_graph", json!({"graph": graph, "wait_s": 0}), "", 0),
    ] {
        let queue = if queue.is_empty() {
            queues[0].as_str().unwrap()
        } else {
            queue
        };
        let answer = tool(&gateway, call, arguments).await;
        let job = &answer["structuredContent"];
        assert_eq!(job["status"], "pending", "{answer}");
        let message = until("the message is in its queue", async || {
            channel
                .basic_get(queue.into(), BasicGetOptions::default())
                .await
                .unwrap()
        })
        .await;
        let properties = &message.delivery.properties;
        assert_eq!(
            properties.message_id().as_ref().unwrap().as_str(),
            job["id"]
        );
        assert_eq!(properties.priority(), &Some(priority));
        message
            .delivery
            .acker
            .ack(BasicAckOptions::default())
            .await
            .unwrap();
    }
    for (wrong, place) in [
        (json!({"graph": graph, "queue": "nowhere"}), "input.queue: "),
        (json!({"graph": graph, "priority": 10}), "input.priority: "),
    ] {
        let answer = tool(&gateway, "run_graph", wrong).await;
        assert_eq!(answer["isError"], true, "{answer}");
        assert!(texts(&answer).contains(place), "{answer}");
    }
    let wrong = tool(&gateway, "square", json!({"queue": "nowhere"})).await;
    assert!(texts(&wrong).contains("input.queue: "), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_takes_the_job_of_a_workflows_tool_from_the_queue_it_names() {
    let broker = RabbitMq::shared().await;
    let name = unique("fleet");
    let gateway = gateway(&broker.uri(), &name)
        .file("workflows/square.json", workflow(&json!({})))
        .start()
        .await;
    let fleet = Fleet {
        uri: broker.uri(),
        name,
        gateway,
    };
    let other = format!("other.{}", fleet.name);
    let _instance = fleet
        .instance("other")
        .env("AMQP_QUEUE_INPUT", &other)
        .start()
        .await;
    let arguments = json!({"width": 40, "queue": other, "priority": 3});
    let answer = tool(&fleet.gateway, "square", arguments).await;
    let job = &answer["structuredContent"];
    assert_eq!(job["status"], "succeeded", "{answer}");
    assert_eq!(job["outputs"][0]["width"], 40);
}
