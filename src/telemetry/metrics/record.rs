//! What the parts of the product record.

use std::time::Duration;

use metrics::SharedString;

use super::declared::*;

/// A recorded job has ended.
pub fn job_ended(status: &'static str) {
    JOBS.add([status.into()], 1);
}

/// An attempt at a recorded job was lost.
pub fn attempt_lost() {
    LOST_ATTEMPTS.add(None, 1);
}

/// So many event streams of the Comfy API v2 more, or fewer.
pub fn streams(change: i8) {
    STREAMS.change(f64::from(change));
}

/// Bytes of the store.
#[expect(clippy::cast_precision_loss, reason = "exact up to 8 PiB")]
pub fn store_size(bytes: u64) {
    STORE_BYTES.set(None, bytes as f64);
}

/// How many ComfyUI there are: with several, what is ComfyUI's has the label `comfyui`.
pub fn comfyuis(count: usize) {
    for index in 0..count {
        let label = (count > 1).then_some(index);
        for family in [GPU_FAULTS, WEBSOCKET_RECONNECTS, COMFYUI_RESTARTS] {
            family.add(of(label), 0);
        }
        queue(0, [(label, 0)]);
        comfyui_up(label, false);
    }
}

/// The label of one of several ComfyUI. `instance` is Prometheus's own.
fn of(comfyui: Option<usize>) -> Option<SharedString> {
    comfyui.map(|index| index.to_string().into())
}

/// A prompt reached its end. `status` is `succeeded`, `failed` or `interrupted`; `source` is
/// `http`, `amqp`, `workflow` or `warmup`.
pub fn prompt_ended(status: &'static str, source: &'static str) {
    PROMPTS.add([status.into(), source.into()], 1);
}

/// How long one stage of a prompt took.
pub fn stage(stage: &'static str, took: Duration) {
    STAGE_SECONDS.record([stage.into()], took.as_secs_f64());
    super::recorded();
}

/// Prompts in flight here, and the length of each ComfyUI's own queue.
pub fn queue(in_flight: usize, comfyui_queues: impl IntoIterator<Item = (Option<usize>, u64)>) {
    PROMPTS_IN_FLIGHT.set(None, in_flight as f64);
    for (comfyui, length) in comfyui_queues {
        QUEUE_DEPTH.set(of(comfyui), length as f64);
    }
}

/// A download ended. `backend` is `http`, `s3`, `azure`, `huggingface` or `git`.
pub fn download(backend: &'static str, ok: bool, bytes: u64) {
    DOWNLOADS.add([backend.into(), outcome(ok).into()], 1);
    DOWNLOAD_BYTES.add([backend.into()], bytes);
}

/// An upload ended.
pub fn upload(backend: &'static str, ok: bool, bytes: u64) {
    UPLOADS.add([backend.into(), outcome(ok).into()], 1);
    UPLOAD_BYTES.add([backend.into()], bytes);
}

/// The cache's size in bytes.
pub fn cache_size(bytes: u64) {
    CACHE_BYTES.set(None, bytes as f64);
}

/// A look into the cache.
pub fn cache_lookup(hit: bool) {
    CACHE_LOOKUPS.add([(if hit { "hit" } else { "miss" }).into()], 1);
}

/// A file left the cache to make room.
pub fn cache_eviction(bytes: u64) {
    CACHE_EVICTIONS.add(None, 1);
    CACHE_EVICTED_BYTES.add(None, bytes);
}

/// One attempt to deliver a webhook. `kind` is `v2`, `legacy` or `system`.
pub fn webhook_attempt(kind: &'static str, ok: bool) {
    WEBHOOK_ATTEMPTS.add([kind.into(), outcome(ok).into()], 1);
}

/// The final fate of a webhook: `delivered`, `failed`, `gone` or `spooled`.
pub fn webhook_outcome(kind: &'static str, fate: &'static str) {
    WEBHOOKS.add([kind.into(), fate.into()], 1);
}

/// System events that were dropped because their receiver is slow.
pub fn event_dropped(target: &'static str, name: &str) {
    EVENTS_DROPPED.add([target.into(), name.to_owned().into()], 1);
}

/// Whether the broker connection stands.
pub fn amqp_connected(connected: bool) {
    AMQP_CONNECTED.set(None, f64::from(u8::from(connected)));
}

/// A task was answered: `ack`, `requeue` or `reject`.
pub fn amqp_task(outcome: &'static str) {
    AMQP_TASKS.add([outcome.into()], 1);
}

/// A message was published, or could not be.
pub fn amqp_published(ok: bool) {
    AMQP_PUBLISHED.add([outcome(ok).into()], 1);
}

/// A queue of a gateway: messages that wait, instances that take them, the age of our oldest in
/// milliseconds.
pub fn gateway_queue(queue: &str, waiting: u32, consumers: u32, oldest_ms: u64) {
    let queue = queue.to_owned();
    GATEWAY_WAITING.set([queue.clone().into()], f64::from(waiting));
    GATEWAY_CONSUMERS.set([queue.clone().into()], f64::from(consumers));
    GATEWAY_OLDEST_AGE_SECONDS.set([queue.into()], oldest_ms as f64 / 1000.0);
}

/// A job of a gateway has ended: `succeeded`, `failed` or `canceled`.
pub fn gateway_task(queue: &str, outcome: &'static str) {
    GATEWAY_TASKS.add([queue.to_owned().into(), outcome.into()], 1);
}

/// An output was put here.
pub fn gateway_file_bytes(bytes: u64) {
    GATEWAY_FILE_BYTES.add(None, bytes);
}

/// The websocket to ComfyUI was made anew.
pub fn websocket_reconnected(comfyui: Option<usize>) {
    WEBSOCKET_RECONNECTS.add(of(comfyui), 1);
}

/// An error of a node showed that the GPU is lost.
pub fn gpu_fault(comfyui: Option<usize>) {
    GPU_FAULTS.add(of(comfyui), 1);
}

/// ComfyUI was started again.
pub fn comfyui_restarted(comfyui: Option<usize>) {
    COMFYUI_RESTARTS.add(of(comfyui), 1);
}

/// Whether ComfyUI answers.
pub fn comfyui_up(comfyui: Option<usize>, up: bool) {
    COMFYUI_UP.set(of(comfyui), f64::from(u8::from(up)));
}

/// Spans (`traces`) or data points (`metrics`) that did not get to the collector.
pub fn otel_dropped(signal: &'static str, count: u64) {
    OTEL_DROPPED.add([signal.into()], count);
}

/// Resident memory of this process in bytes, and its open file descriptors; read when metrics are
/// asked for.
pub fn process() {
    if let Ok(statm) = std::fs::read_to_string("/proc/self/statm")
        && let Some(pages) = statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok())
    {
        RESIDENT_MEMORY.set(None, (pages * 4096) as f64);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        OPEN_FILES.set(None, entries.count() as f64);
    }
}

const fn outcome(ok: bool) -> &'static str {
    if ok { "success" } else { "failure" }
}
