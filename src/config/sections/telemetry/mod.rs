//! OpenTelemetry: the standard variables, with their standard meaning, but for one: without an
//! endpoint nothing is sent.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::webhook::SALAD_VARIABLES;
use crate::config::variables::Variable;
use crate::config::variables::amqp::INSTANCE_ID;
use crate::config::variables::otel::*;
use crate::config::{Reader, Secret};
use crate::telemetry::trace::{Sampler, Strategy};

/// Longest of all times: a day, in milliseconds.
const LONGEST_MS: u64 = 86_400_000;

/// What is sent, and where to.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// Spans; `None` is off.
    pub traces: Option<OtlpConfig>,
    /// Metrics; `None` is off.
    pub metrics: Option<OtlpConfig>,
    /// `OTEL_TRACES_SAMPLER` and its argument.
    pub sampler: Sampler,
    /// Whoever decides for it, if somebody else does.
    pub remote: Option<RemoteSampler>,
    /// `OTEL_BSP_MAX_QUEUE_SIZE`: spans that may wait.
    pub queue: usize,
    /// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`: spans of a request.
    pub batch: usize,
    /// `OTEL_BSP_SCHEDULE_DELAY`: longest wait of a span.
    pub delay: Duration,
    /// `OTEL_METRIC_EXPORT_INTERVAL`.
    pub interval: Duration,
    /// Who we are: names and values.
    pub resource: Vec<(String, String)>,
}

/// One signal's way out.
#[derive(Debug, Clone)]
pub struct OtlpConfig {
    /// The whole address.
    pub url: Url,
    /// Sent with every request.
    pub headers: Vec<(HeaderName, Secret)>,
    /// Of a request with all its repetitions.
    pub timeout: Duration,
    /// Bodies are compressed.
    pub gzip: bool,
}

/// The Jaeger collector that says which traces are recorded.
#[derive(Debug, Clone)]
pub struct RemoteSampler {
    /// Of its gRPC service.
    pub endpoint: Url,
    /// How often it is asked.
    pub interval: Duration,
    /// What it has said.
    pub strategy: Arc<Strategy>,
}

impl TelemetryConfig {
    /// The name under which everything is sent.
    pub fn service(&self) -> &str {
        let mut resource = self.resource.iter();
        let name = resource.find(|(name, _)| name == "service.name");
        name.map_or("comfyui-api", |(_, value)| value)
    }

    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let disabled = r.flag(&OTEL_SDK_DISABLED);
        let base = r.url(&OTEL_EXPORTER_OTLP_ENDPOINT);
        let headers = read_headers(r, &OTEL_EXPORTER_OTLP_HEADERS);
        read_protocol(r);
        let timeout = r.milliseconds(&OTEL_EXPORTER_OTLP_TIMEOUT);
        let gzip = r.one_of(&OTEL_EXPORTER_OTLP_COMPRESSION) == "gzip";
        let mut signal = |endpoint: &Variable, headers_of_it: &Variable, path: &str| {
            let own = r.url(endpoint);
            let own_headers = read_headers(r, headers_of_it);
            let url = own.or_else(|| base.as_ref().map(|base| below(base, path)))?;
            (!disabled).then(|| OtlpConfig {
                url,
                headers: own_headers.or_else(|| headers.clone()).unwrap_or_default(),
                timeout,
                gzip,
            })
        };
        let traces = signal(
            &OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
            &OTEL_EXPORTER_OTLP_TRACES_HEADERS,
            "v1/traces",
        );
        let metrics = signal(
            &OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
            &OTEL_EXPORTER_OTLP_METRICS_HEADERS,
            "v1/metrics",
        );
        let wants_traces = r.one_of(&OTEL_TRACES_EXPORTER) == "otlp";
        let wants_metrics = r.one_of(&OTEL_METRICS_EXPORTER) == "otlp";
        let queue = r.number(&OTEL_BSP_MAX_QUEUE_SIZE);
        let (sampler, remote) = read_sampler(r);
        let batch: usize = r.number(&OTEL_BSP_MAX_EXPORT_BATCH_SIZE);
        Self {
            traces: traces.filter(|_| wants_traces),
            metrics: metrics.filter(|_| wants_metrics),
            sampler,
            remote,
            queue,
            batch: batch.min(queue),
            delay: r.milliseconds(&OTEL_BSP_SCHEDULE_DELAY),
            interval: r.milliseconds(&OTEL_METRIC_EXPORT_INTERVAL),
            resource: read_resource(r),
        }
    }
}

/// A signal's address below the base, which may have a path itself.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

fn read_protocol(r: &mut Reader) {
    let name = OTEL_EXPORTER_OTLP_PROTOCOL.name;
    if let Some(value) = r
        .text(&OTEL_EXPORTER_OTLP_PROTOCOL)
        .filter(|value| value != "http/protobuf")
    {
        let shown: String = value.chars().take(100).collect();
        r.problem(format!(
            "{name}=\"{shown}\" is not supported: use http/protobuf (port 4318 of most \
             collectors), the only protocol that is spoken"
        ));
    }
}

fn read_sampler(r: &mut Reader) -> (Sampler, Option<RemoteSampler>) {
    let name = r.one_of(&OTEL_TRACES_SAMPLER);
    let ratio = if name.ends_with("traceidratio") {
        r.number(&OTEL_TRACES_SAMPLER_ARG)
    } else {
        1.0
    };
    if name.ends_with("jaeger_remote")
        && let Some(remote) = read_remote(r)
    {
        let parent_based = name.starts_with("parentbased_");
        let sampler = Sampler::remote(remote.strategy.clone(), parent_based);
        return (sampler, Some(remote));
    }
    if name == "xray" {
        r.warning(
            "OTEL_TRACES_SAMPLER=\"xray\" needs rules of AWS X-Ray, which are not spoken: \
             parentbased_always_on is used instead",
        );
    }
    let sampler = Sampler::named(&name, ratio).unwrap_or(Sampler::ALWAYS);
    (sampler, None)
}

