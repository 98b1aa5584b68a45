//! To an OpenTelemetry collector: spans as they end, metrics from time to time, by OTLP over HTTP
//! with protobuf.
//!
//! The official SDK is not used for that. Its processor has a thread of its own and hides what it
//! drops, and all that is needed of it is here: a bounded queue, a task that empties it, and
//! requests through the product's own client.

mod jaeger;
mod metrics;
mod request;
mod spans;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::request::{Sender, Warnings};
use super::trace::{self, Queue, Tracer};
use crate::config::{OtlpConfig, TelemetryConfig, public};
use crate::net::Outbound;
use crate::telemetry::metrics as recorder;

/// Brings gauges up to date that are only read when somebody asks.
pub type Refresh = Arc<dyn Fn() + Send + Sync>;

/// What sends, if anything does.
#[derive(Debug)]
pub struct Exporter {
    queue: Option<Arc<Queue>>,
    workers: parking_lot::Mutex<Vec<JoinHandle<()>>>,
    ending: CancellationToken,
}

impl Exporter {
    /// Starts what the configuration asks for; nothing without an endpoint. Needs a runtime.
    pub fn start(config: &TelemetryConfig, outbound: &Outbound, refresh: Refresh) -> Option<Self> {
        if config.traces.is_none() && config.metrics.is_none() {
            return None;
        }
        let ending = CancellationToken::new();
        let warnings = Arc::<Warnings>::default();
        let mut workers = Vec::new();
        let sender = |to: &OtlpConfig, signal| {
            info!(signal, url = %public(&to.url), "telemetry is sent to a collector");
            Sender::new(to, signal, outbound.operator().clone(), warnings.clone())
        };
        let queue = config.traces.as_ref().map(|to| {
            let queue = Arc::new(Queue::new(config.queue, config.batch));
            trace::install(Tracer::new(config.sampler.clone(), queue.clone()));
            let worker = Spans {
                queue: queue.clone(),
                sender: sender(to, "traces"),
                encoder: spans::Encoder::new(&config.resource),
                delay: config.delay,
                ending: ending.clone(),
            };
            workers.push(tokio::spawn(async move { worker.work().await }));
            if let Some(remote) = config.remote.clone() {
                let follow = jaeger::follow(
                    remote,
                    config.service().to_owned(),
                    outbound.grpc(),
                    ending.clone(),
                );
                workers.push(tokio::spawn(follow));
            }
            queue
        });
        if let Some(to) = &config.metrics {
            let worker = Metrics {
                sender: sender(to, "metrics"),
                encoder: metrics::Encoder::new(&config.resource),
                interval: config.interval,
                refresh,
                ending: ending.clone(),
            };
            workers.push(tokio::spawn(async move { worker.work().await }));
        }
        Some(Self {
            queue,
            workers: parking_lot::Mutex::new(workers),
            ending,
        })
    }

    /// Sends what is queued, at most so long; what is left is counted.
    pub async fn finish(&self, patience: Duration) {
        self.ending.cancel();
        let deadline = Instant::now() + patience;
        let workers = {
            let mut workers = self.workers.lock();
            std::mem::take(&mut *workers)
        };
        for mut worker in workers {
            if timeout_at(deadline, &mut worker).await.is_err() {
                worker.abort();
            }
        }
        if let Some(left) = self.queue.as_ref().map(|queue| queue.len())
            && left > 0
        {
            recorder::otel_dropped("traces", left as u64);
        }
    }
}

/// Empties the queue.
struct Spans {
    queue: Arc<Queue>,
    sender: Sender,
    encoder: spans::Encoder,
    delay: Duration,
    ending: CancellationToken,
}

impl Spans {
    async fn work(&self) {
        loop {
            let last = tokio::select! {
                () = self.ending.cancelled() => true,
                () = self.queue.filled() => false,
                () = tokio::time::sleep(self.delay) => false,
            };
            // Below a whole request the rest waits for company, but not for ever.
            loop {
                let spans = self.queue.take();
                if spans.is_empty() {
                    break;
                }
                let count = spans.len() as u64;
                let body = self.encoder.encode(spans);
                self.sender.send(body, count, spans::rejected).await;
                if !last && !self.ending.is_cancelled() && !self.queue.has_batch() {
                    break;
                }
            }
            if last {
                return;
            }
        }
    }
}

/// Reads the recorder.
struct Metrics {
    sender: Sender,
    encoder: metrics::Encoder,
    interval: Duration,
    refresh: Refresh,
    ending: CancellationToken,
}

impl Metrics {
    async fn work(&self) {
        loop {
            let last = tokio::select! {
                () = self.ending.cancelled() => true,
                () = tokio::time::sleep(self.interval) => false,
            };
            (self.refresh)();
            let (body, points) = self.encoder.encode(&recorder::render());
            self.sender.send(body, points, metrics::rejected).await;
            if last {
                return;
            }
        }
    }
}
