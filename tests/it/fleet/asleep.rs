//! A fleet of which nobody is there: what needs the catalogue, before it was ever known and after.

use serde_json::json;

use super::*;
use crate::mcp::{result, tool};
use crate::support::rabbitmq::RabbitMq;

pub const PLAIN: &str = "import { z } from \"zod\";\nexport default { RequestSchema: z.object({ \
                         color: z.number() }), generateWorkflow: (input: any): any => ({ draw: { \
                         class_type: 'EmptyImage', inputs: { width: 8, height: 8, batch_size: 1, \
                         color: input.color } }, save: { class_type: 'SaveImage', inputs: { \
                         filename_prefix: 'w', images: ['draw', 0] } } }) };\n";
const SAMPLED: &str = "import { z } from \"zod\";\nimport config from \"../config\";\nexport \
                       default { RequestSchema: z.object({ sampler: config.samplers }), \
                       generateWorkflow: (input: any): any => ({ draw: { class_type: \
                       'EmptyImage', inputs: { width: 8, height: 8, batch_size: 1, color: 1 } }, \
                       save: { class_type: 'SaveImage', inputs: { filename_prefix: 'w', images: \
                       ['draw', 0] } } }) };\n";

/// As the editor saves it.
fn saved() -> Value {
    json!({
        "last_node_id": 2, "last_link_id": 1, "version": 0.4, "groups": [], "config": {},
        "extra": {},
        "nodes": [
            {"id": 1, "type": "EmptyImage", "pos": [0, 0], "size": [200, 100], "flags": {},
            "order": 0, "mode": 0, "inputs": [],
             "outputs": [{
                 "name": "IMAGE",
                 "type": "IMAGE",
                 "links": [1]
             }], "properties": {}, "widgets_values": [8, 8, 1, 3]},
            {"id": 2, "type": "SaveImage", "pos": [300, 0], "size": [200, 100], "flags": {},
            "order": 1, "mode": 0,
             "inputs": [{
                 "name": "images",
                 "type": "IMAGE",
                 "link": 1
             }], "outputs": [], "properties": {}, "widgets_values": ["p"]},
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
    })
}

fn stage(fleet: &Fleet, state: &str) -> Stage {
    gateway(&fleet.uri, &fleet.name)
        .env("STATE_DIR", state)
        .file("workflows/plain.ts", PLAIN)
        .file("workflows/sampled.ts", SAMPLED)
        .file("workflows/form.json", saved().to_string())
}

fn hooked(input: &Value) -> Value {
    json!({"input": input, "webhook_v2": "http://127.0.0.1:1/"})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_the_catalogue_says_so_until_it_is_known_and_then_works_asleep() {
    let broker = RabbitMq::shared().await;
    let mut fleet = Fleet::start(&broker.uri()).await;
    let state = tempfile::TempDir::new().unwrap();
    let dir = state.path().display().to_string();
    fleet.gateway = stage(&fleet, &dir).start().await;
    let unknown = |status: u16, body: &Value| {
        assert_eq!(
            (status, &body["code"]),
            (503, &json!("comfyui_unavailable")),
            "{body}"
        );
        let error = body["error"].as_str().unwrap();
        assert!(
            error.contains("not known yet") && error.contains("fleet"),
            "{error}"
        );
    };
    let gateway = &fleet.gateway;
    let sampler = json!({"sampler": "euler"});
    for (path, input) in [("sampled", &sampler), ("form", &json!({}))] {
        let (status, body) = gateway
            .post(&format!("/workflow/{path}"), &hooked(input))
            .await;
        unknown(status, &body);
    }
    let (status, body) = gateway.post("/graph/inspect", &saved()).await;
    unknown(status, &body);
    let node = tool(
        gateway,
        "describe_node",
        json!({"class_type": "EmptyImage"}),
    )
    .await;
    assert_eq!(node["isError"], true, "{node}");
    assert!(node.to_string().contains("not known yet"), "{node}");
    // What does not need it works, and says what is wrong with it.
    let (status, body) = gateway
        .post("/workflow/plain", &hooked(&json!({"color": 3})))
        .await;
    assert_eq!(status, 202, "{body}");
    let (status, body) = gateway
        .post("/workflow/plain", &hooked(&json!({"color": "x"})))
        .await;
    assert_eq!(
        (status, &body["location"]),
        (400, &json!("input.color")),
        "{body}"
    );
    // A workflow as the editor saves it is converted by whoever takes it.
    let (status, job) = gateway
        .post("/api/v2/jobs", &json!({"workflow": saved()}))
        .await;
    assert_eq!(status, 201, "{job}");
    let instance = fleet.instance("one").start().await;
    let job = ended(gateway, job["id"].as_str().unwrap()).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    gateway
        .log
        .line("the catalogue of the instances is known")
        .await;
    let works = async |gateway: &Product| {
        for (path, input) in [("sampled", &sampler), ("form", &json!({}))] {
            let answer = gateway
                .post(&format!("/workflow/{path}"), &hooked(input))
                .await;
            assert_eq!(answer.0, 202, "{path}: {}", answer.1);
        }
        let (status, body) = gateway
            .post("/workflow/sampled", &hooked(&json!({"sampler": "x"})))
            .await;
        assert_eq!(
            (status, &body["location"]),
            (400, &json!("input.sampler")),
            "{body}"
        );
        let (status, body) = gateway.post("/graph/inspect", &saved()).await;
        assert_eq!(status, 200, "{body}");
        let tools = result(gateway, "tools/list", json!({})).await;
        for name in ["plain", "sampled", "form"] {
            assert!(
                tools["tools"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|tool| tool["name"] == name),
                "{name}: {tools}"
            );
        }
        let found = tool(gateway, "search_nodes", json!({"query": "EmptyImage"})).await;
        assert!(found.to_string().contains("EmptyImage"), "{found}");
        let node = tool(
            gateway,
            "describe_node",
            json!({"class_type": "EmptyImage"}),
        )
        .await;
        let inputs = &node["structuredContent"]["inputs"];
        let width = inputs
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == "width");
        assert_eq!(width.unwrap()["type"], "INT", "{node}");
        let node = tool(gateway, "describe_node", json!({"class_type": "Nope"})).await;
        assert_eq!(node["isError"], true, "{node}");
    };
    works(gateway).await;

    // The fleet sleeps, and the gateway is another process.
    drop(instance);
    fleet.gateway.signal(nix::sys::signal::Signal::SIGKILL);
    fleet.gateway.ended().await;
    fleet.gateway = stage(&fleet, &dir).start().await;
    works(&fleet.gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_too_long_for_a_fleet_that_sleeps_expires_and_is_not_run_later() {
    let broker = RabbitMq::shared().await;
    let fleet = Fleet::with(&broker.uri(), &[("V2_QUEUE_TIMEOUT_S", "0.5")]).await;
    let gateway = &fleet.gateway;
    let (status, job) = gateway
        .post("/api/v2/jobs", &json!({"workflow": picture(1)}))
        .await;
    assert_eq!(status, 201, "{job}");
    let job = ended(gateway, job["id"].as_str().unwrap()).await;
    assert_eq!(job["status"], "expired", "{job}");
    until_clean(gateway).await;
    // Its message is there still: whoever wakes up does not run it.
    let instance = fleet.instance("awake").start().await;
    gateway.run("next", &picture(2)).await;
    instance.log.line("its gateway does not wait for it").await;
    let (_, queue) = instance.get("/queue").await;
    let finished = queue["finished"].as_array().unwrap();
    assert_eq!(finished.len(), 1, "{queue}");
    assert_eq!(finished[0]["id"], "next", "{queue}");
}
