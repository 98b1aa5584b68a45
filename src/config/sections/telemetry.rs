//! OpenTelemetry: the standard variables, with their standard meaning, but for one: without an endpoint nothing is sent.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::webhook::SALAD_VARIABLES;
use crate::config::{Reader, Secret};
use crate::telemetry::trace::{SAMPLERS, Sampler, Strategy};

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
        let disabled = r.bool_or("OTEL_SDK_DISABLED", false);
        let base = r.url("OTEL_EXPORTER_OTLP_ENDPOINT", &["http", "https"]);
        let headers = read_headers(r, "OTEL_EXPORTER_OTLP_HEADERS");
        read_protocol(r);
        let timeout = r.milliseconds("OTEL_EXPORTER_OTLP_TIMEOUT", 10_000, 1);
        let gzip = r.one_of("OTEL_EXPORTER_OTLP_COMPRESSION", "none", &["none", "gzip"]) == "gzip";
        let words = ["otlp", "none"];
        let mut signal = |name: &str, path: &str| {
            let own = r.url(
                &format!("OTEL_EXPORTER_OTLP_{name}_ENDPOINT"),
                &["http", "https"],
            );
            let own_headers = read_headers(r, &format!("OTEL_EXPORTER_OTLP_{name}_HEADERS"));
            let url = own.or_else(|| base.as_ref().map(|base| below(base, path)))?;
            (!disabled).then(|| OtlpConfig {
                url,
                headers: own_headers.or_else(|| headers.clone()).unwrap_or_default(),
                timeout,
                gzip,
            })
        };
        let traces = signal("TRACES", "v1/traces");
        let metrics = signal("METRICS", "v1/metrics");
        let wants_traces = r.one_of("OTEL_TRACES_EXPORTER", "otlp", &words) == "otlp";
        let wants_metrics = r.one_of("OTEL_METRICS_EXPORTER", "none", &words) == "otlp";
        let queue = r.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048, 1, 1_000_000, "spans");
        let (sampler, remote) = read_sampler(r);
        let batch = r.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1, 1_000_000, "spans");
        Self {
            traces: traces.filter(|_| wants_traces),
            metrics: metrics.filter(|_| wants_metrics),
            sampler,
            remote,
            queue,
            batch: batch.min(queue),
            delay: r.milliseconds("OTEL_BSP_SCHEDULE_DELAY", 5_000, 0),
            interval: r.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60_000, 1),
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
    let name = "OTEL_EXPORTER_OTLP_PROTOCOL";
    if let Some(value) = r.text(name).filter(|value| value != "http/protobuf") {
        let shown: String = value.chars().take(100).collect();
        r.problem(format!(
            "{name}=\"{shown}\" is not supported: use http/protobuf (port 4318 of most collectors), the only protocol that is spoken"
        ));
    }
}

fn read_sampler(r: &mut Reader) -> (Sampler, Option<RemoteSampler>) {
    let name = r.one_of("OTEL_TRACES_SAMPLER", "parentbased_always_on", SAMPLERS);
    let ratio = if name.ends_with("traceidratio") {
        r.number(
            "OTEL_TRACES_SAMPLER_ARG",
            1.0,
            0.0,
            1.0,
            "a share of all traces",
        )
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
            "OTEL_TRACES_SAMPLER=\"xray\" needs rules of AWS X-Ray, which are not spoken: parentbased_always_on is used instead",
        );
    }
    let sampler = Sampler::named(&name, ratio).unwrap_or(Sampler::ALWAYS);
    (sampler, None)
}

/// `endpoint=...,pollingIntervalMs=...,initialSamplingRate=...`; each may be left out.
fn read_remote(r: &mut Reader) -> Option<RemoteSampler> {
    let name = "OTEL_TRACES_SAMPLER_ARG";
    let text = r.text(name).unwrap_or_default();
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
            "{name} is not what jaeger_remote takes: write endpoint=http://localhost:14250,pollingIntervalMs=60000,initialSamplingRate=0.001, or some of these"
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
fn read_headers(r: &mut Reader, name: &str) -> Option<Vec<(HeaderName, Secret)>> {
    let text = r.text(name)?;
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
                "{name}: member {} is not a header: write name=value, percent-encoded, separated by commas",
                at + 1
            )),
        }
    }
    Some(headers)
}

