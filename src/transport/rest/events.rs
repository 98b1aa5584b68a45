//! `GET /events`: what happens to the server, as it happens: of each topic first how it is, then
//! what changes. Nothing is kept for a reader but what it has seen: a slow one gets the newest
//! state, and an idle stream waits for changes without looking.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use futures_util::future::{BoxFuture, FutureExt, select_all};
use futures_util::stream;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::query::Query;
use super::{RouterState, logs, prompt, status};
use crate::error::{Code, Failure};
use crate::ledger::{Ledger, Listed};
use crate::limits::text::quoted;
use crate::limits::{MAX_EVENT_STREAMS, off_runtime};
use crate::telemetry::recent::{Selection, recent};
use crate::transport::event_stream::event_stream;
use crate::transport::v2::address::Base;

/// Between two changes of a topic.
const PAUSE: Duration = Duration::from_millis(200);
/// How often a comment is sent when nothing else is, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The items of a list that are sent first.
const NEWEST: usize = 50;
/// Prompts in flight from which on writing them is work for another thread.
const MANY: usize = 200;

/// What a stream may tell of, in the order in which it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topic {
    Queue,
    Runs,
    Downloads,
    Cache,
    Deliveries,
    Status,
    Log,
}

const TOPICS: [(&str, Topic); 7] = [
    ("queue", Topic::Queue),
    ("runs", Topic::Runs),
    ("downloads", Topic::Downloads),
    ("cache", Topic::Cache),
    ("deliveries", Topic::Deliveries),
    ("status", Topic::Status),
    ("log", Topic::Log),
];

/// The streams that are open.
#[derive(Debug, Clone, Default)]
pub struct OpenStreams(Arc<AtomicUsize>);

/// An open stream, counted.
struct Counted(OpenStreams);

impl OpenStreams {
    fn open(&self) -> Result<Counted, Failure> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(self.clone());
        if before < MAX_EVENT_STREAMS {
            return Ok(counted);
        }
        Err(Failure::new(
            Code::Conflict,
            format!("{MAX_EVENT_STREAMS} event streams are open already: close one, or try again"),
        ))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `GET /events`
pub async fn events(
    State(state): State<RouterState>,
    query: Query,
    base: Base,
) -> Result<Response, Failure> {
    let topics = wanted(&query)?;
    let counted = state.streams.open()?;
    let now = Instant::now();
    let first = Stream {
        feeds: topics
            .into_iter()
            .map(|topic| Feed::new(&state, topic, now))
            .collect(),
        frames: VecDeque::new(),
        sequence: 0,
        quiet_since: now,
        closing: state.closing.clone(),
        base: base.absolute,
        state,
        _counted: counted,
    };
    let frames = stream::unfold(first, |mut stream| async move {
        let text = stream.next().await?;
        Some((Ok::<_, std::io::Error>(Bytes::from(text)), stream))
    });
    Ok(event_stream(Body::from_stream(frames)))
}

/// The topics that are asked for, each once.
fn wanted(query: &Query) -> Result<Vec<Topic>, Failure> {
    let Some(text) = query.text("topics") else {
        let all = TOPICS.into_iter().map(|(_, topic)| topic);
        return Ok(all.filter(|topic| *topic != Topic::Log).collect());
    };
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    if let Some(odd) = names
        .iter()
        .find(|name| !TOPICS.iter().any(|(known, _)| known == *name))
    {
        return Err(Failure::invalid(
            "topics",
            format!(
                "\"{}\" is no topic: use some of {}, separated by commas",
                quoted(odd),
                TOPICS.map(|(name, _)| name).join(", ")
            ),
        ));
    }
    let chosen = TOPICS.into_iter().filter(|(name, _)| names.contains(name));
    Ok(chosen.map(|(_, topic)| topic).collect())
}

impl Topic {
    fn name(self) -> &'static str {
        TOPICS
            .into_iter()
            .find_map(|(name, topic)| (topic == self).then_some(name))
            .unwrap_or_default()
    }

    /// What tells that there is something new.
    fn changes(self, state: &RouterState) -> Vec<Box<dyn Changes>> {
        match self {
            Self::Queue => vec![Box::new(state.service.changes())],
            Self::Runs => vec![Box::new(state.history.changes())],
            Self::Downloads => vec![Box::new(state.storage.downloads().ledger().watch())],
            Self::Cache => vec![Box::new(state.storage.cache_changes())],
            Self::Deliveries => vec![Box::new(state.webhooks.deliveries().ledger().watch())],
            Self::Log => vec![Box::new(recent().watch())],
            Self::Status => {
                let mut changes: Vec<Box<dyn Changes>> = vec![
                    Box::new(state.machine.measurements()),
                    Box::new(state.health.watch()),
                    Box::new(state.service.moves()),
                ];
                for comfy in state.comfy.instances() {
                    changes.push(Box::new(comfy.life.watch()));
                }
                if let Some(broker) = &state.broker_link {
                    changes.push(Box::new(broker.connected.clone()));
                }
                changes
            }
        }
    }
}

/// Tells that there is something new; of any number of changes once.
trait Changes: Send {
    /// Waits for that; for ever when nothing can come any more. Cancel-safe.
    fn changed(&mut self) -> BoxFuture<'_, ()>;
    /// All until now is seen.
    fn see(&mut self);
}

impl<T: Send + Sync + 'static> Changes for watch::Receiver<T> {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        async {
            if Self::changed(self).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }

    fn see(&mut self) {
        self.mark_unchanged();
    }
}

