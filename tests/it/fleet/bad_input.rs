//! What is wrong is told in one sentence, and nothing is lost.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use nix::sys::signal::Signal;
use serde_json::json;

use super::*;
use crate::amqp::stage::connect;
use crate::mcp::tool;
use crate::support::rabbitmq::RabbitMq;

#[tokio::test(flavor = "multi_thread")]
async fn queue_and_priority_are_checked_at_every_door() {
    let broker = RabbitMq::shared().await;
    let mut fleet = Fleet::start(&broker.uri()).await;
    let script = "import { z } from \"zod\";\nexport default { RequestSchema: z.object({}), \
                  generateWorkflow: (input: any): any => ({ a: { class_type: 'EmptyImage', \
                  inputs: { width: 8, height: 8, batch_size: 1, color: 1 } } }) };\n";
    fleet.gateway = gateway(&fleet.uri, &fleet.name)
        .file("workflows/w.ts", script)
        .start()
        .await;
    let gateway = &fleet.gateway;
    let queues = format!("in.{}, other.{}", fleet.name, fleet.name);
    for (field, value, sentence) in [
        ("queue", json!("nowhere"), queues.as_str()),
        ("queue", json!(7), &queues),
        ("priority", json!(10), "from 0 to 9"),
        ("priority", json!(-1), "from 0 to 9"),
        ("priority", json!("high"), "from 0 to 9"),
    ] {
        let told = |status: u16, body: &Value, error: &Value| {
            assert_eq!(status, 400, "{body}");
            let text = error.as_str().unwrap();
            assert!(text.contains(sentence) && text.contains(field), "{text}");
        };
        let mut request = json!({"prompt": picture(1)});
        request[field] = value.clone();
        for hook in [None, Some("http://127.0.0.1:1/")] {
            if let Some(hook) = hook {
                request["webhook_v2"] = hook.into();
            }
            let (status, body) = gateway.prompt(&request).await;
            told(status, &body, &body["error"]);
            assert_eq!(body["location"], *field, "{body}");
        }
        let mut request = json!({"input": {}});
        request[field] = value.clone();
        let (status, body) = gateway.post("/workflow/w", &request).await;
        told(status, &body, &body["error"]);
        let options = json!({field: value});
        let (status, body) = gateway
            .post(
                "/api/v2/jobs",
                &json!({"workflow": picture(1), "prompt_options": &options}),
            )
            .await;
        told(
            if status == 422 { 400 } else { status },
            &body,
            &body["error"]["message"],
        );
        let failed = tool(
            gateway,
            "run_graph",
            json!({"graph": picture(1), field: value}),
        )
        .await;
        assert_eq!(failed["isError"], true, "{failed}");
        assert!(failed.to_string().contains(sentence), "{failed}");
    }
    // An agent can ask for all that it has started; of other doors nothing is recorded.
    let (_, jobs) = gateway.get("/api/v2/jobs").await;
    let jobs = jobs["jobs"].as_array().unwrap();
    assert!(
        jobs.iter()
            .all(|job| job["metadata"]["tool"] == "run_graph"),
        "{jobs:?}"
    );
    // A named queue is used, and so is the priority.
    let request = json!({
        "id": "elsewhere",
        "prompt": picture(1),
        "queue": format!("other.{}", fleet.name),
        "priority": 7
    });
    let waiting = gateway.prompt_later(request);
    gateway.until_prompt("elsewhere", "pending").await;
    let connection = connect(&broker.uri()).await;
    let channel = connection.create_channel().await.unwrap();
    let queue = format!("other.{}", fleet.name);
    let message = channel
        .basic_get(
            queue.as_str().into(),
            lapin::options::BasicGetOptions::default(),
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(*message.properties.priority(), Some(7));
    gateway.delete("/prompt/elsewhere").await;
    waiting.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_is_named_without_its_password() {
    let broker = RabbitMq::shared().await;
    let wrong = broker.uri().replace("guest:guest", "guest:sesame-open");
    let refused = gateway(&wrong, "refused").launch().await;
    until("it says why", async || {
        let (status, body) = refused.get("/ready").await;
        assert_eq!(status, 503, "{body}");
        let reason = body["reason"].as_str().unwrap_or_default();
        reason.contains("ACCESS").then_some(())
    })
    .await;
    let (status, body) = refused.prompt(&json!({"prompt": picture(1)})).await;
    assert_eq!(
        (status, &body["code"]),
        (503, &json!("comfyui_unavailable")),
        "{body}"
    );
    assert!(
        !refused.log.text().contains("sesame-open") && !body.to_string().contains("sesame-open")
    );
    drop(refused);

    let mut nowhere = Stage::new().arguments(&["gateway"]).spawn();
    assert_eq!(nowhere.ended().await.code(), Some(2));
    nowhere.log.line("AMQP_URL").await;
    for (name, value) in [
        ("GATEWAY_URL", "gateway:3000"),
        ("GATEWAY_URL", "http://gateway:3000/?a=b"),
        ("GATEWAY_ID", "two words"),
        ("AMQP_MAX_MESSAGE_MB", "0"),
    ] {
        let mut wrong = gateway(&broker.uri(), "wrong").env(name, value).spawn();
        assert_eq!(wrong.ended().await.code(), Some(2), "{name}={value}");
        wrong.log.line(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_header_names_a_stranger_is_not_lost() {
    let broker = RabbitMq::shared().await;
    let fleet = Fleet::start(&broker.uri()).await;
    let mut client = Client::connect(&broker.uri(), &fleet.name).await;
    let mut instance = fleet.instance("wary").start().await;
    fleet.until_seen("wary", "IDLE").await;
    let send = async |client: &Client, id: &str, address: &str| {
        let mut headers = FieldTable::default();
        let address = AMQPValue::LongString(address.as_bytes().into());
        headers.insert("gateway".into(), address);
        let properties = BasicProperties::default().with_headers(headers);
        let body = json!({"id": id, "prompt": picture(1)}).to_string();
        client.submit_with(body.as_bytes(), properties).await;
    };
    let end_of = async |client: &mut Client, id: &str| loop {
        let (kind, result) = ended_as(client).await;
        if result["task_id"] == id {
            return (kind, result);
        }
    };
    // No address at all: it is run as one without.
    send(&client, "nonsense", "gateway:3000").await;
    let (kind, result) = end_of(&mut client, "nonsense").await;
    assert_eq!(kind, "execution_success", "{result}");
    assert_eq!(result["data"]["images"].as_array().unwrap().len(), 1);
    instance.log.line("is not an http address").await;
    // A gateway that does not know it.
    let stranger = format!("{}/fleet/{}", fleet.gateway.url, "0".repeat(32));
    send(&client, "unknown", &stranger).await;
    let (kind, result) = end_of(&mut client, "unknown").await;
    assert_eq!(kind, "execution_interrupted", "{result}");
    // Nobody is there: it is run, and its outputs are kept for whoever may come back.
    send(&client, "nobody", "http://127.0.0.1:1/fleet/t").await;
    instance.log.line("does not answer its claim").await;
    instance.log.line("cannot be handed to the gateway").await;
    instance.signal(Signal::SIGTERM);
    instance.ended().await;
    until("it waits in its queue", async || {
        (client.waiting().await == 1).then_some(())
    })
    .await;
    assert!(
        !instance.log.text().contains("127.0.0.1:1/"),
        "an address is logged"
    );
}
