//! ComfyUI keeps every graph that it ran in its history. What has been collected is deleted there,
//! so that its memory does not grow (prompt.md, section 3).

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::comfy::client::Client;

/// How long entries are gathered for one call. A call for each would cost a busy ComfyUI as much as
/// handing out the entry did.
const GATHERING: Duration = Duration::from_millis(50);

enum Order {
    /// ComfyUI's id of a prompt.
    Forget(String),
    /// Dropped once everything ordered before is done.
    Tell(oneshot::Sender<()>),
}

/// Has ComfyUI forget, in the background.
#[derive(Debug)]
pub(in crate::job) struct HistoryCleanup {
    orders: mpsc::UnboundedSender<Order>,
}

impl HistoryCleanup {
    /// Begins. Needs a runtime.
    pub fn start(client: Client) -> Self {
        let (orders, ordered) = mpsc::unbounded_channel();
        tokio::spawn(keep_forgetting(client, ordered));
        Self { orders }
    }

    /// Has one entry deleted, soon.
    pub fn forget(&self, comfy_id: String) {
        let _ = self.orders.send(Order::Forget(comfy_id));
    }

    /// Waits until everything ordered so far is done, at most so long.
    pub async fn done(&self, patience: Duration) {
        let (tell, told) = oneshot::channel();
        if self.orders.send(Order::Tell(tell)).is_ok() {
            let _ = timeout(patience, told).await;
        }
    }
}

async fn keep_forgetting(client: Client, mut ordered: mpsc::UnboundedReceiver<Order>) {
    while let Some(first) = ordered.recv().await {
        if matches!(first, Order::Forget(_)) {
            sleep(GATHERING).await;
        }
        let (mut ids, mut listeners) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Forget(id) => ids.push(id),
                Order::Tell(listener) => listeners.push(listener),
            }
            next = ordered.try_recv().ok();
        }
        if !ids.is_empty()
            && let Err(error) = client.forget(&ids).await
        {
            tracing::debug!(%error, "ComfyUI keeps history entries");
        }
    }
}
