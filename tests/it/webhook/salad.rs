//! SaladCloud's deletion cost.

use axum::http::StatusCode;
use comfyui_api::webhook::salad::follow_queue;
use tokio::sync::watch;

use super::{config, outbound};
use crate::support::receiver::{Behaviour, Receiver};

const PATH: &str = "/v1/deletion-cost";

#[tokio::test]
async fn the_deletion_cost_follows_the_queue() {
    let receiver = Receiver::start().await;
    let (sender, queue) = watch::channel(0);
    let follower = tokio::spawn(follow_queue(
        queue,
        outbound(&config(&[])),
        receiver.url("/"),
    ));
    receiver.wait(PATH, 1).await;
    sender.send_replace(3);
    receiver.wait(PATH, 2).await;
    receiver.behave(PATH, Behaviour::Answer(StatusCode::INTERNAL_SERVER_ERROR));
    sender.send_replace(3);
    sender.send_replace(4);
    receiver.wait(PATH, 3).await;
    receiver.behave(PATH, Behaviour::Answer(StatusCode::OK));
    sender.send_replace(0);
    receiver.wait(PATH, 4).await;
    drop(sender);
    follower.await.unwrap();
    let received = receiver.at(PATH);
    let costs: Vec<_> = received
        .iter()
        .map(|one| one.json()["deletion_cost"].as_u64().unwrap())
        .collect();
    assert_eq!(costs, [0, 3, 4, 0], "on change only");
    assert!(
        received
            .iter()
            .all(|one| one.method == "PUT" && one.header("metadata") == "true")
    );
}
