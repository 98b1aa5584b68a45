//! A webhook receiver whose behaviour can be changed mid-test, per path, and which remembers what
//! it got.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use url::Url;

/// What a path does with a request.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// Reads the body and answers.
    Answer(StatusCode),
    /// Reads the body and answers with a header too.
    AnswerWith(StatusCode, &'static str, String),
    /// Reads the body, waits, and answers.
    Slow(Duration, StatusCode),
    /// Reads the body and never answers.
    Hang,
    /// Reads nothing and never answers.
    HangUnread,
    /// Pauses for each MiB of the body, answers 200.
    ReadSlowly(Duration),
    /// Answers by these in turn, then 200.
    Sequence(Vec<StatusCode>),
    /// Reads the body without keeping it (its hash and length are kept), answers 200.
    Digest,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// When its body was complete.
    pub at: Instant,
    pub method: Method,
    /// Path and query.
    pub path: String,
    pub headers: HeaderMap,
    /// Empty for [`Behaviour::Digest`].
    pub body: Bytes,
    pub len: u64,
    pub sha256: [u8; 32],
    /// What was answered; `None` for one that hangs.
    pub status: Option<StatusCode>,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Default)]
struct Shared {
    behaviours: Mutex<HashMap<String, Behaviour>>,
    received: Mutex<Vec<Received>>,
    changed: Notify,
    inside: AtomicUsize,
    most_inside: AtomicUsize,
}

pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Receiver {
    /// Starts one that answers 200 everywhere.
    pub async fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let router = axum::Router::new()
            .fallback(receive)
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            shared,
            server,
        }
    }

    pub fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }

    /// From now on requests to this path (without query) are treated so.
    pub fn behave(&self, path: &str, behaviour: Behaviour) {
        self.shared
            .behaviours
            .lock()
            .unwrap()
            .insert(path.to_owned(), behaviour);
    }

    /// What came to this path, in the order in which the bodies were complete.
    pub fn at(&self, path: &str) -> Vec<Received> {
        let all = self.all().into_iter();
        all.filter(|one| one.path.split('?').next() == Some(path))
            .collect()
    }

    /// What came to any path.
    pub fn all(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// The most requests that were being treated at the same time.
    pub fn most_inside(&self) -> usize {
        self.shared.most_inside.load(Ordering::Relaxed)
    }

    /// Waits until so many requests came to a path.
    pub async fn wait(&self, path: &str, count: usize) -> Vec<Received> {
        self.wait_until(path, Duration::from_secs(30), |received| {
            received.len() >= count
        })
        .await
    }

    /// Waits until what came to a path satisfies a condition.
    pub async fn wait_until(
        &self,
        path: &str,
        limit: Duration,
        enough: impl Fn(&[Received]) -> bool,
    ) -> Vec<Received> {
        let deadline = Instant::now() + limit;
        loop {
            let changed = self.shared.changed.notified();
            let received = self.at(path);
            if enough(&received) {
                return received;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "after {limit:?} {path} had got only {} requests",
                received.len()
            );
            let _ = tokio::time::timeout(left, changed).await;
        }
    }
}

struct Inside<'a>(&'a Shared);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn receive(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let now = shared.inside.fetch_add(1, Ordering::Relaxed) + 1;
    shared.most_inside.fetch_max(now, Ordering::Relaxed);
    let _inside = Inside(&shared);
    let (parts, body) = request.into_parts();
    let behaviour = behaviour_at(&shared, parts.uri.path());
    if matches!(behaviour, Behaviour::HangUnread) {
        record(&shared, &parts, (Bytes::new(), 0, [0; 32]), None);
        return std::future::pending().await;
    }
    let pause = if let Behaviour::ReadSlowly(pause) = behaviour {
        pause
    } else {
        Duration::ZERO
    };
    let Some(read) = read(body, pause, !matches!(behaviour, Behaviour::Digest)).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let (status, header) = match behaviour {
        Behaviour::Hang => {
            record(&shared, &parts, read, None);
            return std::future::pending().await;
        }
        Behaviour::Slow(pause, status) => {
            tokio::time::sleep(pause).await;
            (status, None)
        }
        Behaviour::Answer(status) => (status, None),
        Behaviour::AnswerWith(status, name, value) => (status, Some((name, value))),
        _ => (StatusCode::OK, None),
    };
    record(&shared, &parts, read, Some(status));
    let mut response = status.into_response();
    if let Some((name, value)) = header {
        response
            .headers_mut()
            .insert(name, HeaderValue::try_from(value).unwrap());
    }
    response
}

fn behaviour_at(shared: &Shared, path: &str) -> Behaviour {
    match shared.behaviours.lock().unwrap().get_mut(path) {
        Some(Behaviour::Sequence(statuses)) if statuses.is_empty() => {
            Behaviour::Answer(StatusCode::OK)
        }
        Some(Behaviour::Sequence(statuses)) => Behaviour::Answer(statuses.remove(0)),
        Some(behaviour) => behaviour.clone(),
        None => Behaviour::Answer(StatusCode::OK),
    }
}

async fn read(body: Body, pause: Duration, keep: bool) -> Option<(Bytes, u64, [u8; 32])> {
    let mut chunks = body.into_data_stream();
    let (mut all, mut len, mut hash) = (Vec::new(), 0_u64, Sha256::new());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.ok()?;
        len += chunk.len() as u64;
        hash.update(&chunk);
        if keep {
            all.extend_from_slice(&chunk);
        }
        let mebibytes = (len >> 20) - ((len - chunk.len() as u64) >> 20);
        if !pause.is_zero() && mebibytes > 0 {
            tokio::time::sleep(pause * u32::try_from(mebibytes).unwrap()).await;
        }
    }
    Some((all.into(), len, hash.finalize().into()))
}

fn record(
    shared: &Shared,
    parts: &axum::http::request::Parts,
    read: (Bytes, u64, [u8; 32]),
    status: Option<StatusCode>,
) {
    let (body, len, sha256) = read;
    let path = parts
        .uri
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default();
    let one = Received {
        at: Instant::now(),
        method: parts.method.clone(),
        path,
        headers: parts.headers.clone(),
        body,
        len,
        sha256,
        status,
    };
    shared.received.lock().unwrap().push(one);
    shared.changed.notify_waiters();
}
