//! The one websocket to ComfyUI: kept alive, replaced when it closes, falls silent or goes deaf
//! (comfyui.md 3.1).

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message as Frame, Utf8Bytes};
use tracing::{debug, info, warn};

use super::super::message::{Message, Preview, TextMessage};
use super::{Inner, new_id};
use crate::error::chain;
use crate::net::retry::Pauses;
use crate::telemetry::metrics;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const FLAGS: &str = r#"{"type":"feature_flags","data":{"supports_preview_metadata":true}}"#;

/// Why a socket is no longer used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// ComfyUI closed it, so the same client id may be used again.
    Closed,
    /// Nothing came within the idle time. ComfyUI may not have noticed: the old registration must
    /// not hurt the new socket.
    Silent,
    /// It is open, but an end went unreported.
    Deaf,
}

/// Keeps a socket open for ever.
pub(super) async fn keep(inner: &Inner) {
    let mut first = true;
    let mut pauses = Pauses::new(FIRST_BACKOFF, LONGEST_BACKOFF);
    loop {
        match connect(inner).await {
            Ok(socket) => {
                let opened = Instant::now();
                if !std::mem::take(&mut first) {
                    metrics::websocket_reconnected(inner.label);
                    info!(
                        instance = inner.label,
                        "websocket to ComfyUI connected again"
                    );
                }
                inner.connected.send_replace(true);
                *inner.connected_since.lock() = Some(opened);
                // Whatever happened while nobody listened is found in queue and history.
                inner.look.notify_one();
                let over = listen(inner, socket).await;
                *inner.connected_since.lock() = None;
                inner.connected.send_replace(false);
                warn!(
                    instance = inner.label,
                    reason = ?over,
                    open_s = opened.elapsed().as_secs(),
                    "websocket to ComfyUI ended; connecting again"
                );
                if over != Over::Closed {
                    *inner.client_id.lock() = new_id();
                }
                if opened.elapsed() > LONGEST_BACKOFF {
                    pauses.reset();
                }
            }
            Err(reason) => debug!(reason, "websocket to ComfyUI cannot be opened yet"),
        }
        let _ = timeout(pauses.take(), inner.redial.notified()).await;
    }
}

async fn connect(inner: &Inner) -> Result<WebSocketStream<TcpStream>, String> {
    let client_id = inner.client_id.lock().clone();
    let url = format!("ws://{}/ws?clientId={client_id}", inner.authority);
    let opening = async {
        let stream = crate::net::dial(&inner.authority)
            .await
            .map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true);
        // `executed` and `progress_state` grow with the graph: no limit but memory. The reader
        // zeroes its buffer before every read, however short the message: the usual 128 KiB cost a
        // tenth of a prompt.
        let config = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .max_message_size(None)
            .max_frame_size(None);
        let (mut socket, _) =
            tokio_tungstenite::client_async_with_config(url, stream, Some(config))
                .await
                .map_err(|error| chain(&error))?;
        // Only the first text message can negotiate (comfyui.md 3.1).
        socket
            .send(Frame::Text(Utf8Bytes::from_static(FLAGS)))
            .await
            .map_err(|error| chain(&error))?;
        if (inner.output.is_some() || inner.events.wanted("logs"))
            && let Err(error) = inner.client.subscribe_logs(&client_id).await
        {
            warn!(%error, "cannot subscribe to ComfyUI's log");
        }
        Ok(socket)
    };
    timeout(CONNECT_TIMEOUT, opening)
        .await
        .unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

async fn listen(inner: &Inner, mut socket: WebSocketStream<TcpStream>) -> Over {
    let ping_after = inner.idle_timeout / 3;
    let mut heard = Instant::now();
    let mut pinged = false;
    let over = loop {
        let quiet = heard.elapsed();
        if quiet >= inner.idle_timeout {
            break Over::Silent;
        }
        let wait = if pinged {
            inner.idle_timeout - quiet
        } else {
            ping_after.saturating_sub(quiet)
        };
        let frame = tokio::select! {
            () = inner.deaf.notified() => break Over::Deaf,
            frame = timeout(wait, socket.next()) => frame,
        };
        match frame {
            Ok(Some(Ok(frame))) => {
                heard = Instant::now();
                pinged = false;
                if !take(inner, frame) {
                    break Over::Closed;
                }
            }
            Ok(
                Some(
                    Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed)
                    | Err(_),
                )
                | None,
            ) => break Over::Closed,
            // The server never pings; we do, so that a half-open connection shows.
            Err(_) if !pinged => {
                pinged = true;
                if !matches!(
                    timeout(
                        Duration::from_secs(1),
                        socket.send(Frame::Ping(bytes::Bytes::new()))
                    )
                    .await,
                    Ok(Ok(()))
                ) {
                    break Over::Silent;
                }
            }
            Err(_) => {}
        }
    };
    // Closed fully before the next one opens (comfyui.md 3.1, the same-clientId bug).
    let _ = timeout(Duration::from_secs(1), async {
        let _ = socket.close(None).await;
        while let Some(Ok(_)) = socket.next().await {}
    })
    .await;
    over
}

/// Returns whether the socket goes on.
fn take(inner: &Inner, frame: Frame) -> bool {
    match frame {
        Frame::Text(text) => {
            if let Some(message) = TextMessage::parse(text) {
                inner.route(Message::Text(message));
            }
        }
        Frame::Binary(bytes) => {
            if let Some(message) = Preview::parse(&bytes) {
                inner.route(message);
            }
        }
        Frame::Close(_) => return false,
        Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => {}
    }
    true
}
