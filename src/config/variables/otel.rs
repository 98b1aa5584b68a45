//! OpenTelemetry, by its standard names.

use super::*;
use crate::telemetry::trace::SAMPLERS;

const EXPORTERS: &[&str] = &["otlp", "none"];

variables! { "OpenTelemetry"
    OTEL_EXPORTER_OTLP_ENDPOINT = url(WEB), "",
        "base address of a collector (OTLP over HTTP); unset = nothing is sent";
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT = url(WEB), "",
        "whole address for traces";
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT = url(WEB), "",
        "whole address for metrics";
    OTEL_EXPORTER_OTLP_HEADERS = TEXT.hidden(), "",
        "headers of every request: name=value,...";
    OTEL_EXPORTER_OTLP_TRACES_HEADERS = TEXT.hidden(), "",
        "those for traces";
    OTEL_EXPORTER_OTLP_METRICS_HEADERS = TEXT.hidden(), "",
        "those for metrics";
    OTEL_EXPORTER_OTLP_PROTOCOL = TEXT, "http/protobuf",
        "there is no other";
    OTEL_EXPORTER_OTLP_TIMEOUT = milliseconds(1.0), "10000",
        "milliseconds for a request with its repetitions";
    OTEL_EXPORTER_OTLP_COMPRESSION = words(&["none", "gzip"]), "none",
        "none or gzip";
    OTEL_TRACES_EXPORTER = words(EXPORTERS), "otlp",
        "otlp or none";
    OTEL_METRICS_EXPORTER = words(EXPORTERS), "none",
        "otlp or none";
    OTEL_METRIC_EXPORT_INTERVAL = milliseconds(1.0), "60000",
        "milliseconds between two pushes of metrics";
    OTEL_SERVICE_NAME = TEXT, "comfyui-api",
        "service.name of everything that is sent";
    OTEL_RESOURCE_ATTRIBUTES = TEXT, "",
        "more about this server: key=value,...";
    OTEL_TRACES_SAMPLER = words(SAMPLERS), "parentbased_always_on",
        "which traces are recorded: always_on, always_off, traceidratio, jaeger_remote, or \
         parentbased_ and one of these; xray is not spoken and means the default";
    OTEL_TRACES_SAMPLER_ARG = number(0.0, 1.0, "a share of all traces"), "1",
        "the share of all traces for traceidratio, 0 to 1; for jaeger_remote \
         endpoint=...,pollingIntervalMs=...,initialSamplingRate=...";
    OTEL_BSP_MAX_QUEUE_SIZE = number(1.0, 1_000_000.0, "spans"), "2048",
        "spans that may wait; more are dropped and counted";
    OTEL_BSP_SCHEDULE_DELAY = milliseconds(0.0), "5000",
        "longest wait of a span, milliseconds";
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE = number(1.0, 1_000_000.0, "spans"), "512",
        "most spans of a request";
    OTEL_SDK_DISABLED = FLAG, "false",
        "true = off, whatever else is set";
}
