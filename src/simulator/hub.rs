//! Who is connected, and who gets which message.
//!
//! The registry is keyed by client id and, like the real one, forgets an id when *any* socket with
//! that id closes: a second socket of the same id goes deaf when the first one ends.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::extract::ws::Message;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::python;

/// The sending side of a socket.
#[derive(Debug, Clone)]
struct Peer {
    out: mpsc::UnboundedSender<Message>,
    /// Negotiated `supports_preview_metadata`.
    preview_metadata: Arc<AtomicBool>,
}

/// What a socket's task holds.
#[derive(Debug)]
pub struct Membership {
    /// The client id, given or invented.
    pub sid: String,
    /// Messages to be sent.
    pub inbox: mpsc::UnboundedReceiver<Message>,
    /// To be set when the client negotiates it.
    pub preview_metadata: Arc<AtomicBool>,
}

/// The registry of sockets.
#[derive(Debug, Default)]
pub struct Hub {
    peers: Mutex<HashMap<String, Peer>>,
    log_readers: Mutex<HashSet<String>>,
    /// Sockets that are open, registered or not.
    pub open: AtomicUsize,
    /// The client id of the prompt that runs or ran last, and the node it is at.
    current: Mutex<(Option<String>, Option<String>)>,
}

/// A JSON message.
pub fn text(kind: &str, data: &Value) -> Message {
    let mut out = String::with_capacity(256);
    out.push_str("{\"type\": ");
    python::write_string(kind, &mut out);
    out.push_str(", \"data\": ");
    python::write(data, &mut out);
    out.push('}');
    Message::Text(out.into())
}

impl Hub {
    /// Registers a socket, and queues its first messages.
    pub fn join(&self, client_id: Option<String>, queue_remaining: usize) -> Membership {
        let sid = client_id
            .filter(|id| !id.is_empty())
            .unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
        let (out, inbox) = mpsc::unbounded_channel();
        let preview_metadata = Arc::new(AtomicBool::new(false));
        let _ = out.send(text(
            "status",
            &json!({"status": {"exec_info": {"queue_remaining": queue_remaining}}, "sid": sid}),
        ));
        let current = self.current.lock().clone();
        if let (Some(owner), Some(node)) = current
            && owner == sid
        {
            let _ = out.send(text("executing", &json!({"node": node})));
        }
        self.peers.lock().insert(
            sid.clone(),
            Peer {
                out,
                preview_metadata: Arc::clone(&preview_metadata),
            },
        );
        self.open.fetch_add(1, Ordering::Relaxed);
        Membership {
            sid,
            inbox,
            preview_metadata,
        }
    }

    /// Forgets an id, whoever holds it now.
    pub fn leave(&self, sid: &str) {
        self.peers.lock().remove(sid);
        self.log_readers.lock().remove(sid);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes whose prompt runs.
    pub fn set_owner(&self, client_id: Option<String>) {
        *self.current.lock() = (client_id, None);
    }

    /// Notes the node that runs.
    pub fn set_node(&self, node: Option<String>) {
        self.current.lock().1 = node;
    }

    /// Sends to one client id, or to everybody.
    pub fn send(&self, kind: &str, data: &Value, to: Option<&str>) {
        let peers = self.peers.lock();
        match to {
            Some(sid) => {
                if let Some(peer) = peers.get(sid) {
                    let _ = peer.out.send(text(kind, data));
                }
            }
            None if peers.is_empty() => {}
            None => {
                let message = text(kind, data);
                for peer in peers.values() {
                    let _ = peer.out.send(message.clone());
                }
            }
        }
    }

    /// The count of prompts, to everybody.
    pub fn status(&self, queue_remaining: usize) {
        self.send(
            "status",
            &json!({"status": {"exec_info": {"queue_remaining": queue_remaining}}}),
            None,
        );
    }

    /// A text of a node (binary type 3), to everybody.
    pub fn node_text(&self, node: &str, content: &str) {
        let mut payload = Vec::with_capacity(8 + node.len() + content.len());
        payload.extend(3u32.to_be_bytes());
        payload.extend(u32::try_from(node.len()).unwrap_or(0).to_be_bytes());
        payload.extend(node.as_bytes());
        payload.extend(content.as_bytes());
        self.broadcast(Message::Binary(payload.into()));
    }

    fn broadcast(&self, message: Message) {
        for peer in self.peers.lock().values() {
            let _ = peer.out.send(message.clone());
        }
    }

    /// Whether previews for this client carry their metadata.
    pub fn wants_preview_metadata(&self, client_id: Option<&str>) -> bool {
        client_id.is_some_and(|sid| {
            self.peers
                .lock()
                .get(sid)
                .is_some_and(|peer| peer.preview_metadata.load(Ordering::Relaxed))
        })
    }

    /// Whether a preview would reach anybody.
    pub fn anybody(&self, client_id: Option<&str>) -> bool {
        let peers = self.peers.lock();
        client_id.map_or(!peers.is_empty(), |sid| peers.contains_key(sid))
    }

    /// A picture (binary type 1), to one client or everybody. `format` is 1 for JPEG and 2 for PNG.
    pub fn preview(&self, format: u32, picture: &[u8], to: Option<&str>) {
        let payload = [&1u32.to_be_bytes()[..], &format.to_be_bytes(), picture].concat();
        let message = Message::Binary(Bytes::from(payload));
        match to {
            None => self.broadcast(message),
            Some(sid) => {
                if let Some(peer) = self.peers.lock().get(sid) {
                    let _ = peer.out.send(message);
                }
            }
        }
    }

    /// A picture with metadata (binary type 4), to one client.
    pub fn preview_with_metadata(&self, metadata: &Value, picture: &[u8], sid: &str) {
        let metadata = python::dumps(metadata);
        let length = u32::try_from(metadata.len()).unwrap_or(0);
        let payload = [
            &4u32.to_be_bytes()[..],
            &length.to_be_bytes(),
            metadata.as_bytes(),
            picture,
        ]
        .concat();
        if let Some(peer) = self.peers.lock().get(sid) {
            let _ = peer.out.send(Message::Binary(payload.into()));
        }
    }

    /// Starts or ends the log messages of a client.
    pub fn subscribe_logs(&self, sid: &str, enabled: bool) {
        let mut readers = self.log_readers.lock();
        if enabled {
            readers.insert(sid.to_owned());
        } else {
            readers.remove(sid);
        }
    }

    /// A log line for those who asked.
    pub fn log(&self, entry: &Value) {
        let readers: Vec<String> = self.log_readers.lock().iter().cloned().collect();
        for sid in readers {
            self.send(
                "logs",
                &json!({"entries": [entry], "size": null}),
                Some(&sid),
            );
        }
    }
}
