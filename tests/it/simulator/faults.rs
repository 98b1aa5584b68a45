//! What can be broken on purpose.

use super::*;

#[tokio::test]
async fn faults_of_the_websocket() {
    let stand = Stand::start(&[]).await;
    let fault =
        async |change: Value| assert_eq!(stand.post("/simulator/faults", &change).await.0, 200);
    let mut ws = stand.listen("c").await;
    ws.json().await;
    fault(json!({"drop_websockets": true, "refuse_websockets_ms": 60_000})).await;
    assert!(ws.next().await.is_none(), "cut");
    let stream = TcpStream::connect(stand.simulator.address()).await.unwrap();
    let refused =
        tokio_tungstenite::client_async(format!("ws://{}/ws", stand.simulator.address()), stream)
            .await;
    assert!(refused.is_err());
    fault(json!({"reset": true, "deafen_websockets": true})).await;
    let mut ws = stand.listen("c").await;
    let id = stand.submit(&simple("deaf"), "c").await;
    stand.outcome(&id).await;
    ws.socket.send(Message::Ping("x".into())).await.unwrap();
    assert!(
        matches!(ws.next().await.unwrap(), Message::Pong(_)),
        "deaf sockets answer pings only"
    );
    fault(json!({"reset": true, "freeze_websockets": true})).await;
    ws.socket.send(Message::Ping("y".into())).await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(200), ws.socket.next())
            .await
            .is_err(),
        "frozen sockets answer nothing"
    );
    fault(json!({"reset": true, "drop_websockets_after": 3})).await;
    drop(ws);
    let mut ws = stand.listen("d").await;
    stand.submit(&simple("cut"), "d").await;
    let mut count = 0;
    while ws.next().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 3);
    assert_eq!(
        stand
            .post("/simulator/faults", &json!({"unknown": 1}))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn faults_of_the_worker_and_of_http() {
    let stand = Stand::start(&["--fail-class", "ImageInvert", "--cpu"]).await;
    let mut graph = simple("x");
    graph["2"]["inputs"]["images"] = json!(["3", 0]);
    graph["3"] = json!({"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}});
    let id = stand.submit(&graph, "c").await;
    assert_eq!(
        stand.outcome(&id).await["status"]["messages"][2][0],
        "execution_error"
    );
    stand
        .simulator
        .set_faults(&json!({"lose_prompts": 1, "history_delay_ms": 100}))
        .unwrap();
    let lost = stand.submit(&simple("lost"), "c").await;
    let kept = stand.submit(&simple("kept"), "c").await;
    stand.outcome(&kept).await;
    assert_eq!(stand.get_json(&format!("/history/{lost}")).await, json!({}));
    stand
        .simulator
        .set_faults(&json!({"reset": true, "hang_http": true}))
        .unwrap();
    let hanging = stand
        .http
        .get(format!("{}/prompt", stand.simulator.url()))
        .timeout(Duration::from_millis(200))
        .send()
        .await;
    assert!(hanging.unwrap_err().is_timeout());
    stand
        .simulator
        .set_faults(&json!({"hang_http": false, "dead_worker": true}))
        .unwrap();
    let stuck = stand.submit(&simple("stuck"), "c").await;
    stand.until_running(&stuck).await;
    assert!(
        stand
            .get("/internal/logs")
            .await
            .1
            .contains("(prompt_worker)")
    );
    stand.simulator.set_faults(&json!({"crash": 7})).unwrap();
    assert_eq!(stand.simulator.crashed(), Some(7));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while TcpStream::connect(stand.simulator.address()).await.is_ok() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the port is still open"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