/// What an operator names wins over what is found.
fn read_resource(r: &mut Reader) -> Vec<(String, String)> {
    let instance = r
        .text("INSTANCE_ID")
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
        .filter_map(|name| Some((*name, r.text(name)?)));
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
    if let Some(name) = r.text("OTEL_SERVICE_NAME") {
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
    let name = "OTEL_RESOURCE_ATTRIBUTES";
    let Some(text) = r.text(name) else {
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

impl Reader<'_> {
    fn milliseconds(&mut self, name: &str, default: u64, min: u64) -> Duration {
        Duration::from_millis(self.number(name, default, min, LONGEST_MS, "milliseconds"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (TelemetryConfig, Vec<String>) {
        let env: BTreeMap<String, String> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut reader = Reader::new(&env);
        let config = TelemetryConfig::read(&mut reader);
        (config, reader.into_findings().0)
    }

    #[test]
    fn without_an_endpoint_it_is_off() {
        let (config, problems) = read(&[("OTEL_METRICS_EXPORTER", "otlp")]);
        assert!(config.traces.is_none() && config.metrics.is_none() && problems.is_empty());
    }

    #[test]
    fn addresses_are_made_as_the_standard_says() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/otlp/");
        let (config, _) = read(&[base, ("OTEL_METRICS_EXPORTER", "otlp")]);
        assert_eq!(
            config.traces.unwrap().url.as_str(),
            "http://collector:4318/otlp/v1/traces"
        );
        assert_eq!(
            config.metrics.unwrap().url.as_str(),
            "http://collector:4318/otlp/v1/metrics"
        );
        let own = (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "https://other/as/it/is",
        );
        let (config, _) = read(&[base, own]);
        assert_eq!(
            config.traces.unwrap().url.as_str(),
            "https://other/as/it/is"
        );
        assert!(config.metrics.is_none(), "metrics are not asked for");
        for off in [
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ] {
            assert!(read(&[base, off]).0.traces.is_none());
        }
    }

    #[test]
    fn headers_are_decoded_and_a_signals_own_win() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        let all = ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b, other = c%3D");
        let (config, problems) = read(&[base, all]);
        assert!(problems.is_empty());
        let headers = config.traces.unwrap().headers;
        assert_eq!(headers[0].0.as_str(), "x-key");
        assert_eq!(headers[0].1.expose(), "a b");
        assert_eq!(headers[1].1.expose(), "c=");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x=1");
        assert_eq!(read(&[base, all, own]).0.traces.unwrap().headers.len(), 1);
        let (_, problems) = read(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=b,planted")]);
        assert!(problems.len() == 1 && !problems[0].contains("planted"));
    }

    #[test]
    fn what_cannot_be_done_is_a_problem() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_METRICS_EXPORTER", "prometheus"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
            ("OTEL_RESOURCE_ATTRIBUTES", "novalue"),
            ("OTEL_SDK_DISABLED", "maybe"),
        ] {
            let (_, problems) = read(&[(name, value)]);
            assert!(
                problems.len() == 1 && problems[0].contains(name),
                "{name}: {problems:?}"
            );
        }
        let ratio = [
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ];
        assert_eq!(read(&ratio).1.len(), 1);
        for odd in [
            "0.5",
            "endpoint=collector",
            "pollingIntervalMs=0",
            "initialSamplingRate=2",
            "endpoint=http://c:1,other=1",
        ] {
            let remote = [
                ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
                ("OTEL_TRACES_SAMPLER_ARG", odd),
            ];
            let (config, problems) = read(&remote);
            assert!(config.remote.is_none() && problems.len() == 1, "{odd}");
        }
    }

    #[test]
    fn samplers_of_others_are_asked_or_named() {
        let remote = [
            ("OTEL_TRACES_SAMPLER", "parentbased_jaeger_remote"),
            (
                "OTEL_TRACES_SAMPLER_ARG",
                "endpoint=http://c:14250, pollingIntervalMs=5000,initialSamplingRate=0.25",
            ),
        ];
        let (config, problems) = read(&remote);
        assert!(problems.is_empty(), "{problems:?}");
        let found = config.remote.unwrap();
        assert_eq!(found.endpoint.as_str(), "http://c:14250/");
        assert_eq!(found.interval, Duration::from_secs(5));
        let found = read(&remote[..1]).0.remote.unwrap();
        assert_eq!(found.endpoint.as_str(), "http://localhost:14250/");
        let (config, problems) = read(&[("OTEL_TRACES_SAMPLER", "xray")]);
        assert!(config.remote.is_none() && problems.is_empty());
    }

    #[test]
    fn the_resource_says_who_we_are() {
        let (config, _) = read(&[
            ("INSTANCE_ID", "gpu-7"),
            ("SYSTEM_META_region", "eu"),
            ("SALAD_MACHINE_ID", "m-1"),
            ("OTEL_RESOURCE_ATTRIBUTES", "team=art%2C3d,service.name=a"),
            ("OTEL_SERVICE_NAME", "b"),
        ]);
        let value = |name: &str| {
            let found = config.resource.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("service.name"), Some("b"));
        assert_eq!(value("service.instance.id"), Some("gpu-7"));
        assert_eq!(value("service.version"), Some(crate::VERSION));
        assert_eq!(value("comfyui.meta.region"), Some("eu"));
        assert_eq!(value("cloud.provider"), Some("salad"));
        assert_eq!(value("salad.machine.id"), Some("m-1"));
        assert_eq!(value("team"), Some("art,3d"));
        assert!(value("host.name").is_some());
    }
}
