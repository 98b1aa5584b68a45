//! One request to the collector, repeated inside its time. Never more than one per signal at a
//! time, so nothing piles up.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use parking_lot::Mutex;
use reqwest::{Client, Response};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;
use url::Url;

use crate::config::{OtlpConfig, public};
use crate::error::chain;
use crate::limits::off_runtime;
use crate::net::http_fields::retry_after;
use crate::net::retry::RetryPolicy;
use crate::telemetry::metrics;

/// How much of an answer is read.
const ANSWER: usize = 64 * 1024;
/// Bodies above this are compressed where nobody waits.
const LARGE: usize = 64 * 1024;
/// At most one warning in so long.
const QUIET: Duration = Duration::from_secs(60);

const AGAIN: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    first: Duration::from_millis(500),
    longest: Duration::from_secs(5),
    longest_asked: Duration::from_secs(60),
};

/// When it was warned last, for all signals.
#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<Option<Instant>>);

impl Warnings {
    fn allow(&self) -> bool {
        let mut last = self.0.lock();
        let now = Instant::now();
        let allowed = last.is_none_or(|last| now.duration_since(last) >= QUIET);
        if allowed {
            *last = Some(now);
        }
        allowed
    }
}

/// Sends the requests of one signal.
#[derive(Debug)]
pub(super) struct Sender {
    client: Client,
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
    gzip: bool,
    signal: &'static str,
    warnings: Arc<Warnings>,
}

/// Why a request was not taken.
struct Refusal {
    /// Without secrets.
    reason: String,
    /// It may be taken later; the collector may have said when.
    again: Option<Option<Duration>>,
}

impl Sender {
    pub fn new(
        config: &OtlpConfig,
        signal: &'static str,
        client: Client,
        warnings: Arc<Warnings>,
    ) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            // Checked when it was read.
            if let Ok(mut value) = HeaderValue::try_from(value.expose()) {
                value.set_sensitive(true);
                headers.append(name.clone(), value);
            }
        }
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        if config.gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Self {
            client,
            url: config.url.clone(),
            headers,
            timeout: config.timeout,
            gzip: config.gzip,
            signal,
            warnings,
        }
    }

    /// Sends a body that holds so many spans or points; those that do not arrive are counted.
    /// `rejected` reads the answer.
    pub async fn send(&self, body: Vec<u8>, count: u64, rejected: fn(&[u8]) -> u64) {
        let body = if self.gzip { compressed(body) } else { body };
        let body = Bytes::from(body);
        let deadline = Instant::now() + self.timeout;
        let mut failures = 0;
        let lost = loop {
            let refusal = match timeout_at(deadline, self.attempt(body.clone())).await {
                Ok(Ok(answer)) => break rejected(&answer).min(count),
                Ok(Err(refusal)) => refusal,
                Err(_) => {
                    self.complain("it did not answer in time", count);
                    break count;
                }
            };
            failures += 1;
            let delay = refusal
                .again
                .and_then(|asked| AGAIN.delay(failures, asked))
                .filter(|delay| Instant::now() + *delay < deadline);
            let Some(delay) = delay else {
                self.complain(&refusal.reason, count);
                break count;
            };
            sleep(delay).await;
        };
        if lost > 0 {
            metrics::otel_dropped(self.signal, lost);
        }
    }

    async fn attempt(&self, body: Bytes) -> Result<Vec<u8>, Refusal> {
        let request = self
            .client
            .post(self.url.clone())
            .headers(self.headers.clone())
            .body(body);
        let response = request.send().await.map_err(|error| Refusal {
            again: (!error.is_builder()).then_some(None),
            reason: chain(&error.without_url()),
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(head_of(response).await);
        }
        let passing = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        Err(Refusal {
            reason: format!("it answered {status}"),
            again: passing.then(|| retry_after(response.headers())),
        })
    }

    fn complain(&self, reason: &str, count: u64) {
        if self.warnings.allow() {
            warn!(
                signal = self.signal,
                url = %public(&self.url),
                count,
                "telemetry is dropped, the collector does not take it: {reason} (said once a \
                 minute)"
            );
        }
    }
}

/// The beginning of an answer; one that breaks off has said enough.
async fn head_of(response: Response) -> Vec<u8> {
    let mut head = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        let room = ANSWER - head.len();
        head.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if head.len() >= ANSWER {
            break;
        }
    }
    head
}

fn compressed(body: Vec<u8>) -> Vec<u8> {
    off_runtime(body.len() > LARGE, || {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing into memory does not fail.
        let _ = encoder.write_all(&body);
        encoder.finish().unwrap_or_default()
    })
}