/// One topic of a stream.
struct Feed {
    topic: Topic,
    changes: Vec<Box<dyn Changes>>,
    /// There is something new.
    pending: bool,
    /// Something else than a measurement has changed.
    news: bool,
    /// The next change not before this.
    not_before: Instant,
    /// How far a list or the log has been shown; nothing has at first.
    seen: Option<u64>,
    /// Of the whole that was shown last.
    last: u64,
}

impl Feed {
    fn new(state: &RouterState, topic: Topic, now: Instant) -> Self {
        Self {
            topic,
            changes: topic.changes(state),
            pending: true,
            news: true,
            not_before: now,
            seen: None,
            last: 0,
        }
    }

    /// What is new, if anything is, as JSON.
    async fn news(&mut self, state: &RouterState, base: &str) -> Option<String> {
        // Before looking: what changes meanwhile is looked at again.
        self.changes.iter_mut().for_each(|changes| changes.see());
        let measure = std::mem::take(&mut self.news);
        self.pending = false;
        match self.topic {
            Topic::Queue => {
                let (running, pending) = state.service.counts();
                let large = running + pending > MANY;
                let text = off_runtime(large, || prompt::queue_view(state).to_string());
                self.whole(text)
            }
            Topic::Runs => self.runs(state, base).await,
            Topic::Downloads => self.list(state.storage.downloads().ledger()),
            Topic::Deliveries => self.list(state.webhooks.deliveries().ledger()),
            Topic::Cache => self.whole(text(&state.storage.cache_figures())),
            Topic::Status => {
                let view = match self.seen.replace(0) {
                    None => status::view(state).await,
                    Some(_) => status::view_now(state, measure),
                };
                self.whole(view.to_string())
            }
            Topic::Log => {
                let (lines, place) = match self.seen {
                    None => recent().last(logs::LINES, &Selection::default()),
                    Some(place) => recent().since(place),
                };
                let first = self.seen.replace(place).is_none();
                let lines: Vec<_> = lines.iter().map(Arc::as_ref).collect();
                (first || !lines.is_empty()).then(|| text(&lines))
            }
        }
    }

    /// A state, unless it was shown already.
    fn whole(&mut self, text: String) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        (std::mem::replace(&mut self.last, hash) != hash).then_some(text)
    }

    async fn runs(&mut self, state: &RouterState, base: &str) -> Option<String> {
        let (version, runs) = match state.history.since(self.seen).await {
            Ok(runs) => runs,
            Err(failure) => {
                tracing::warn!(reason = %failure, "runs cannot be read for a stream of events");
                return None;
            }
        };
        let first = self.seen.replace(version).is_none();
        if !first && runs.is_empty() {
            return None;
        }
        Some(text(&state.history.shown(&runs, base).await))
    }

    fn list<T: Listed + Serialize>(&mut self, ledger: &Ledger<T>) -> Option<String> {
        let (items, revision) = match self.seen {
            None => ledger.newest(NEWEST),
            Some(seen) => ledger.since(seen),
        };
        let first = self.seen.replace(revision).is_none();
        (first || !items.is_empty()).then(|| text(&items))
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| Value::Null.to_string())
}

/// One open stream.
struct Stream {
    state: RouterState,
    feeds: Vec<Feed>,
    frames: VecDeque<String>,
    sequence: u64,
    quiet_since: Instant,
    /// What absolute addresses begin with.
    base: String,
    /// The server ends.
    closing: CancellationToken,
    _counted: Counted,
}

impl Stream {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                self.quiet_since = Instant::now();
                return Some(frame);
            }
            self.look().await;
            if !self.frames.is_empty() {
                continue;
            }
            let alive = self.quiet_since + KEEP_ALIVE;
            let due = self.feeds.iter().filter(|feed| feed.pending);
            let until = due.map(|feed| feed.not_before).min();
            let until = until.map_or(alive, |until| until.min(alive));
            tokio::select! {
                () = self.closing.cancelled() => return None,
                (feed, measured) = changed(&mut self.feeds) => {
                    if let Some(feed) = self.feeds.get_mut(feed) {
                        feed.pending = true;
                        feed.news |= !measured;
                    }
                }
                () = sleep_until(until) => if until == alive {
                    self.quiet_since = Instant::now();
                    return Some(": still here\n\n".to_owned());
                },
            }
        }
    }

    /// Turns what is new, and may be told, into frames.
    async fn look(&mut self) {
        for feed in &mut self.feeds {
            let now = Instant::now();
            if !feed.pending || feed.not_before > now {
                continue;
            }
            if let Some(data) = feed.news(&self.state, &self.base).await {
                feed.not_before = Instant::now() + PAUSE;
                self.sequence += 1;
                let (name, id) = (feed.topic.name(), self.sequence);
                // JSON written by serde has no line breaks.
                self.frames
                    .push_back(format!("event: {name}\ndata: {data}\nid: {id}\n\n"));
            }
        }
    }
}

/// Waits until a topic that is not pending has something new: which, and whether it is a
/// measurement and nothing else.
async fn changed(feeds: &mut [Feed]) -> (usize, bool) {
    let idle = feeds
        .iter_mut()
        .enumerate()
        .filter(|(_, feed)| !feed.pending);
    let waits: Vec<BoxFuture<'_, (usize, bool)>> = idle
        .flat_map(|(at, feed)| {
            let measures = feed.topic == Topic::Status;
            feed.changes
                .iter_mut()
                .enumerate()
                .map(move |(which, changes)| {
                    let changed = changes.changed();
                    changed.map(move |()| (at, measures && which == 0)).boxed()
                })
        })
        .collect();
    if waits.is_empty() {
        return std::future::pending().await;
    }
    select_all(waits).await.0
}
