//! Every metric, declared once. Names are `comfyui_api_*` with the unit in the name.
//!
//! The parts of the product record through the functions here, so that a name and its labels are written in one place.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Samples since the start, and how many of them are gathered before they are counted into their buckets.
static RECORDED: AtomicU64 = AtomicU64::new(0);
const UPKEEP_EVERY: u64 = 1024;

/// Seconds, from a fast node to a long video.
const DURATION_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    1800.0,
];

/// Installs the recorder for the whole process. A second call changes nothing.
pub fn install() {
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), DURATION_BUCKETS);
        let recorder = builder
            .map(PrometheusBuilder::build_recorder)
            .unwrap_or_else(|_| PrometheusBuilder::new().build_recorder());
        let handle = recorder.handle();
        // Fails only when another recorder is there already, which can only be ours.
        let _ = metrics::set_global_recorder(recorder);
        register();
        handle
    });
}

/// Every family with its labels, at zero: a dashboard or an alert must not wait for something to happen first.
fn register() {
    describe();
    for status in ["succeeded", "failed", "interrupted"] {
        for source in ["http", "amqp", "workflow", "v2", "mcp", "warmup"] {
            metrics::counter!("comfyui_api_prompts_total", "status" => status, "source" => source)
                .increment(0);
        }
    }
    for stage in ["preprocess", "comfy_round_trip", "postprocess", "upload"] {
        let _ = metrics::histogram!("comfyui_api_stage_duration_seconds", "stage" => stage);
    }
    for status in ["succeeded", "failed", "canceled", "expired"] {
        metrics::counter!("comfyui_api_v2_jobs_total", "status" => status).increment(0);
    }
    metrics::counter!("comfyui_api_v2_lost_attempts_total").increment(0);
    metrics::gauge!("comfyui_api_v2_streams").set(0.0);
    store_size(0);
    metrics::gauge!("comfyui_api_prompts_in_flight").set(0.0);
    for outcome in ["success", "failure"] {
        for backend in ["http", "s3", "azure", "huggingface", "git"] {
            metrics::counter!("comfyui_api_downloads_total", "backend" => backend, "outcome" => outcome).increment(0);
            metrics::counter!("comfyui_api_download_bytes_total", "backend" => backend)
                .increment(0);
        }
        for backend in ["http", "s3", "azure", "huggingface"] {
            metrics::counter!("comfyui_api_uploads_total", "backend" => backend, "outcome" => outcome).increment(0);
            metrics::counter!("comfyui_api_upload_bytes_total", "backend" => backend).increment(0);
        }
        for kind in WEBHOOK_KINDS {
            metrics::counter!("comfyui_api_webhook_attempts_total", "kind" => *kind, "outcome" => outcome).increment(0);
        }
        metrics::counter!("comfyui_api_amqp_published_total", "outcome" => outcome).increment(0);
    }
    for kind in WEBHOOK_KINDS {
        for fate in ["delivered", "failed", "gone", "spooled"] {
            metrics::counter!("comfyui_api_webhooks_total", "kind" => *kind, "outcome" => fate)
                .increment(0);
        }
    }
    cache_size(0);
    for outcome in ["hit", "miss"] {
        metrics::counter!("comfyui_api_cache_lookups_total", "outcome" => outcome).increment(0);
    }
    metrics::counter!("comfyui_api_cache_evictions_total").increment(0);
    metrics::counter!("comfyui_api_cache_evicted_bytes_total").increment(0);
    for target in ["webhook", "amqp"] {
        metrics::counter!("comfyui_api_events_dropped_total", "target" => target, "event" => "progress").increment(0);
    }
    amqp_connected(false);
    for outcome in ["ack", "requeue", "reject"] {
        metrics::counter!("comfyui_api_amqp_tasks_total", "outcome" => outcome).increment(0);
    }
    for signal in ["traces", "metrics"] {
        otel_dropped(signal, 0);
    }
    process();
}

/// A recorded job has ended.
pub fn job_ended(status: &'static str) {
    metrics::counter!("comfyui_api_v2_jobs_total", "status" => status).increment(1);
}

/// An attempt at a recorded job was lost.
pub fn attempt_lost() {
    metrics::counter!("comfyui_api_v2_lost_attempts_total").increment(1);
}

/// So many event streams of the Comfy API v2 more, or fewer.
pub fn streams(change: i8) {
    metrics::gauge!("comfyui_api_v2_streams").increment(f64::from(change));
}

