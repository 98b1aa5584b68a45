//! A websocket's life, with what can go wrong with it on purpose.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Shared;
use super::system::server_features;
use crate::simulator::hub::{Membership, text};
use crate::simulator::instance::Instance;

/// aiohttp's limit for messages from clients.
const CLIENT_MESSAGE_LIMIT: usize = 4 << 20;

pub async fn open(
    State(instance): Shared,
    Query(query): Query<HashMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    if instance.faults.refuses_websockets() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let client_id = query.get("clientId").cloned();
    upgrade
        .max_message_size(CLIENT_MESSAGE_LIMIT)
        .max_frame_size(CLIENT_MESSAGE_LIMIT)
        .on_upgrade(move |socket| async move {
            let membership = instance.hub.join(client_id, instance.queue.remaining());
            let sid = membership.sid.clone();
            live(socket, membership, &instance).await;
            instance.hub.leave(&sid);
        })
}

async fn live(mut socket: WebSocket, mut membership: Membership, instance: &Arc<Instance>) {
    let mut faults = instance.faults.watch();
    let cuts = faults.borrow().cuts;
    let mut first = true;
    let mut registered = true;
    loop {
        let (cut, frozen, deaf) = {
            let state = faults.borrow_and_update();
            (
                state.cuts != cuts,
                state.faults.freeze_websockets,
                state.faults.deafen_websockets,
            )
        };
        if cut {
            // Dropped without a closing handshake: the peer sees 1006.
            return;
        }
        tokio::select! {
            biased;
            changed = faults.changed() => if changed.is_err() { return },
            message = membership.inbox.recv(), if registered && !frozen => match message {
                // The registry has forgotten this socket: it stays open and hears nothing more.
                None => registered = false,
                Some(_) if deaf => {}
                Some(message) => {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                    instance.faults.message_sent();
                }
            },
            received = socket.recv(), if !frozen => match received {
                Some(Ok(Message::Text(content))) => {
                    if std::mem::take(&mut first) && negotiate(&content, &membership) {
                        let answer = text(
                            "feature_flags",
                            &server_features(instance.args.body_limit())
                        );
                        if !deaf && socket.send(answer).await.is_err() {
                            return;
                        }
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
}

/// Whether a client's first message negotiates features; what it supports is noted.
fn negotiate(content: &str, membership: &Membership) -> bool {
    let Ok(message) = serde_json::from_str::<Value>(content) else {
        return false;
    };
    let flags = message.get("type") == Some(&json!("feature_flags"));
    if flags {
        membership.preview_metadata.store(
            message["data"]["supports_preview_metadata"] == json!(true),
            Ordering::Relaxed,
        );
    }
    flags
}
