//! `GET /jobs/{id}/events`: the life of a job as it happens. Every stream shows every output once
//! and its end last.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::address::Base;
use super::error::ApiError;
use super::{V2State, view};
use crate::document::base64;
use crate::durable::live::Shown;
use crate::durable::{JobView, LiveJob};
use crate::telemetry::metrics;
use crate::transport::event_stream::event_stream;

/// A client takes a stream that says nothing for 45 s for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Between two snapshots or pictures.
const PAUSE: Duration = Duration::from_millis(500);

/// An open stream, counted.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        metrics::streams(-1);
    }
}

fn count(state: &V2State) -> Result<Counted, ApiError> {
    let limit = state.config.state.max_streams;
    let open = state.streams.fetch_add(1, Ordering::Relaxed);
    let counted = Counted(state.streams.clone());
    metrics::streams(1);
    if limit > 0 && open >= limit {
        return Err(ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_streams",
            format!(
                "{limit} event streams are open, which is V2_MAX_STREAMS: poll instead, or try \
                 again"
            ),
        )
        .retry(Duration::from_secs(2)));
    }
    Ok(counted)
}

pub async fn events(
    method: Method,
    State(state): State<V2State>,
    base: Base,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let live = state.jobs.live(&id);
    let ended = match &live {
        Some(_) => None,
        None => Some(
            state
                .jobs
                .view(&id)
                .await?
                .ok_or_else(|| ApiError::not_found("job", &id))?,
        ),
    };
    if method == Method::HEAD {
        return Ok(event_stream(Body::empty()));
    }
    let counted = count(&state)?;
    Ok(match (live, ended) {
        (Some(live), _) => event_stream(Body::from_stream(follow(state, base, live, counted))),
        (None, Some(view)) => event_stream(Body::from(whole(&state, &base, &view))),
        (None, None) => return Err(ApiError::upstream()),
    })
}

fn frame(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// All of a job that has ended.
fn whole(state: &V2State, base: &Base, view: &JobView) -> String {
    let mut text = String::new();
    for asset in &view.outputs {
        text.push_str(&frame("output", &view::output(state, base, asset)));
    }
    if let Some(progress) = &view.progress {
        text.push_str(&frame("progress", progress));
    }
    text.push_str(&last(state, base, view));
    text
}

/// The terminal status.
fn last(state: &V2State, base: &Base, view: &JobView) -> String {
    let outputs: Vec<Value> = view
        .outputs
        .iter()
        .map(|asset| view::output(state, base, asset))
        .collect();
    frame(
        "status",
        &json!({"status": view.record.status.as_str(), "error": view.error, "outputs": outputs}),
    )
}

/// One stream of a job in flight. It keeps nothing but what it has shown: a slow reader loses
/// snapshots and pictures only.
struct Stream {
    state: V2State,
    base: Base,
    live: Arc<LiveJob>,
    changes: watch::Receiver<u64>,
    shown: Shown,
    /// The next snapshot or picture not before this.
    not_before: Instant,
    /// A change was seen that may be worth one.
    pending: bool,
    quiet_since: Instant,
    frames: VecDeque<String>,
    over: bool,
    _counted: Counted,
}

fn follow(
    state: V2State,
    base: Base,
    live: Arc<LiveJob>,
    counted: Counted,
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    let now = Instant::now();
    let first = Stream {
        changes: live.changes(),
        state,
        base,
        live,
        shown: Shown::default(),
        not_before: now,
        pending: true,
        quiet_since: now,
        frames: VecDeque::new(),
        over: false,
        _counted: counted,
    };
    stream::unfold(first, |mut stream| async move {
        let text = stream.next().await?;
        Some((Ok(Bytes::from(text)), stream))
    })
}

impl Stream {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                self.quiet_since = Instant::now();
                return Some(frame);
            }
            if self.over {
                return None;
            }
            self.changes.borrow_and_update();
            self.look();
            if !self.frames.is_empty() || self.over {
                continue;
            }
            let alive = self.quiet_since + KEEP_ALIVE;
            let until = if self.pending {
                self.not_before.min(alive)
            } else {
                alive
            };
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { return None },
                () = sleep_until(until) => if until == alive {
                    self.quiet_since = Instant::now();
                    return Some(": still here\n\n".to_owned());
                },
            }
        }
    }

    /// Turns what is new into frames.
    fn look(&mut self) {
        let now = Instant::now();
        let all = now >= self.not_before;
        self.pending = !all;
        let news = self.state.jobs.news(&self.live, &mut self.shown, all);
        let ended = news.end.is_some();
        for (status, position) in &news.statuses {
            let mut data = json!({"status": status.as_str()});
            if let Some(position) = position {
                data["queue_position"] = (*position).into();
            }
            self.frames.push_back(frame("status", &data));
        }
        let mut snapshot = Vec::new();
        if let Some(progress) = &news.progress {
            snapshot.push(frame("progress", progress));
        }
        if let Some(preview) = &news.preview {
            let data = json!({
                "node_id": preview.node_id.clone().unwrap_or_default(),
                "content_type": preview.image_type,
                "data_base64": base64(&preview.image),
            });
            snapshot.push(frame("preview", &data));
        }
        if !snapshot.is_empty() {
            self.not_before = now + PAUSE;
        }
        let outputs = news
            .outputs
            .iter()
            .map(|asset| frame("output", &view::output(&self.state, &self.base, asset)));
        if ended {
            self.frames.extend(outputs);
            self.frames.extend(snapshot);
            let view = self.state.jobs.view_of(&self.live);
            self.frames.push_back(last(&self.state, &self.base, &view));
        } else {
            self.frames.extend(snapshot);
            self.frames.extend(outputs);
        }
        self.over = ended || news.suspended;
    }
}
