//! When a receiver with a backlog has taken a delivery last, known beyond this process.

use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::Dispatcher;
use crate::webhook::spool::TAKEN;

impl Dispatcher {
    /// Remembers beyond this process that a receiver takes deliveries.
    pub(super) async fn note_taken(&self, receiver: &str) {
        self.taken
            .lock()
            .insert(receiver.to_owned(), SystemTime::now());
        if let Some(spool) = &self.spool {
            let _ = tokio::fs::write(spool.dir().join(taken_name(receiver)), b"").await;
        }
    }

    pub(super) async fn forget_taken(&self, receiver: &str) {
        if self.taken.lock().remove(receiver).is_some()
            && let Some(spool) = &self.spool
        {
            let _ = tokio::fs::remove_file(spool.dir().join(taken_name(receiver))).await;
        }
    }

    pub(super) async fn has_taken_lately(&self, receiver: &str) -> bool {
        let known = self.taken.lock().get(receiver).copied();
        let at = match (known, &self.spool) {
            (Some(at), _) => Some(at),
            (None, Some(spool)) => {
                let path = spool.dir().join(taken_name(receiver));
                let metadata = tokio::fs::metadata(path).await;
                metadata.and_then(|metadata| metadata.modified()).ok()
            }
            (None, None) => None,
        };
        at.is_some_and(|at| !is_older(at, self.options.keep_for))
    }
}

pub(super) fn is_older(at: SystemTime, age: Duration) -> bool {
    SystemTime::now()
        .duration_since(at)
        .is_ok_and(|since| since > age)
}

/// The file whose time says when a receiver has taken a delivery of its backlog last.
fn taken_name(receiver: &str) -> String {
    let hash = Sha256::digest(receiver.as_bytes());
    format!("{}.{TAKEN}", hex::encode(&hash[..8]))
}