/// Bytes of the store.
#[expect(clippy::cast_precision_loss, reason = "exact up to 8 PiB")]
pub fn store_size(bytes: u64) {
    metrics::gauge!("comfyui_api_v2_store_bytes").set(bytes as f64);
}

/// How many ComfyUI there are: with several, what is ComfyUI's has the label `comfyui`.
pub fn comfyuis(count: usize) {
    for index in 0..count {
        let label = (count > 1).then_some(index);
        for name in [
            "comfyui_api_gpu_faults_total",
            "comfyui_api_websocket_reconnects_total",
            "comfyui_api_comfyui_restarts_total",
        ] {
            metrics::counter!(name, of(label)).increment(0);
        }
        queue(0, [(label, 0)]);
        comfyui_up(label, false);
    }
}

/// The label of one of several ComfyUI. `instance` is Prometheus's own.
fn of(comfyui: Option<usize>) -> Vec<metrics::Label> {
    let label = |index: usize| metrics::Label::new("comfyui", index.to_string());
    comfyui.map(label).into_iter().collect()
}

/// The help texts.
fn describe() {
    metrics::describe_counter!(
        "comfyui_api_prompts_total",
        "Prompts that ended, by status and by the transport they came through"
    );
    metrics::describe_counter!(
        "comfyui_api_v2_jobs_total",
        "Recorded jobs that ended, by the status that clients of the Comfy API v2 see"
    );
    metrics::describe_counter!(
        "comfyui_api_v2_lost_attempts_total",
        "Attempts at recorded jobs that were lost with ComfyUI, or thrown out of its queue"
    );
    metrics::describe_gauge!(
        "comfyui_api_v2_streams",
        "Event streams of the Comfy API v2 that are open"
    );
    metrics::describe_gauge!(
        "comfyui_api_v2_store_bytes",
        "Size of the store of jobs and assets, database included"
    );
    metrics::describe_counter!(
        "comfyui_api_gpu_faults_total",
        "Errors of nodes after which the GPU cannot be used any more by the same ComfyUI"
    );
    metrics::describe_histogram!(
        "comfyui_api_stage_duration_seconds",
        "How long each stage of a prompt took"
    );
    metrics::describe_gauge!(
        "comfyui_api_prompts_in_flight",
        "Prompts in flight in this process"
    );
    metrics::describe_gauge!(
        "comfyui_api_comfyui_queue_depth",
        "Length of ComfyUI's own queue, the running prompt included"
    );
    metrics::describe_counter!(
        "comfyui_api_downloads_total",
        "Downloads that ended, by backend and outcome"
    );
    metrics::describe_counter!(
        "comfyui_api_download_bytes_total",
        "Bytes downloaded, by backend"
    );
    metrics::describe_counter!(
        "comfyui_api_uploads_total",
        "Uploads that ended, by backend and outcome"
    );
    metrics::describe_counter!(
        "comfyui_api_upload_bytes_total",
        "Bytes uploaded, by backend"
    );
    metrics::describe_gauge!("comfyui_api_cache_size_bytes", "Size of the download cache");
    metrics::describe_counter!(
        "comfyui_api_cache_lookups_total",
        "Looks into the download cache"
    );
    metrics::describe_counter!(
        "comfyui_api_cache_evictions_total",
        "Files that left the cache to make room"
    );
    metrics::describe_counter!(
        "comfyui_api_cache_evicted_bytes_total",
        "Bytes that left the cache to make room"
    );
    metrics::describe_counter!(
        "comfyui_api_webhook_attempts_total",
        "Attempts to deliver webhooks"
    );
    metrics::describe_counter!("comfyui_api_webhooks_total", "Fates of webhooks");
    metrics::describe_counter!(
        "comfyui_api_events_dropped_total",
        "System events dropped because their receiver is slow"
    );
    metrics::describe_gauge!(
        "comfyui_api_gateway_waiting",
        "Messages that wait in a queue of the gateway"
    );
    metrics::describe_gauge!(
        "comfyui_api_gateway_consumers",
        "Instances that take tasks from a queue of the gateway"
    );
    metrics::describe_gauge!(
        "comfyui_api_gateway_oldest_age_seconds",
        "How long the gateway's oldest job has waited in a queue"
    );
    metrics::describe_counter!(
        "comfyui_api_gateway_tasks_total",
        "Jobs of the gateway by queue and outcome"
    );
    metrics::describe_counter!(
        "comfyui_api_gateway_file_bytes_total",
        "Bytes of outputs that instances have put to the gateway"
    );
    metrics::describe_gauge!(
        "comfyui_api_amqp_connected",
        "1 while the broker connection stands"
    );
    metrics::describe_counter!(
        "comfyui_api_amqp_tasks_total",
        "Tasks from the queue, by how they were answered"
    );
    metrics::describe_counter!(
        "comfyui_api_amqp_published_total",
        "Messages published to the broker"
    );
    metrics::describe_counter!(
        "comfyui_api_websocket_reconnects_total",
        "Times the websocket to ComfyUI was made anew"
    );
    metrics::describe_counter!(
        "comfyui_api_comfyui_restarts_total",
        "Times ComfyUI was started again"
    );
    metrics::describe_gauge!("comfyui_api_comfyui_up", "1 while ComfyUI answers");
    metrics::describe_counter!(
        "comfyui_api_otel_dropped_total",
        "Spans and data points of metrics that the OpenTelemetry collector did not get"
    );
    metrics::describe_gauge!(
        "comfyui_api_process_resident_memory_bytes",
        "Resident memory of this process"
    );
    metrics::describe_gauge!(
        "comfyui_api_process_open_fds",
        "Open file descriptors of this process"
    );
}

