//! Every door through a gateway.

use base64::Engine as _;
use serde_json::{Value, json};

use super::*;
use crate::support::rabbitmq::RabbitMq;
use crate::support::receiver::Receiver;
use crate::support::sse::Sse;

#[tokio::test(flavor = "multi_thread")]
async fn every_door_works_and_the_files_come_by_http() {
    let broker = RabbitMq::shared().await;
    let fleet = Fleet::start(&broker.uri()).await;
    let gateway = &fleet.gateway;
    let instance = fleet.instance("one").start().await;
    fleet.until_seen("one", "IDLE").await;

    // Sync.
    let body = gateway.run("first", &picture(1)).await;
    let image = base64::engine::general_purpose::STANDARD
        .decode(body["images"][0].as_str().unwrap())
        .unwrap();
    assert!(image.starts_with(b"\x89PNG"), "{body}");
    assert_eq!(body["filenames"], json!(["first_picture_00001_.png"]));
    assert_eq!(body["outputs"][0]["size"], image.len());
    assert!(body.get("files").is_none(), "{body}");
    assert!(!body.to_string().contains("/fleet/"), "{body}");

    // Refused by ComfyUI, by the gateway.
    let (status, body) = gateway.prompt(&json!({"prompt": nonsense()})).await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("invalid_prompt")),
        "{body}"
    );
    let path = load(&json!("/etc/hostname"));
    let (status, body) = gateway.prompt(&json!({"prompt": path})).await;
    assert_eq!(status, 400, "{body}");
    assert!(
        body["error"]
            .as_str()
            .unwrap()
            .contains("not on this machine"),
        "{body}"
    );
    for (field, value) in [("queue", json!("nowhere")), ("priority", json!(10))] {
        let mut request = json!({"prompt": picture(1)});
        request[field] = value;
        let (status, body) = gateway.prompt(&request).await;
        assert_eq!((status, &body["location"]), (400, &json!(field)), "{body}");
    }

    // What belongs to an instance.
    for path in [
        "/models",
        "/models/loras",
        "/cache",
        "/downloads",
        "/logs?source=comfyui",
    ] {
        let (status, body) = gateway.get(path).await;
        assert_eq!(
            (status, &body["code"]),
            (501, &json!("not_supported")),
            "{path}: {body}"
        );
    }

    // A stream.
    let request = gateway
        .http
        .post(format!("{}/prompt", gateway.url))
        .header("accept", "text/event-stream")
        .json(&json!({"id": "streamed", "prompt": slow(2, 0.3)}));
    let mut stream = Sse::new(request.send().await.unwrap());
    let mut kinds = Vec::new();
    while let Some(event) = stream.next().await {
        kinds.push(event.kind().to_owned());
    }
    for kind in [
        "state",
        "execution_start",
        "executing",
        "progress",
        "executed",
    ] {
        assert!(kinds.iter().any(|known| known == kind), "{kind}: {kinds:?}");
    }
    assert_eq!(kinds.last().unwrap(), "complete");

    // Webhooks are the gateway's.
    let receiver = Receiver::start().await;
    let hook = receiver.url("/hook");
    for (id, graph) in [("good", picture(3)), ("bad", nonsense())] {
        let request = json!({"id": id, "prompt": graph, "webhook_v2": hook});
        let (status, body) = gateway.prompt(&request).await;
        assert_eq!((status, &body["prompt"]), (202, &graph), "{body}");
    }
    let mut told: Vec<Value> = receiver
        .wait("/hook", 2)
        .await
        .iter()
        .map(|one| one.json())
        .collect();
    told.sort_by_key(|one| one["id"].to_string());
    assert_eq!(told[0]["type"], "prompt.failed");
    assert_eq!(told[1]["type"], "prompt.complete");
    assert_eq!(told[1]["filenames"], json!(["good_picture_00001_.png"]));

    // The Comfy API v2.
    let (status, job) = gateway
        .post("/api/v2/jobs", &json!({"workflow": picture(4)}))
        .await;
    assert_eq!(status, 201, "{job}");
    let job = ended(gateway, job["id"].as_str().unwrap()).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!(job["outputs"].as_array().unwrap().len(), 1, "{job}");
    let (status, refused) = gateway
        .post("/api/v2/jobs", &json!({"workflow": nonsense()}))
        .await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (422, &json!("invalid_workflow")),
        "{refused}"
    );

    // An output is the next job's input, and so is what is embedded, small and large.
    let asset = format!("asset:{}", job["outputs"][0]["id"].as_str().unwrap());
    gateway.run("from-asset", &load(&json!(asset))).await;
    let small = base64::engine::general_purpose::STANDARD.encode(&image);
    gateway.run("embedded", &load(&json!(small))).await;
    let mut large = image.clone();
    large.resize(600_000, 0);
    let large = base64::engine::general_purpose::STANDARD.encode(&large);
    let body = gateway.run("beside", &load(&json!(large))).await;
    assert!(!body.to_string().contains("/fleet/"), "{}", body["prompt"]);

    until_clean(gateway).await;
    instance.until_clean().await;
    let metrics = gateway
        .http
        .get(format!("{}/metrics", gateway.url))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(
        metrics.contains("comfyui_api_gateway_tasks_total"),
        "{metrics}"
    );
    let log = gateway.log.text() + &instance.log.text();
    assert!(!log.contains("/fleet/"), "a token is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_cancelled_wherever_they_are() {
    let broker = RabbitMq::shared().await;
    let fleet = Fleet::start(&broker.uri()).await;
    let gateway = &fleet.gateway;
    // Nobody is there.
    let waiting = gateway.prompt_later(json!({"id": "unclaimed", "prompt": slow(1, 5.0)}));
    gateway.until_prompt("unclaimed", "pending").await;
    let (_, second) = gateway
        .post("/api/v2/jobs", &json!({"workflow": picture(2)}))
        .await;
    assert_eq!(
        (&second["status"], &second["queue_position"]),
        (&json!("queued"), &json!(2))
    );
    let (status, _) = gateway.delete("/prompt/unclaimed").await;
    assert_eq!(status, 200);
    let (status, body) = waiting.await.unwrap();
    assert_eq!(
        (status, &body["code"]),
        (409, &json!("execution_interrupted"))
    );

    // The message is still there: whoever comes does not run it.
    let instance = fleet.instance("late").start().await;
    let job = ended(gateway, second["id"].as_str().unwrap()).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let (_, queue) = instance.get("/queue").await;
    assert_eq!(queue["finished"].as_array().unwrap().len(), 1, "{queue}");

    // Somebody has it.
    let (_, job) = gateway
        .post("/api/v2/jobs", &json!({"workflow": slow(3, 20.0)}))
        .await;
    let id = job["id"].as_str().unwrap();
    until("it runs", async || {
        let (_, job) = gateway.get(&format!("/api/v2/jobs/{id}")).await;
        (job["status"] == "running").then_some(())
    })
    .await;
    gateway
        .post(&format!("/api/v2/jobs/{id}/cancel"), &json!({}))
        .await;
    assert_eq!(ended(gateway, id).await["status"], "canceled");
    until_clean(gateway).await;
}
