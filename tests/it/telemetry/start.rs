//! The variables at the start, and nothing at all without an endpoint.

use super::stage;
use crate::delivered::picture;
use crate::support::collector::Collector;
use crate::support::product::BINARY;

async fn check(variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = tokio::process::Command::new(BINARY)
        .arg("check")
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .envs(variables.iter().copied())
        .output()
        .await
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_checked_and_hidden() {
    let (_, text) = check(&[
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://me:planted@collector:4318/?key=planted",
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=planted"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=planted"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ])
    .await;
    assert!(!text.contains("planted"), "{text}");
    assert!(text.contains("OTEL_EXPORTER_OTLP_HEADERS = ***"), "{text}");
    assert!(
        text.contains("OTEL_EXPORTER_OTLP_PROTOCOL=\"grpc\" is not supported"),
        "{text}"
    );
    assert!(
        text.contains("OTEL_BSP_MAX_QUEUE_SIZE = 2048 (default)"),
        "{text}"
    );
    let mut product = stage().env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc").spawn();
    assert_eq!(product.ended().await.code(), Some(2));
    product.log.line("http/protobuf").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_off_without_an_endpoint_or_when_it_is_disabled() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    for variables in [
        vec![
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_METRICS_EXPORTER", "otlp"),
        ],
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_SDK_DISABLED", "true"),
        ],
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_TRACES_EXPORTER", "none"),
        ],
    ] {
        let mut product = stage().envs(&variables).start().await;
        product.run("x", &picture(1)).await;
        assert_eq!(product.stop().await, Some(0));
        assert_eq!(product.log.count("telemetry is sent"), 0);
        assert_eq!(product.log.count("trace_id"), 0);
    }
    assert!(collector.bytes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sampler_that_is_not_spoken_is_no_reason_not_to_start() {
    let collector = Collector::start().await;
    let mut product = collector
        .stage(stage())
        .env("OTEL_TRACES_SAMPLER", "xray")
        .start()
        .await;
    product.log.line("parentbased_always_on is used").await;
    product.run("x", &picture(1)).await;
    assert_eq!(product.stop().await, Some(0));
    assert!(!collector.spans().is_empty());
}