const WEBHOOK_KINDS: &[&str] = &["v2", "legacy", "system"];

/// The Prometheus text of everything recorded, or nothing before [`install`].
pub fn render() -> String {
    HANDLE
        .get()
        .map(|handle| {
            handle.run_upkeep();
            handle.render()
        })
        .unwrap_or_default()
}

/// A prompt reached its end. `status` is `succeeded`, `failed` or `interrupted`; `source` is `http`, `amqp`, `workflow` or `warmup`.
pub fn prompt_ended(status: &'static str, source: &'static str) {
    metrics::counter!("comfyui_api_prompts_total", "status" => status, "source" => source)
        .increment(1);
}

/// How long one stage of a prompt took.
pub fn stage(stage: &'static str, took: Duration) {
    metrics::histogram!("comfyui_api_stage_duration_seconds", "stage" => stage)
        .record(took.as_secs_f64());
    // Samples pile up until somebody asks for metrics, and perhaps nobody ever does.
    if RECORDED.fetch_add(1, Ordering::Relaxed) % UPKEEP_EVERY == UPKEEP_EVERY - 1
        && let Some(handle) = HANDLE.get()
    {
        handle.run_upkeep();
    }
}

/// Prompts in flight here, and the length of each ComfyUI's own queue.
pub fn queue(in_flight: usize, comfyui_queues: impl IntoIterator<Item = (Option<usize>, u64)>) {
    metrics::gauge!("comfyui_api_prompts_in_flight").set(in_flight as f64);
    for (comfyui, length) in comfyui_queues {
        metrics::gauge!("comfyui_api_comfyui_queue_depth", of(comfyui)).set(length as f64);
    }
}

/// A download ended. `backend` is `http`, `s3`, `azure`, `huggingface` or `git`.
pub fn download(backend: &'static str, ok: bool, bytes: u64) {
    metrics::counter!("comfyui_api_downloads_total", "backend" => backend, "outcome" => outcome(ok)).increment(1);
    metrics::counter!("comfyui_api_download_bytes_total", "backend" => backend).increment(bytes);
}

/// An upload ended.
pub fn upload(backend: &'static str, ok: bool, bytes: u64) {
    metrics::counter!("comfyui_api_uploads_total", "backend" => backend, "outcome" => outcome(ok))
        .increment(1);
    metrics::counter!("comfyui_api_upload_bytes_total", "backend" => backend).increment(bytes);
}

/// The cache's size in bytes.
pub fn cache_size(bytes: u64) {
    metrics::gauge!("comfyui_api_cache_size_bytes").set(bytes as f64);
}

/// A look into the cache.
pub fn cache_lookup(hit: bool) {
    metrics::counter!("comfyui_api_cache_lookups_total", "outcome" => if hit { "hit" } else { "miss" }).increment(1);
}

/// A file left the cache to make room.
pub fn cache_eviction(bytes: u64) {
    metrics::counter!("comfyui_api_cache_evictions_total").increment(1);
    metrics::counter!("comfyui_api_cache_evicted_bytes_total").increment(bytes);
}

