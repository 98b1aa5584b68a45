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