/// `endpoint=...,pollingIntervalMs=...,initialSamplingRate=...`; each may be left out.
fn read_remote(r: &mut Reader) -> Option<RemoteSampler> {
    let name = OTEL_TRACES_SAMPLER_ARG.name;
    let text = r.text(&OTEL_TRACES_SAMPLER_ARG).unwrap_or_default();
    let mut endpoint = Url::parse("http://localhost:14250").ok();
    let (mut interval, mut share) = (Some(60_000), Some(0.001));
    let mut known = true;
    for member in text.split(',').map(str::trim) {
        match member.split_once('=') {
            Some(("endpoint", value)) => {
                endpoint = Url::parse(value)
                    .ok()
                    .filter(|url| matches!(url.scheme(), "http" | "https"));
            }
            Some(("pollingIntervalMs", value)) => interval = value.parse().ok(),
            Some(("initialSamplingRate", value)) => share = value.parse().ok(),
            _ => known &= member.is_empty(),
        }
    }
    let interval = interval.filter(|ms| (1..=LONGEST_MS).contains(ms));
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    let (Some(endpoint), Some(interval), Some(share), true) = (endpoint, interval, share, known)
    else {
        r.problem(format!(
            "{name} is not what jaeger_remote takes: write \
             endpoint=http://localhost:14250,pollingIntervalMs=60000,initialSamplingRate=0.001, or \
             some of these"
        ));
        return None;
    };
    Some(RemoteSampler {
        endpoint,
        interval: Duration::from_millis(interval),
        strategy: Arc::new(Strategy::new(share)),
    })
}

/// `name=value,...`, percent-encoded. What is wrong is told without the values.
fn read_headers(r: &mut Reader, variable: &Variable) -> Option<Vec<(HeaderName, Secret)>> {
    let name = variable.name;
    let text = r.text(variable)?;
    let mut headers = Vec::new();
    let members = text.split(',').map(str::trim).enumerate();
    for (at, member) in members.filter(|(_, member)| !member.is_empty()) {
        let pair = member.split_once('=').and_then(|(key, value)| {
            let key = HeaderName::try_from(key.trim()).ok()?;
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            HeaderValue::try_from(&*value).ok()?;
            Some((key, Secret::new(value)))
        });
        match pair {
            Some(pair) => headers.push(pair),
            None => r.problem(format!(
                "{name}: member {} is not a header: write name=value, percent-encoded, separated \
                 by commas",
                at + 1
            )),
        }
    }
    Some(headers)
}

/// What an operator names wins over what is found.
fn read_resource(r: &mut Reader) -> Vec<(String, String)> {
    let instance = r
        .text(&INSTANCE_ID)
        .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let mut found = vec![
        ("service.name".to_owned(), "comfyui-api".to_owned()),
        ("service.version".to_owned(), crate::VERSION.to_owned()),
        ("service.instance.id".to_owned(), instance),
    ];
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        found.push(("host.name".to_owned(), host.trim().to_owned()));
    }
    for (name, value) in r.all() {
        if let Some(key) = name
            .strip_prefix("SYSTEM_META_")
            .filter(|key| !key.is_empty())
        {
            found.push((format!("comfyui.meta.{key}"), value));
        }
    }
    let salad = SALAD_VARIABLES
        .iter()
        .filter_map(|name| Some((*name, r.foreign(name)?)));
    let salad: Vec<_> = salad.collect();
    if !salad.is_empty() {
        found.push(("cloud.provider".to_owned(), "salad".to_owned()));
    }
    for (name, value) in salad {
        // SALAD_MACHINE_ID is salad.machine.id.
        found.push((name.to_ascii_lowercase().replace('_', "."), value));
    }
    for (key, value) in read_attributes(r) {
        put(&mut found, key, value);
    }
    if let Some(name) = r.text(&OTEL_SERVICE_NAME) {
        put(&mut found, "service.name".to_owned(), name);
    }
    found
}

fn put(found: &mut Vec<(String, String)>, key: String, value: String) {
    match found.iter_mut().find(|(known, _)| *known == key) {
        Some((_, old)) => *old = value,
        None => found.push((key, value)),
    }
}

fn read_attributes(r: &mut Reader) -> Vec<(String, String)> {
    let name = OTEL_RESOURCE_ATTRIBUTES.name;
    let Some(text) = r.text(&OTEL_RESOURCE_ATTRIBUTES) else {
        return Vec::new();
    };
    let decoded = |text: &str| {
        let text = percent_decode_str(text.trim()).decode_utf8().ok()?;
        Some(text.into_owned())
    };
    let mut attributes = Vec::new();
    for member in text
        .split(',')
        .map(str::trim)
        .filter(|member| !member.is_empty())
    {
        let pair = member
            .split_once('=')
            .and_then(|(key, value)| Some((decoded(key)?, decoded(value)?)))
            .filter(|(key, _)| !key.is_empty());
        match pair {
            Some(pair) => attributes.push(pair),
            None => r.problem(format!(
                "{name} is not a list of key=value, percent-encoded and separated by commas"
            )),
        }
    }
    attributes
}