/// One attempt to deliver a webhook. `kind` is `v2`, `legacy` or `system`.
pub fn webhook_attempt(kind: &'static str, ok: bool) {
    metrics::counter!("comfyui_api_webhook_attempts_total", "kind" => kind, "outcome" => outcome(ok)).increment(1);
}

/// The final fate of a webhook: `delivered`, `failed`, `gone` or `spooled`.
pub fn webhook_outcome(kind: &'static str, fate: &'static str) {
    metrics::counter!("comfyui_api_webhooks_total", "kind" => kind, "outcome" => fate).increment(1);
}

/// System events that were dropped because their receiver is slow.
pub fn event_dropped(target: &'static str, name: &str) {
    metrics::counter!("comfyui_api_events_dropped_total", "target" => target, "event" => name.to_owned()).increment(1);
}

/// Whether the broker connection stands.
pub fn amqp_connected(connected: bool) {
    metrics::gauge!("comfyui_api_amqp_connected").set(f64::from(u8::from(connected)));
}

/// A task was answered: `ack`, `requeue` or `reject`.
pub fn amqp_task(outcome: &'static str) {
    metrics::counter!("comfyui_api_amqp_tasks_total", "outcome" => outcome).increment(1);
}

/// A message was published, or could not be.
pub fn amqp_published(ok: bool) {
    metrics::counter!("comfyui_api_amqp_published_total", "outcome" => outcome(ok)).increment(1);
}

/// A queue of a gateway: messages that wait, instances that take them, the age of our oldest in milliseconds.
pub fn gateway_queue(queue: &str, waiting: u32, consumers: u32, oldest_ms: u64) {
    let queue = queue.to_owned();
    metrics::gauge!("comfyui_api_gateway_waiting", "queue" => queue.clone())
        .set(f64::from(waiting));
    metrics::gauge!("comfyui_api_gateway_consumers", "queue" => queue.clone())
        .set(f64::from(consumers));
    metrics::gauge!("comfyui_api_gateway_oldest_age_seconds", "queue" => queue)
        .set(oldest_ms as f64 / 1000.0);
}

/// A job of a gateway has ended: `succeeded`, `failed` or `canceled`.
pub fn gateway_task(queue: &str, outcome: &'static str) {
    metrics::counter!("comfyui_api_gateway_tasks_total", "queue" => queue.to_owned(), "outcome" => outcome)
        .increment(1);
}

/// An output was put here.
pub fn gateway_file_bytes(bytes: u64) {
    metrics::counter!("comfyui_api_gateway_file_bytes_total").increment(bytes);
}

/// The websocket to ComfyUI was made anew.
pub fn websocket_reconnected(comfyui: Option<usize>) {
    metrics::counter!("comfyui_api_websocket_reconnects_total", of(comfyui)).increment(1);
}

/// An error of a node showed that the GPU is lost.
pub fn gpu_fault(comfyui: Option<usize>) {
    metrics::counter!("comfyui_api_gpu_faults_total", of(comfyui)).increment(1);
}

/// ComfyUI was started again.
pub fn comfyui_restarted(comfyui: Option<usize>) {
    metrics::counter!("comfyui_api_comfyui_restarts_total", of(comfyui)).increment(1);
}

/// Whether ComfyUI answers.
pub fn comfyui_up(comfyui: Option<usize>, up: bool) {
    metrics::gauge!("comfyui_api_comfyui_up", of(comfyui)).set(f64::from(u8::from(up)));
}

/// Spans (`traces`) or data points (`metrics`) that did not get to the collector.
pub fn otel_dropped(signal: &'static str, count: u64) {
    metrics::counter!("comfyui_api_otel_dropped_total", "signal" => signal).increment(count);
}

/// Resident memory of this process in bytes, and its open file descriptors; read when metrics are asked for.
pub fn process() {
    if let Ok(statm) = std::fs::read_to_string("/proc/self/statm")
        && let Some(pages) = statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok())
    {
        metrics::gauge!("comfyui_api_process_resident_memory_bytes").set((pages * 4096) as f64);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        metrics::gauge!("comfyui_api_process_open_fds").set(entries.count() as f64);
    }
}

const fn outcome(ok: bool) -> &'static str {
    if ok { "success" } else { "failure" }
}
