//! `subscriptions/listen`: told when the tools have changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use futures_util::stream;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};

use super::McpState;
use super::http::{frame, keep_alive};
use super::message::RpcError;
use crate::telemetry::trace::Span;

const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Open at one time, at most.
const MOST: usize = 1_000;
const ID: &str = "io.modelcontextprotocol/subscriptionId";

/// Counts one listener as long as it is there.
struct Listener(Arc<AtomicUsize>);

impl Listener {
    fn new(all: &Arc<AtomicUsize>) -> Option<Self> {
        let new = Self(all.clone());
        (all.fetch_add(1, Ordering::Relaxed) < MOST).then_some(new)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens the stream of one subscription, whose span this is.
///
/// # Errors
/// When the filter cannot be used, or too many listen.
pub fn open(
    state: &McpState,
    id: &Value,
    params: &Map<String, Value>,
    mut span: Span,
) -> Result<Body, RpcError> {
    let Some(Value::Object(filter)) = params.get("notifications") else {
        span.fail("-32602");
        return Err(RpcError::params(
            "\"notifications\" must be an object, such as {\"toolsListChanged\": true}",
        ));
    };
    let listener = Listener::new(&state.listeners)
        .ok_or_else(|| RpcError::internal("too many clients listen: try again later"))?;
    let tools = filter.get("toolsListChanged").and_then(Value::as_bool) == Some(true);
    let accepted = if tools {
        json!({"toolsListChanged": true})
    } else {
        json!({})
    };
    let note = |method: &str, mut params: Value| {
        params["_meta"] = json!({ID: id});
        frame(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
    };
    let acknowledged = note(
        "notifications/subscriptions/acknowledged",
        json!({"notifications": accepted}),
    );
    let changed = note("notifications/tools/list_changed", json!({}));
    let end = frame(&json!({
        "jsonrpc": "2.0", "id": id,
        "result": {"resultType": "complete", "_meta": {ID: id}},
    }));
    let (mut changes, mut health) = (state.rest.workflows.changes(), state.rest.health.watch());
    changes.mark_unchanged();
    let frames = async_stream(async move |to: tokio::sync::mpsc::Sender<bytes::Bytes>| {
        // Both for as long as it is open.
        let _open = (listener, span);
        if to.send(acknowledged).await.is_err() {
            return;
        }
        loop {
            let next = tokio::select! {
                () = drained(&mut health) => {
                    let _ = to.send(end).await;
                    return;
                }
                Ok(()) = changes.changed(), if tools => changed.clone(),
                () = sleep_until(Instant::now() + KEEP_ALIVE) => keep_alive(),
                () = to.closed() => return,
            };
            if to.send(next).await.is_err() {
                return;
            }
        }
    });
    Ok(frames)
}

async fn drained(health: &mut tokio::sync::watch::Receiver<crate::health::Snapshot>) {
    let _ = health.wait_for(|health| health.draining).await.map(drop);
}

/// A body of what a task sends.
fn async_stream<F>(work: impl FnOnce(tokio::sync::mpsc::Sender<bytes::Bytes>) -> F) -> Body
where
    F: Future<Output = ()> + Send + 'static,
{
    let (to, from) = tokio::sync::mpsc::channel(8);
    tokio::spawn(work(to));
    Body::from_stream(stream::unfold(from, |mut from| async move {
        let frame = from.recv().await?;
        Some((Ok::<_, std::io::Error>(frame), from))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_counted() {
        let all = Arc::default();
        let mut open: Vec<Listener> = (0..MOST).filter_map(|_| Listener::new(&all)).collect();
        assert_eq!(open.len(), MOST);
        assert!(Listener::new(&all).is_none() && Listener::new(&all).is_none());
        open.pop();
        assert!(Listener::new(&all).is_some());
        drop(open);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
