//! Server-sent events: a prompt's life as it happens (delivery.md, "Streaming").

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::json;

use super::path::PathText;
use super::{RouterState, prompt};
use crate::error::Failure;
use crate::job::registry::{JobSnapshot, Status};
use crate::job::stream::{Data, Reader, StreamEvent, Weight};
use crate::job::{CancelOnDrop, JobHandle};
use crate::transport::event_stream::event_stream;

/// How often a comment is sent when nothing else is, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// After so long without a decision a stream begins all the same: proxies commonly close a
/// connection that is silent for a minute.
const UNDECIDED: Duration = Duration::from_secs(30);

type Chunk = std::io::Result<Bytes>;

/// Answers `POST /prompt` as a stream. What goes wrong before the first event, and soon, is an
/// ordinary HTTP error.
///
/// # Errors
/// Whatever ended the prompt before there was anything to stream.
pub async fn follow(
    mut running: JobHandle,
    guard: Option<CancelOnDrop>,
) -> Result<Response, Failure> {
    let Some(reader) = running.reader.take() else {
        return Err(prompt::unknown(&running.job.id));
    };
    let accepted = tokio::select! {
        accepted = running.accepted() => accepted.map(drop),
        () = reader.wait_for_more_than_state() => Ok(()),
        () = tokio::time::sleep(UNDECIDED) => Ok(()),
    };
    if let Err(failure) = accepted {
        // The client has not gone away: it is about to get its answer.
        if let Some(guard) = guard {
            guard.disarm();
        }
        return Err(failure);
    }
    Ok(response(events(reader, guard)))
}

/// `GET /prompt/{id}/events`: the state now, then everything that follows.
pub async fn attach(
    State(state): State<RouterState>,
    PathText(id): PathText,
) -> Result<Response, Failure> {
    // Attached before the state is read, so that no change is missed in between.
    let reader = state.service.job(&id).map(|job| job.streams.attach(false));
    let entry = state
        .service
        .entry(&id)
        .ok_or_else(|| prompt::unknown(&id))?;
    let state = json!({
        "type": "state",
        "data": {
            "prompt_id": entry.id,
            "status": entry.status,
            "position": entry.position,
            "progress": entry.progress
        }
    });
    let first = stream::iter([Ok(Bytes::from(format!(
        "event: message\ndata: {state}\nid: 0\n\n"
    )))]);
    Ok(match reader {
        Some(reader) => response(first.chain(events(reader, None)).boxed()),
        None => response(first.chain(stream::iter([Ok(ended(&entry))])).boxed()),
    })
}

/// The end of a prompt that is only remembered.
fn ended(entry: &JobSnapshot) -> Bytes {
    if entry.status == Status::Succeeded {
        let entry = json!(entry);
        return format!("event: complete\ndata: {entry}\nid: 1\n\n").into();
    }
    let error = json!({"error": entry.error, "code": entry.code});
    format!("event: error\ndata: {error}\nid: 1\n\n").into()
}

fn events(reader: Reader, guard: Option<CancelOnDrop>) -> BoxStream<'static, Chunk> {
    let first = (reader, guard, false);
    stream::unfold(first, |(reader, mut guard, over)| async move {
        if over {
            return None;
        }
        let (chunk, over) = match tokio::time::timeout(KEEP_ALIVE, reader.next()).await {
            Ok(event) => (written(&event), event.weight == Weight::Final),
            Err(_) => (
                stream::iter([Ok(Bytes::from_static(b": still here\n\n"))]).boxed(),
                false,
            ),
        };
        if over && let Some(guard) = guard.take() {
            guard.disarm();
        }
        Some((chunk, (reader, guard, over)))
    })
    .flatten()
    .boxed()
}

/// `event:` first and `data:` second: clients read them by position (drop-in.md, D17).
fn written(event: &StreamEvent) -> BoxStream<'static, Chunk> {
    let head = format!("event: {}\ndata: ", event.name);
    let tail = format!("\nid: {}\n\n", event.sequence);
    match &event.data {
        Data::Text(text) => {
            let mut whole = Vec::with_capacity(head.len() + text.len() + tail.len());
            whole.extend_from_slice(head.as_bytes());
            whole.extend_from_slice(text);
            whole.extend_from_slice(tail.as_bytes());
            stream::iter([Ok(whole.into())]).boxed()
        }
        // JSON written by serde has no line breaks, and neither has base64.
        Data::Document(document) => document.surrounded(head, tail).stream().boxed(),
    }
}

fn response(events: BoxStream<'static, Chunk>) -> Response {
    event_stream(Body::from_stream(events))
}
