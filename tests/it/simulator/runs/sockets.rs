//! What comes over which websocket.

use crate::simulator::*;

#[tokio::test]
async fn m_without_a_client_id() {
    let stand = Stand::start(OLD).await;
    let mut ws = stand.listen("c").await;
    let (_, body) = stand.post("/prompt", &json!({"prompt": simple("m")})).await;
    stand.outcome(body["prompt_id"].as_str().unwrap()).await;
    let id = stand.submit(&simple("mark"), "c").await;
    let messages = ws.run(&id).await;
    let start = messages
        .iter()
        .position(|m| m["type"] == "execution_start")
        .unwrap();
    let kinds: std::collections::BTreeSet<&str> = messages[..start]
        .iter()
        .map(|m| m["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["progress_state", "status"]
    );
}

#[tokio::test]
async fn n_o_reconnecting_and_the_bug_of_two_sockets() {
    let stand = Stand::start(OLD).await;
    let ws = stand.listen("c").await;
    let id = stand.submit(&sleeper(30.0, 3000), "c").await;
    stand.until_running(&id).await;
    drop(ws);
    // Give the server's clean-up of the old socket time: the count of open sockets says when.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while stand.get_json("/simulator/stats").await["sockets_open"] != 0 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut again = stand.listen("c").await;
    assert_eq!(again.json().await["data"]["sid"], "c");
    assert_eq!(
        again.json().await,
        json!({"type": "executing", "data": {"node": "7"}})
    );
    let mut second = stand.listen("c").await;
    second.json().await;
    stand.post("/interrupt", &json!({})).await;
    second.run(&id).await;
    // Closing the first deafens the second.
    again.socket.close(None).await.unwrap();
    while let Some(Ok(_)) = again.socket.next().await {}
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while stand.get_json("/simulator/stats").await["sockets_open"] != 1 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let id = stand.submit(&simple("deaf"), "c").await;
    assert_eq!(stand.outcome(&id).await["status"]["status_str"], "success");
    second
        .socket
        .send(Message::Ping("still there".into()))
        .await
        .unwrap();
    assert_eq!(
        second.next().await.unwrap(),
        Message::Pong("still there".into()),
        "open, and nothing but the pong"
    );
}

#[tokio::test]
async fn p_sampler_with_previews_of_both_kinds() {
    let stand = Stand::start(&["--imitate", "0.3.64", "--preview-method", "latent2rgb"]).await;
    write(&stand.path("models/checkpoints/m.safetensors"), b"x");
    let (mut plain, mut negotiated) = (
        stand.listen("plain").await,
        stand.listen("negotiated").await,
    );
    negotiated
        .socket
        .send(Message::text(
            json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}})
                .to_string(),
        ))
        .await
        .unwrap();
    while negotiated.json().await["type"] != "feature_flags" {}
    for (client, ws, expected) in [
        ("plain", &mut plain, [0, 1]),
        ("negotiated", &mut negotiated, [4, 0]),
    ] {
        stand.post("/free", &json!({"free_memory": true})).await;
        let id = stand.submit(&sampling(4), client).await;
        let mut order = Vec::new();
        loop {
            match ws.next().await.unwrap() {
                Message::Binary(bytes) => {
                    let kind = bytes[3];
                    order.push(kind);
                    if kind == 1 {
                        assert_eq!(&bytes[..10], [0, 0, 0, 1, 0, 0, 0, 1, 0xFF, 0xD8]);
                    } else {
                        let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
                        let about: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
                        assert_eq!(
                            (&about["prompt_id"], &about["node_id"], &about["image_type"]),
                            (&json!(id), &json!("3"), &json!("image/jpeg"))
                        );
                    }
                }
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message["type"] == "progress" {
                        order.push(0);
                    }
                    if message["type"] == "executing" && message["data"]["node"].is_null() {
                        break;
                    }
                }
                _ => {}
            }
        }
        assert_eq!(order, expected.repeat(4), "{client}");
    }
    let picture = image::open(stand.path("output/ComfyUI_00002_.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (64, 64));
}
