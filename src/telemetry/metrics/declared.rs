//! Every metric, declared once: kind, name, labels, help text. Names are `comfyui_api_*` with the
//! unit in the name.
//!
//! A new metric is a line here, and a function in [`super::record`] for whoever knows its value.

use metrics::{Label, SharedString};

/// What all kinds have in common.
pub(super) struct Family {
    name: &'static str,
    labels: &'static [&'static str],
}

impl Family {
    /// Values are in the order of the labels; labels without a value are left out.
    fn with(&self, values: impl IntoIterator<Item = SharedString>) -> Vec<Label> {
        let names = self.labels.iter();
        names
            .zip(values)
            .map(|(name, value)| Label::new(*name, value))
            .collect()
    }
}

/// What only rises.
pub(super) struct Counter(Family);

impl Counter {
    pub fn add(&self, labels: impl IntoIterator<Item = SharedString>, count: u64) {
        metrics::counter!(self.0.name, self.0.with(labels)).increment(count);
    }
}

/// What rises and falls.
pub(super) struct Gauge(Family);

impl Gauge {
    pub fn set(&self, labels: impl IntoIterator<Item = SharedString>, value: f64) {
        metrics::gauge!(self.0.name, self.0.with(labels)).set(value);
    }

    pub fn change(&self, by: f64) {
        metrics::gauge!(self.0.name).increment(by);
    }
}

/// What is counted into buckets.
pub(super) struct Histogram(Family);

impl Histogram {
    pub fn record(&self, labels: impl IntoIterator<Item = SharedString>, value: f64) {
        metrics::histogram!(self.0.name, self.0.with(labels)).record(value);
    }

    /// Shown from now on, though nothing was recorded.
    pub fn show(&self, labels: impl IntoIterator<Item = SharedString>) {
        let _ = metrics::histogram!(self.0.name, self.0.with(labels));
    }
}

macro_rules! metrics {
    ($($kind:ident $ident:ident $name:literal [$($label:ident),*] $help:literal;)*) => {
        $(
            pub(super) const $ident: metrics!(@type $kind) = metrics!(@type $kind)(Family {
                name: $name,
                labels: &[$(stringify!($label)),*],
            });
        )*

        /// The help texts.
        pub(super) fn describe() {
            $(metrics!(@describe $kind, $name, $help);)*
        }
    };
    (@type counter) => { Counter };
    (@type gauge) => { Gauge };
    (@type histogram) => { Histogram };
    (
        @describe counter,
        $name:literal,
        $help:literal
    ) => { metrics::describe_counter!($name, $help) };
    (@describe gauge, $name:literal, $help:literal) => { metrics::describe_gauge!($name, $help) };
    (
        @describe histogram,
        $name:literal,
        $help:literal
    ) => { metrics::describe_histogram!($name, $help) };
}

metrics! {
    counter PROMPTS "comfyui_api_prompts_total" [status, source]
        "Prompts that ended, by status and by the transport they came through";
    counter JOBS "comfyui_api_v2_jobs_total" [status]
        "Recorded jobs that ended, by the status that clients of the Comfy API v2 see";
    counter LOST_ATTEMPTS "comfyui_api_v2_lost_attempts_total" []
        "Attempts at recorded jobs that were lost with ComfyUI, or thrown out of its queue";
    gauge STREAMS "comfyui_api_v2_streams" []
        "Event streams of the Comfy API v2 that are open";
    gauge STORE_BYTES "comfyui_api_v2_store_bytes" []
        "Size of the store of jobs and assets, database included";
    counter GPU_FAULTS "comfyui_api_gpu_faults_total" [comfyui]
        "Errors of nodes after which the GPU cannot be used any more by the same ComfyUI";
    histogram STAGE_SECONDS "comfyui_api_stage_duration_seconds" [stage]
        "How long each stage of a prompt took";
    gauge PROMPTS_IN_FLIGHT "comfyui_api_prompts_in_flight" []
        "Prompts in flight in this process";
    gauge QUEUE_DEPTH "comfyui_api_comfyui_queue_depth" [comfyui]
        "Length of ComfyUI's own queue, the running prompt included";
    counter DOWNLOADS "comfyui_api_downloads_total" [backend, outcome]
        "Downloads that ended, by backend and outcome";
    counter DOWNLOAD_BYTES "comfyui_api_download_bytes_total" [backend]
        "Bytes downloaded, by backend";
    counter UPLOADS "comfyui_api_uploads_total" [backend, outcome]
        "Uploads that ended, by backend and outcome";
    counter UPLOAD_BYTES "comfyui_api_upload_bytes_total" [backend]
        "Bytes uploaded, by backend";
    gauge CACHE_BYTES "comfyui_api_cache_size_bytes" []
        "Size of the download cache";
    counter CACHE_LOOKUPS "comfyui_api_cache_lookups_total" [outcome]
        "Looks into the download cache";
    counter CACHE_EVICTIONS "comfyui_api_cache_evictions_total" []
        "Files that left the cache to make room";
    counter CACHE_EVICTED_BYTES "comfyui_api_cache_evicted_bytes_total" []
        "Bytes that left the cache to make room";
    counter WEBHOOK_ATTEMPTS "comfyui_api_webhook_attempts_total" [kind, outcome]
        "Attempts to deliver webhooks";
    counter WEBHOOKS "comfyui_api_webhooks_total" [kind, outcome]
        "Fates of webhooks";
    counter EVENTS_DROPPED "comfyui_api_events_dropped_total" [target, event]
        "System events dropped because their receiver is slow";
    gauge GATEWAY_WAITING "comfyui_api_gateway_waiting" [queue]
        "Messages that wait in a queue of the gateway";
    gauge GATEWAY_CONSUMERS "comfyui_api_gateway_consumers" [queue]
        "Instances that take tasks from a queue of the gateway";
    gauge GATEWAY_OLDEST_AGE_SECONDS "comfyui_api_gateway_oldest_age_seconds" [queue]
        "How long the gateway's oldest job has waited in a queue";
    counter GATEWAY_TASKS "comfyui_api_gateway_tasks_total" [queue, outcome]
        "Jobs of the gateway by queue and outcome";
    counter GATEWAY_FILE_BYTES "comfyui_api_gateway_file_bytes_total" []
        "Bytes of outputs that instances have put to the gateway";
    gauge AMQP_CONNECTED "comfyui_api_amqp_connected" []
        "1 while the broker connection stands";
    counter AMQP_TASKS "comfyui_api_amqp_tasks_total" [outcome]
        "Tasks from the queue, by how they were answered";
    counter AMQP_PUBLISHED "comfyui_api_amqp_published_total" [outcome]
        "Messages published to the broker";
    counter WEBSOCKET_RECONNECTS "comfyui_api_websocket_reconnects_total" [comfyui]
        "Times the websocket to ComfyUI was made anew";
    counter COMFYUI_RESTARTS "comfyui_api_comfyui_restarts_total" [comfyui]
        "Times ComfyUI was started again";
    gauge COMFYUI_UP "comfyui_api_comfyui_up" [comfyui]
        "1 while ComfyUI answers";
    counter OTEL_DROPPED "comfyui_api_otel_dropped_total" [signal]
        "Spans and data points of metrics that the OpenTelemetry collector did not get";
    gauge RESIDENT_MEMORY "comfyui_api_process_resident_memory_bytes" []
        "Resident memory of this process";
    gauge OPEN_FILES "comfyui_api_process_open_fds" []
        "Open file descriptors of this process";
}
