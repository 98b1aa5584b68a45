//! The queue, interrupts, and the log.

use crate::simulator::*;

#[tokio::test]
async fn k_queue_and_interrupt() {
    let stand = Stand::start(OLD).await;
    let (mut ws, mut other) = (stand.listen("c").await, stand.listen("other").await);
    let first = stand.submit(&simple("before"), "c").await;
    ws.run(&first).await;
    let running = stand.submit(&sleeper(30.0, 3000), "c").await;
    stand.until_running(&running).await;
    let (low, deleted) = (
        stand.submit(&simple("low"), "c").await,
        stand.submit(&simple("deleted"), "c").await,
    );
    let (_, front) = stand
        .post(
            "/prompt",
            &json!({"prompt": simple("front"), "client_id": "c", "front": true}),
        )
        .await;
    assert_eq!(front["number"], -4);
    for id in [&low, "unknown"] {
        assert_eq!(
            stand
                .post_text("/interrupt", json!({"prompt_id": id}).to_string())
                .await,
            (200, String::new())
        );
    }
    assert_eq!(
        stand
            .post_text("/queue", json!({"delete": [deleted, running]}).to_string())
            .await,
        (200, String::new())
    );
    assert_eq!(
        stand.get_json(&format!("/history/{deleted}")).await,
        json!({})
    );
    assert_eq!(
        stand.get_json("/prompt").await["exec_info"]["queue_remaining"],
        3
    );
    stand
        .post("/interrupt", &json!({"prompt_id": running}))
        .await;
    let messages = ws.run(&running).await;
    let interrupted = messages
        .iter()
        .find(|m| m["type"] == "execution_interrupted")
        .unwrap();
    assert_eq!(
        (
            &interrupted["data"]["node_id"],
            &interrupted["data"]["node_type"]
        ),
        (&json!("7"), &json!("SimSleep"))
    );
    let entry = stand.outcome(&running).await;
    assert_eq!(
        entry["status"]["messages"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()[0],
        "execution_interrupted"
    );
    assert_eq!(entry["status"]["status_str"], "error");
    ws.run(front["prompt_id"].as_str().unwrap()).await;
    ws.run(&low).await;
    // The other client saw only the queue.
    loop {
        let message = other.json().await;
        assert_eq!(message["type"], "status");
        if short(&message) == "status 0"
            && stand.get_json("/prompt").await["exec_info"]["queue_remaining"] == 0
        {
            break;
        }
    }
    // An interrupt of an idle server harms nobody.
    stand.post_text("/interrupt", String::new()).await;
    let id = stand.submit(&simple("after"), "c").await;
    assert_eq!(stand.outcome(&id).await["status"]["completed"], true);
}

#[tokio::test]
async fn q_r_interrupt_in_and_behind_the_last_step() {
    let stand = Stand::start(OLD).await;
    let id = stand.submit(&sleeper(3.0, 0), "c").await;
    stand.until_running(&id).await;
    let mut ws = stand.listen("c").await;
    while ws.json().await["type"] != "executing" {}
    stand.post("/interrupt", &json!({"prompt_id": id})).await;
    assert_eq!(
        stand.outcome(&id).await["status"]["status_str"],
        "success",
        "too late: the last node runs to its end"
    );
}

#[tokio::test]
async fn s_logs_for_who_asks() {
    let stand = Stand::start(OLD).await;
    let mut ws = stand.listen("c").await;
    ws.json().await;
    let response = stand
        .http
        .patch(format!("{}/internal/logs/subscribe", stand.simulator.url()))
        .body(json!({"clientId": "c", "enabled": true}).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    stand.submit(&simple("s"), "nobody").await;
    let logs = ws.json().await;
    assert_eq!(
        (
            &logs["type"],
            &logs["data"]["entries"][0]["m"],
            &logs["data"]["size"]
        ),
        (&json!("logs"), &json!("got prompt\n"), &json!(null))
    );
}
