//! Ended spans on their way to the exporter: bounded, and never waited for.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::SpanData;
use crate::telemetry::metrics;

/// The queue.
#[derive(Debug)]
pub struct Queue {
    spans: Mutex<VecDeque<Box<SpanData>>>,
    capacity: usize,
    /// So many are worth a request at once.
    batch: usize,
    full: Notify,
}

impl Queue {
    /// An empty one.
    pub fn new(capacity: usize, batch: usize) -> Self {
        Self {
            spans: Mutex::default(),
            capacity,
            batch: batch.clamp(1, capacity.max(1)),
            full: Notify::new(),
        }
    }

    /// Takes a span, or drops and counts it when there is no room.
    pub fn push(&self, span: Box<SpanData>) {
        let mut spans = self.lock();
        if spans.len() >= self.capacity {
            drop(spans);
            metrics::otel_dropped("traces", 1);
            return;
        }
        spans.push_back(span);
        let full = spans.len() == self.batch;
        drop(spans);
        if full {
            self.full.notify_one();
        }
    }

    /// The oldest ones, as many as go into a request.
    pub fn take(&self) -> Vec<SpanData> {
        let mut spans = self.lock();
        let count = spans.len().min(self.batch);
        spans.drain(..count).map(|span| *span).collect()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a whole request is there.
    pub fn has_batch(&self) -> bool {
        self.len() >= self.batch
    }

    /// Resolves when a whole request has come together.
    pub async fn filled(&self) {
        self.full.notified().await;
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, VecDeque<Box<SpanData>>> {
        self.spans.lock()
    }
}
